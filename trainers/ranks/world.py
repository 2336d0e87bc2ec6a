"""The processes that train together: who am I, and small exchanges between them.

``torchrun``, DeepSpeed's launcher and `sokhan submit` tell a process its place through RANK,
WORLD_SIZE, LOCAL_RANK and MASTER_*; without them a process is alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from configs.errors import InputError, MachineFault
from configs.ports import free_port
from configs.rank_status import STATUS
from trainers.ranks.beats import Beats, RankHangs

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)
_MEETING = timedelta(minutes=5)
"""Ranks may come this late in any case: what they import can lie on a slow file system."""
_TIMED_OUT = re.compile(r"tim(ed|e) ?out", re.IGNORECASE)


@dataclass(frozen=True)
class World:
    """One process's place among the ranks."""

    rank: int
    size: int
    device: torch.device
    control: Any
    """A gloo group for small words on the CPU, so that they never wait for the GPU."""
    beats: Beats = field(repr=False)
    timeout: timedelta = TIMEOUT
    """After this long without an answer an exchange fails."""

    @property
    def main(self) -> bool:
        """Whether this is the rank that writes files."""
        return self.rank == 0

    def sum(self, values: list[float]) -> list[float]:
        """Element-wise sum over ranks of a short list of numbers."""
        self.beats.count += 1
        word = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(word, group=self.control)
        return word.tolist()  # type: ignore[no-any-return]

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in rank order, on every rank (pickled: own processes only)."""
        self.beats.count += 1
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.beats.count += 1
        dist.barrier(group=self.control)

    def at(self, place: str) -> None:
        """Note where the training is ("step 12"), for the message about a rank that hangs."""
        self.beats.place = place

    def first_to_fail(self) -> bool:
        """Whether no other rank has failed before: only one should tell of an error."""
        first = self.beats.first("failed")
        # Without the store rank 0, its keeper, has gone or hangs.
        return self.rank <= 1 if first is None else first

    def hung_ranks(self, error: Exception) -> RankHangs | None:
        """The error to tell of instead, if ``error`` is an exchange that timed out and ranks that
        hang can be named. Takes some seconds."""
        if not self.lost_peer(error) or not _TIMED_OUT.search(str(error)):
            return None
        ranks = self.beats.find_hung()
        return RankHangs(self._not_answering(ranks)) if ranks else None

    def lost_peer(self, error: Exception) -> bool:
        """Whether an error comes from the connections to other ranks: it is not the cause."""
        # gloo gives plain RuntimeErrors that name its source files.
        ours = isinstance(error, dist.DistError) or "third_party/gloo" in str(error)
        return self.size > 1 and ours

    def _not_answering(self, ranks: list[int]) -> str:
        place = f" at {self.beats.place}" if self.beats.place else ""
        waited = f"for {self.timeout / timedelta(minutes=1):g} min{place}"
        if len(ranks) == 1:
            return f"rank {ranks[0]} has not answered {waited}: it hangs or its machine is lost"
        names = ", ".join(map(str, ranks))
        return f"ranks {names} have not answered {waited}: they hang or their machines are lost"

    def on_main(self, action: Callable[[], T]) -> T:
        """What ``action`` gives on rank 0, on every rank (pickled: own processes only). It runs there alone.

        If it fails, every rank raises its error. The others wait no longer than ``timeout``: work that
        may take longer goes through trainers/ranks/beside.py.
        """
        answer: list[Any] = [None, None]
        if self.main:
            try:
                answer = [action(), None]
            except Exception as error:  # passed on to the ranks that would wait for ever
                answer = [None, error]
        self.beats.count += 1  # not before: a rank 0 that hangs in its work has not entered
        dist.broadcast_object_list(answer, src=0, group=self.control)
        result, problem = answer
        if problem is not None:
            try:
                raise problem
            finally:
                # An error that held this frame that held the error would keep what callers hold: a lock.
                del answer, problem
        return result  # type: ignore[no-any-return]

    def main_first(self, action: Callable[[], T]) -> T:
        """Run ``action`` on rank 0, then on the others, who find what rank 0 made.

        If rank 0 fails, every rank raises its error.
        """
        found: list[T] = []
        self.on_main(lambda: found.append(action()))
        return found[0] if self.main else action()


def join_world(timeout: timedelta = TIMEOUT) -> World:
    """Join the other ranks (once a process) and pick this rank's device.

    Raises RankHangs, naming them, if some do not come, and MachineFault if the port is taken.
    """
    if "RANK" not in os.environ:
        if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_ID" in os.environ:
            raise InputError(
                "SLURM started several tasks, but RANK, WORLD_SIZE and MASTER_ADDR are not set, so "
                "each would train alone; use `sokhan submit`"
            )
        os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1")
        os.environ["MASTER_PORT"] = str(free_port(str(os.getpid())))
    gpu = torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if gpu:
        # A scheduler may show each rank its own GPU only.
        local = local if local < torch.cuda.device_count() else 0
        torch.cuda.set_device(local)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = _meet(rank, size, max(timeout, _MEETING))
    beats = Beats(store if size > 1 else None, rank, size)
    # NCCL ends a process whose collective times out; gloo's exchanges time out before and can tell.
    slow = 2 * timeout if gpu else timeout
    # What the groups get that DeepSpeed makes.
    defaults: Any = dist.distributed_c10d
    defaults.default_pg_timeout, defaults.default_pg_nccl_timeout = timeout, slow
    dist.init_process_group(
        "nccl" if gpu else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        timeout=slow,
    )
    control = dist.new_group(backend="gloo", timeout=timeout) if gpu else dist.group.WORLD
    device = torch.device("cuda", local) if gpu else torch.device("cpu")
    return World(rank, size, device, control, beats, timeout)


def leave_world(world: World) -> None:
    """Close the process groups, so that no thread of theirs outlives the interpreter."""
    world.barrier()
    world.beats.stop()
    dist.destroy_process_group()


def _meet(rank: int, size: int, timeout: timedelta) -> dist.TCPStore:
    """Connect to the store that rank 0 (or torchrun) keeps and wait until all ranks have."""
    keeps = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    late = f"within {timeout / timedelta(minutes=1):g} min"
    try:
        store = dist.TCPStore(host, port, size, is_master=keeps, timeout=timeout, wait_for_workers=False)
    except dist.DistError as error:
        if keeps:
            if "EADDRINUSE" in str(error):
                # It was free when the job chose it.
                raise MachineFault(
                    f"port {port} of {host} is taken by another process; start again"
                ) from None
            raise
        raise RankHangs(f"rank 0 has not started {late} at {host}:{port} ({error})") from None
    # Ranks whose rank 0 found the port taken may come to the store of whoever took it: another start.
    start = os.environ.get(STATUS, "")
    keys = [f"sokhan/joined/{start}/{other}" for other in range(size)]
    store.set(keys[rank], "")
    try:
        store.wait(keys, timeout)
    except dist.DistStoreError:
        missing = [other for other, key in enumerate(keys) if not store.check([key])]
        raise RankHangs(f"rank(s) {missing} have not started {late}") from None
    return store
