"""The process of a job that runs on this machine without a scheduler, told from a later one of its
number by what it was started for."""

from __future__ import annotations

import contextlib
import platform
import signal

import psutil

from launch.slurm.submission import Attempt, Submission


def process_of(submission: Submission, newest: Attempt | None) -> psutil.Process | None:
    """The living process that started the ranks or, before that, the one that is about to. None: there
    is none on this machine. ``newest``: the last start, if there is one."""
    if not runs_here(submission):
        return None
    for pid in (newest.start.get("pid") if newest else None, submission.job):
        with contextlib.suppress(psutil.Error, TypeError, ValueError):
            process = psutil.Process(int(pid or ""))
            if str(submission.folder) in process.cmdline():  # a dead one has none
                return process
    return None


def runs_here(submission: Submission) -> bool:
    """Whether a job without a scheduler would be a process of this machine."""
    return submission.facts.get("host", platform.node()) == platform.node()


def ask_to_stop(process: psutil.Process) -> bool:
    """Have it save and leave; False: it has left already."""
    try:
        process.send_signal(signal.SIGTERM)
    except psutil.NoSuchProcess:
        return False
    return True
