"""The processes that train together: who am I, and small exchanges between them.

``torchrun``, DeepSpeed's launcher and `sokhan submit` tell a process its place through RANK,
WORLD_SIZE, LOCAL_RANK and MASTER_*; without them a process is alone.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from configs.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """One process's place among the ranks."""

    rank: int
    size: int
    device: torch.device
    control: Any
    """A gloo group for small words on the CPU, so that they never wait for the GPU."""

    @property
    def main(self) -> bool:
        """Whether this is the rank that writes files."""
        return self.rank == 0

    def sum(self, values: list[float]) -> list[float]:
        """Element-wise sum over ranks of a short list of numbers."""
        word = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(word, group=self.control)
        return word.tolist()  # type: ignore[no-any-return]

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in rank order, on every rank (pickled: own processes only)."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def barrier(self) -> None:
        """Wait for all ranks."""
        dist.barrier(group=self.control)

    def first_to_fail(self) -> bool:
        """Whether no other rank has failed before: only one should tell of an error."""
        try:
            store: Any = dist.distributed_c10d._get_default_store()
            return bool(store.add("sokhan/failed", 1) == 1)
        except Exception:  # the rank that keeps the store is gone, so it has told
            return self.main

    def main_first(self, action: Callable[[], T]) -> T:
        """Run ``action`` on rank 0, then on the others, who find what rank 0 made.

        If rank 0 fails, every rank raises its error.
        """
        problem: list[BaseException | None] = [None]
        result: Any = None
        if self.main:
            try:
                result = action()
            except Exception as error:  # passed on to the ranks that would wait for ever
                problem = [error]
        dist.broadcast_object_list(problem, src=0, group=self.control)
        if problem[0] is not None:
            raise problem[0]
        return result if self.main else action()


def join_world(timeout: timedelta = timedelta(minutes=30)) -> World:
    """Join the other ranks (once a process) and pick this rank's device."""
    if "RANK" not in os.environ:
        if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_ID" in os.environ:
            raise InputError(
                "SLURM started several tasks, but RANK, WORLD_SIZE and MASTER_ADDR are not set, so "
                "each would train alone; use `sokhan submit`"
            )
        os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1")
        os.environ["MASTER_PORT"] = str(_free_port())
    gpu = torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if gpu:
        # A scheduler may show each rank its own GPU only.
        local = local if local < torch.cuda.device_count() else 0
        torch.cuda.set_device(local)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if gpu else "gloo", timeout=timeout)
    control = dist.new_group(backend="gloo", timeout=timeout) if gpu else dist.group.WORLD
    device = torch.device("cuda", local) if gpu else torch.device("cpu")
    return World(dist.get_rank(), dist.get_world_size(), device, control)


def leave_world() -> None:
    """Close the process groups, so that no thread of theirs outlives the interpreter."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
