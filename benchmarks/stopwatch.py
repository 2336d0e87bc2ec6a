"""Measuring trainings side by side: a stopwatch for one pass, and the peers in turn."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor


@dataclass
class Pass:
    """One pass of one party over the training part, as it goes."""

    steps: int
    """Optimizer steps that it is to have."""
    device: torch.device
    valid: list[float | Tensor] = field(default_factory=list)
    """Tokens or audio seconds of each step without padding; tensors may be on the device."""
    padded: list[float] = field(default_factory=list)
    """The same with padding."""
    marks: list[tuple[float, float]] = field(default_factory=list)
    """Clock and CPU seconds of this process when the first step began and when each was over."""

    def saw(self, valid: float | Tensor, padded: float) -> None:
        """A step begins, with this batch. Timing starts with the first one's batch at hand, so that no
        party pays for opening data and all are timed over the same samples."""
        if not self.marks:
            self._mark(wait=True)
        self.valid.append(valid)
        self.padded.append(padded)

    def stepped(self) -> None:
        """A step is over: known at once on a CPU. A GPU is waited for only where timing begins and
        ends, as waiting at every step would cost a loop that need not wait."""
        self._mark(wait=len(self.marks) == self.steps)

    def _mark(self, wait: bool) -> None:
        if wait and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.marks.append((time.perf_counter(), time.process_time()))

    @property
    def useful(self) -> float:
        """Tokens or audio seconds of the whole pass, without padding."""
        return sum(map(float, self.valid))

    @property
    def padding(self) -> float:
        """Share of padding in the whole pass."""
        return 1 - self.useful / sum(self.padded)

    @property
    def rate(self) -> float:
        """Useful tokens or audio seconds a second."""
        return self.useful / (self.marks[-1][0] - self.marks[0][0])

    @property
    def thrift(self) -> float:
        """The same a CPU second of this process, of which other processes take little away."""
        return self.useful / (self.marks[-1][1] - self.marks[0][1])

    @property
    def host(self) -> float:
        """CPU seconds a step."""
        return (self.marks[-1][1] - self.marks[0][1]) / self.steps


@dataclass(frozen=True)
class Party:
    """One way to train, its model made, called once a pass."""

    name: str
    steps: int
    """Optimizer steps of a pass."""
    train: Callable[[Pass], None]
    """One pass over the training part; goes on with the weights of the last."""
    bound: str = ""
    """Name of the party that has the same batches ready in memory."""


def in_turn(parties: Sequence[Party], device: torch.device, repeats: int) -> dict[str, list[Pass]]:
    """``repeats`` passes of each party after one to warm up, which is not kept; every second round goes
    in reverse, so that what else the machine does hits all alike."""
    passes: dict[str, list[Pass]] = {party.name: [] for party in parties}
    for attempt in range(repeats + 1):
        for party in parties if attempt % 2 else reversed(parties):
            one = Pass(party.steps, device)
            party.train(one)
            assert len(one.marks) - 1 == len(one.valid) == party.steps, f"{party.name}: steps are missing"
            if attempt:
                passes[party.name].append(one)
    return passes


def hardware(device: torch.device) -> str:
    """What the figures were measured on, in a line."""
    cores = len(os.sched_getaffinity(0))
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else "CPU"
    return (
        f"{name}, {cores} CPU cores, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, "
        f"torch {torch.__version__}"
    )
