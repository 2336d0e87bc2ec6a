"""One global step: the gradients of all micro-batches and one update."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
import torch

from trainers.data import RunData
from trainers.engine import Engine
from trainers.task import Batch

_SEED_TAG = 20


@dataclass(frozen=True)
class StepValues:
    """What a rank has of a global step once the device is done with it."""

    loss: float = 0.0
    """Sum over this rank's items."""
    correct: float = 0.0
    """Of this rank's items."""
    gradient_norm: float = 0.0
    """Of the whole gradient, before clipping, the same on all ranks."""

    @property
    def broken(self) -> bool:
        """Whether the gradient was not finite; DeepSpeed says so by a norm of -1, too."""
        return not 0 <= self.gradient_norm < math.inf


@dataclass(frozen=True)
class StepResult:
    """One rank's part of a global step, its values perhaps still on their way from the device."""

    epoch: int
    step: int
    """Counted from 1 over all epochs."""
    rate: float
    items: float
    """Of the global step."""
    copied: HostCopy
    """(3,) the ``values``."""
    batches: list[Batch]
    seconds: float = 0.0
    """From its start to the next one's, reading and exchange included."""

    @property
    def values(self) -> StepValues:
        """Waits until they have arrived."""
        return StepValues(*self.copied.read())


class HostCopy:
    """A small device tensor on its way to the host."""

    def __init__(self, value: torch.Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if value.device.type == "cuda":
            self._value = torch.empty_like(value, device="cpu", pin_memory=True)
            self._value.copy_(value, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._value = value

    def read(self) -> list[float]:
        """The numbers, once they have arrived."""
        if self._event is not None:
            self._event.synchronize()
        return self._value.tolist()  # type: ignore[no-any-return]


def train_step(
    engine: Engine, data: RunData, batches: list[Batch], epoch: int, step: int, rate: float, items: float
) -> StepResult:
    """One global step: the loss of all ranks' micro-batches together is their mean over ``items``.

    ``step`` counts those done before, over all epochs.
    """
    engine.set_learning_rate(rate)
    micro_batches = data.recipe.batching.micro_batches
    values = torch.zeros(3, dtype=torch.float64, device=data.world.device)
    for batch in batches:
        seed_step(data.recipe.seed, epoch, step, batch.request.micro_batch)
        output = data.task.step(engine, batch, data.world.device)
        loss = output.losses.sum() * (1.0 if batch.request.counted else 0.0)
        # The engine averages over micro-batches; a short one must not weigh like a full one.
        engine.backward(loss * (micro_batches / items))
        if batch.request.counted:
            values[0] += loss.detach()
            values[1] += output.correct.sum()
    values[2] = engine.update()
    return StepResult(epoch, step + 1, rate, items, HostCopy(values), batches)


def seed_step(seed: int, epoch: int, step: int, micro_batch: int) -> None:
    """Seed everything that a forward pass may draw from, so that it does not depend on the rank, nor
    on what was drawn before: a resumed run draws the same."""
    words = np.random.SeedSequence([_SEED_TAG, seed, epoch, step, micro_batch]).generate_state(3)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002 - transformers' masking draws from it
    random.seed(int(words[2]))
