"""Whether a submitted training still waits or runs, and waiting until it does not."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.rank_status import FAILED, STOPPED, TRAINED
from launch.slurm.local_process import process_of
from launch.slurm.scheduler import SchedulerDown, job_states
from launch.slurm.submission import Member, Submission, newest_submission

_LOOK = 2.0
_SETTLE = 10.0
"""Seconds between a job's end in the queue and the belief that its last line has not run."""


def is_live(submission: Submission, member: Member) -> bool:
    """Whether a member waits, runs or comes back by itself. Raises SchedulerDown if SLURM, which must
    know, does not answer."""
    if submission.cluster == "slurm":
        state = job_states([submission.job_of(member)]).get(submission.job_of(member))
        return state is not None and not state.over
    attempts = submission.attempts(member)
    return process_of(submission, attempts[-1].start if attempts else {}) is not None


def refuse_if_live(run: Path) -> None:
    """Raise InputError if an earlier submission is still to train in this run directory."""
    newest = newest_submission(run)
    if newest is None:
        return
    submission, member = newest
    job = submission.job_of(member)
    try:
        live = is_live(submission, member)
    except SchedulerDown as error:
        raise InputError(f"{run}: job {job} may still train there: {error}") from None
    if live:
        raise InputError(
            f"{run}: job {job} waits or trains there; see `sokhan status {run}`, or end it with "
            f"`sokhan cancel {run}`"
        )


def wait_for(submission: Submission) -> int:
    """Return when all members have ended; 0 if all have trained, 75 if one was stopped after a save,
    else 1. Ctrl-C ends the waiting only."""
    codes = [_wait(submission, member) for member in submission.members]
    if FAILED in codes or any(code not in (TRAINED, STOPPED) for code in codes):
        return FAILED
    return STOPPED if STOPPED in codes else TRAINED


def _wait(submission: Submission, member: Member) -> int:
    gone_since: float | None = None
    end: dict[str, Any] = {}
    while gone_since is None or time.monotonic() < gone_since + _SETTLE:
        attempts = submission.attempts(member)
        end = attempts[-1].end if attempts else {}
        # What was stopped or killed may come back by the scheduler's will.
        if end.get("outcome") in ("finished", "failed", "no progress"):
            break
        try:
            live = is_live(submission, member)
        except SchedulerDown:
            live = True  # it will be back
        gone_since = None if live else gone_since or time.monotonic()
        time.sleep(_LOOK)
    if not end:
        return _tell(submission, member, FAILED, "it has ended without a word")
    return _tell(submission, member, int(end["code"]), str(end["words"]))


def _tell(submission: Submission, member: Member, code: int, words: str) -> int:
    job = submission.job_of(member)
    if code == TRAINED:
        print(f"job {job} is done: {member.run}", flush=True)
    elif code == STOPPED:
        print(f"job {job} was stopped after saving: {member.run}", file=sys.stderr, flush=True)
    else:
        last = words.strip().rpartition("\n")[2].removeprefix("error: ")
        print(f"error: job {job} failed: {last}; see `sokhan logs {member.run}`", file=sys.stderr)
    return code
