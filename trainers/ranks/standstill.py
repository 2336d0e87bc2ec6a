"""A rank that stands still while no other waits for it: it trains alone, or all stand still, each in work
of its own (a device or a file system that does not answer).

Where others do wait they name it: trainers/ranks/world.py, beats.py.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread, main_thread

from configs.rank_status import FAILED, report
from trainers.ranks.world import World

_LOOK = 1.0


@contextmanager
def ended_at_standstill(world: World) -> Iterator[None]:
    """End this process, saying where it stood, once it enters no exchange for ``world.timeout``; twice
    that where there are others, who tell more. To be used in the main thread.

    Time in which this process is suspended does not count (a laptop that sleeps, a suspended job).
    """
    over = Event()
    Thread(target=_watch, args=(world, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(world: World, over: Event) -> None:
    patience = world.timeout if world.size == 1 else 2 * world.timeout
    look = min(_LOOK, patience.total_seconds() / 10)
    count, still = world.beats.count, timedelta(0)
    while still < patience:
        if over.wait(look):
            return
        still += timedelta(seconds=look)
        if world.beats.count != count:
            count, still = world.beats.count, timedelta(0)
    text = _told(world, patience)
    if not report("hung_peer", text, FAILED):
        print(text, file=sys.stderr, flush=True)
    os._exit(FAILED)


def _told(world: World, patience: timedelta) -> str:
    """Where the main thread is, and the error."""
    frame = sys._current_frames().get(main_thread().ident or 0)
    place = f" at {world.beats.place}" if world.beats.place else ""
    waited = f"{patience / timedelta(minutes=1):g} min{place}"
    return "".join(
        [
            "Traceback (most recent call last):\n",
            *traceback.format_stack(frame),
            f"error: rank {world.rank} has not gone on for {waited}: it hangs, or needs a longer "
            "engine.timeout_minutes",
        ]
    )
