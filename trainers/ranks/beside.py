"""Long work before a training begins: it goes on beside the small words that ranks exchange, so that none
is taken to hang, and they fail, stop and go on as one."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from typing import TypeVar

from trainers.ranks.stopping import Stopped, stop_asked
from trainers.ranks.world import World

T = TypeVar("T")

_LOOK = 0.2


def beside(world: World, work: Callable[[Event], T], doing: str) -> T:
    """What ``work`` gives on this rank, when it has ended on all. A collective call.

    ``work`` runs in a thread of each rank, for as long as it takes; it should raise soon after the
    event is set. Raises the first failed rank's error on all ranks, and Stopped, with ``doing``, on
    all when a signal asks for it.
    """
    stop = Event()
    found: list[T] = []
    problems: list[Exception] = []

    def run() -> None:
        try:
            found.append(work(stop))
        except Exception as problem:  # told to all ranks in the main thread
            problems.append(problem)

    thread = Thread(target=run, name=doing, daemon=True)
    thread.start()
    ended = failed = asked = 0.0
    own: Exception | None = None
    while ended < world.size and not failed and not asked:
        thread.join(_LOOK)
        has_ended = not thread.is_alive()
        # Not what the event makes of it later.
        own = problems[0] if has_ended and problems else None
        word = [has_ended, own is not None, stop_asked()]
        ended, failed, asked = world.sum([float(part) for part in word])
    stop.set()
    thread.join()
    for problem in world.gather(own):
        if problem is not None:
            raise problem
    if ended < world.size:
        raise Stopped(doing)
    return found[0]


def main_first_beside(world: World, work: Callable[[Event], T], doing: str) -> T:
    """``work`` on rank 0 as in ``beside``, then on the others, who find what rank 0 made."""
    found = beside(world, work if world.main else _nothing, doing)
    return work(Event()) if found is None else found


def _nothing(stop: Event) -> None:
    """What ranks do that only wait."""
