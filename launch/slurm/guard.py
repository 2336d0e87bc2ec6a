"""What requeues a job whose batch script was killed: a small process beside rank 0, on the same node.

SLURM then ends the job as failed. The ranks are told to stop, and save, but they know no scheduler.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from pathlib import Path

import psutil

from configs.access import writing_run
from configs.lifetime import signals_blocked
from launch.slurm.attempt import end_without_script
from launch.slurm.batch import SHELL
from launch.slurm.submission import Attempt, Member, Submission

_LOOK = 0.2
_SCRIPT = "slurm_script"
"""A batch script's file name, where slurmd has put it."""


def guard_script(submission: Submission, member: Member, attempt: Attempt) -> None:
    """Start it, if this process is to be rank 0 and can see the batch script's shell, which it cannot
    from within some containers. It ends with this process."""
    shell, rank = int(os.environ.get(SHELL, "0")), os.getpid()
    if os.environ.get("SLURM_PROCID") != "0" or not _is_script(shell):
        return
    with signals_blocked():  # what tells the ranks to stop is sent to this process, too
        if os.fork():
            return
        try:
            if _first_to_end(shell, rank) == shell:
                with writing_run(submission.folder):
                    end_without_script(submission, member, attempt)
        finally:
            os._exit(0)


def _is_script(pid: int) -> bool:
    """Numbers of processes mean others where a container counts its own."""
    with contextlib.suppress(psutil.Error):
        return any(Path(word).name == _SCRIPT for word in psutil.Process(pid).cmdline())
    return False


def _first_to_end(*pids: int) -> int:
    """Wait until one of these processes has ended, whoever started it; 0: that cannot be told."""
    try:
        descriptors = {os.pidfd_open(pid): pid for pid in pids}
    except ProcessLookupError:
        return 0
    except OSError:  # a kernel before 5.3
        while all(map(psutil.pid_exists, pids)):
            time.sleep(_LOOK)
        return next(pid for pid in pids if not psutil.pid_exists(pid))
    ready, _, _ = select.select(list(descriptors), [], [])
    return descriptors[ready[0]]
