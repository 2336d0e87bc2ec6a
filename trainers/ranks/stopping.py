"""Signals that ask a training to stop: they only set a flag, which the loop reads between steps.

The ranks agree on the flag, save together and leave together; a handler that saved or raised would
do so on one rank, in the middle of anything.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

from configs.rank_status import supervised

_NOTICE = b"stopping after a save; Ctrl-C again ends at once\n"
_wishes: list[int] = []


class Stopped(Exception):
    """Training was stopped at a signal, after saving what there was. Raised on all ranks."""


class StoppedEarly(Stopped):
    """Stopped before the first step: of this start nothing is saved, and nothing need be."""


@contextlib.contextmanager
def nothing_to_save() -> Iterator[None]:
    """Who is stopped inside has trained nothing yet."""
    try:
        yield
    except Stopped as stopped:
        raise StoppedEarly(str(stopped)) from None


def watch_signals() -> None:
    """Take SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 as a wish to stop; further ones change nothing.

    To be called first of all, before slow imports. Signals that this process was started to ignore
    (``nohup``) stay ignored. A process that trains alone also takes Ctrl-C so, and a second one
    raises KeyboardInterrupt; under a launcher, which decides what Ctrl-C means, it is one more wish.
    """
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        _watch(number, _note)
    alone = not supervised() and os.environ.get("WORLD_SIZE", "1") == "1"
    _watch(signal.SIGINT, _note_interrupt if alone else _note)


def stop_asked() -> bool:
    """Whether a signal has asked this process to stop."""
    return bool(_wishes)


def _watch(number: signal.Signals, handler: Any) -> None:
    if signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, handler)


def _note(number: int, frame: object) -> None:
    _wishes.append(number)


def _note_interrupt(number: int, frame: object) -> None:
    signal.signal(number, signal.default_int_handler)
    _wishes.append(number)
    with contextlib.suppress(OSError):
        os.write(2, _NOTICE)  # print() may be interrupted right here, and must not be entered twice
