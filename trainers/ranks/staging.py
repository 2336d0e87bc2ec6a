"""Copying shards to every node's own disk, all ranks together: they fail, stop and go on as one."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread

from data_shards.copying import StagingStopped
from data_shards.index import ShardIndex
from data_shards.staging import stage_shards
from trainers.ranks.stopping import Stopped, stop_asked
from trainers.ranks.world import World

_LOOK = 0.2


def stage(index: ShardIndex, stage: str, world: World) -> Path:
    """This node's copy of the shards. A collective call.

    Copying may take longer than ranks wait for each other, so it goes on beside them while they
    exchange a word now and then. Raises the first rank's error on all ranks, and Stopped on all when
    a signal asks for it.
    """
    stop = Event()
    found: list[Path] = []
    problems: list[Exception] = []

    def work() -> None:
        try:
            found.append(stage_shards(index, stage, stop))
        except Exception as problem:  # told to all ranks in the main thread
            problems.append(problem)

    thread = Thread(target=work, name="copying shards", daemon=True)
    thread.start()
    ended = failed = asked = 0.0
    while ended < world.size and not failed and not asked:
        thread.join(_LOOK)
        has_ended = not thread.is_alive()
        word = [has_ended, has_ended and bool(problems), stop_asked()]
        ended, failed, asked = world.sum([float(part) for part in word])
    stop.set()
    thread.join()
    causes = [cause for cause in world.gather(problems) if cause]
    for problem in (cause[0] for cause in causes):
        if not isinstance(problem, StagingStopped):
            raise problem
    if causes:
        raise Stopped("the shards were still being copied")
    return found[0]
