"""Whether a submitted training still waits or runs, and waiting until it does not."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.rank_status import FAILED, STOPPED, TRAINED
from launch.last_words import last_line
from launch.slurm.local_process import process_of
from launch.slurm.scheduler import SchedulerDown, job_states
from launch.slurm.submission import FINAL, Member, Submission, newest_submission

SETTLE = 10.0
"""Seconds after a job's end in the queue in which its last file may still be on its way over the
network."""
_SOON, _LATE = 2.0, 30.0
"""Seconds from one look to the next, at first and at last: a controller serves many users."""


def live_members(submission: Submission, members: Sequence[Member]) -> set[Member]:
    """Those members that wait, run or come back by themselves. Raises SchedulerDown if SLURM, which
    must know, does not answer."""
    if submission.cluster == "slurm":
        states = job_states([submission.job_of(member) for member in members])
        alive = {job for job, state in states.items() if not state.over}
        return {member for member in members if submission.job_of(member) in alive}
    return {member for member in members if process_of(submission, submission.newest_attempt(member))}


def refuse_if_live(run: Path, certain: bool = True) -> None:
    """Raise InputError if an earlier submission is still to train in this run directory. ``certain``:
    also if SLURM cannot be asked."""
    newest = newest_submission(run)
    if newest is None:
        return
    submission, member = newest
    job = submission.job_of(member)
    try:
        live = live_members(submission, [member])
    except SchedulerDown as error:
        if not certain:
            return
        raise InputError(f"{run}: job {job} may still train there: {error}") from None
    if live:
        raise InputError(
            f"{run}: job {job} waits or trains there; see `sokhan status {run}`, or end it with "
            f"`sokhan cancel {run}`"
        )


def wait_for(submission: Submission) -> int:
    """Return when all members have ended; 0 if all have trained, 75 if one was stopped after a save,
    else 1. Ctrl-C ends the waiting only."""
    try:
        codes = [_tell(submission, member, end) for member, end in _ended(submission)]
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"waiting only; job {submission.job} goes on") from None
    if any(code not in (TRAINED, STOPPED) for code in codes):
        return FAILED
    return STOPPED if STOPPED in codes else TRAINED


def looks() -> Iterator[None]:
    """Sleep between looks at jobs: the longer they take, the less a late answer matters."""
    began = time.monotonic()
    while True:
        yield
        time.sleep(pause_after(time.monotonic() - began))


def pause_after(waited: float) -> float:
    """Seconds to the next look after so many seconds of waiting."""
    return min(max(_SOON, waited / 20), _LATE)


def _ended(submission: Submission) -> Iterator[tuple[Member, dict[str, Any]]]:
    """All members, as they end, each with what its last start says of that; empty: nothing."""
    left = list(submission.members)
    gone_since: dict[Member, float] = {}
    for _ in looks():
        ends = {member: _end(submission, member) for member in left}
        asked = [member for member in left if ends[member].get("outcome") not in FINAL]
        try:
            live = live_members(submission, asked)
        except SchedulerDown:
            live = set(asked)  # it will be back
        now = time.monotonic()
        gone = {member for member in asked if member not in live}
        gone_since = {member: gone_since.get(member, now) for member in gone}
        settled = {member for member in gone if now >= gone_since[member] + SETTLE}
        left = [member for member in asked if member not in settled]
        over = set(ends).difference(left)
        yield from ((member, end) for member, end in ends.items() if member in over)
        if not left:
            return


def _end(submission: Submission, member: Member) -> dict[str, Any]:
    newest = submission.newest_attempt(member)
    return newest.end if newest else {}


def _tell(submission: Submission, member: Member, end: dict[str, Any]) -> int:
    """Say how a member has ended; returns its exit code."""
    job = submission.job_of(member)
    code = int(end.get("code", FAILED))
    if code == TRAINED:
        print(f"job {job} is done: {member.run}", flush=True)
    elif code == STOPPED:
        print(f"job {job} was stopped, all there was is saved: {member.run}", file=sys.stderr, flush=True)
    else:
        why = last_line(end.get("words")).removeprefix("error: ") or "it has ended without a word"
        print(f"error: job {job} failed: {why}; see `sokhan logs {member.run}`", file=sys.stderr)
    return code
