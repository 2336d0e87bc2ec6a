"""Processes and their ends: none outlives the one that started it, helpers outlive a stop signal."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What schedulers, launchers and people send to have a training stop."""


def end_with_parent(parent: int, number: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when its parent ends, however that ends (Linux).

    ``parent`` is the process that should be it: if it ended before it could be watched, this process
    ends now.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def end_with_creator() -> None:
    """End this process of ``multiprocessing`` with the one that asked for it, however that ends and
    whatever this one is at, also where a fork server stands between the two."""

    def watch(creator: BaseProcess) -> None:
        wait([creator.sentinel])
        os._exit(1)

    creator = parent_process()
    if creator is not None:
        threading.Thread(target=watch, args=(creator,), daemon=True).start()


@contextmanager
def adopting_orphans() -> Iterator[None]:
    """Make descendants whose parent ends children of this process, not of init: it can then find and
    end them (Linux)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        _prctl(_PR_SET_CHILD_SUBREAPER, 0)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Start a helper process inside, and it keeps working when this process is told to stop.

    Schedulers and launchers signal every process of a job, but a training that is to save first needs
    its helpers until then. The mask is inherited by what is started inside, threads included; it
    ends with SIGKILL or when it sees that this process is gone.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value)
