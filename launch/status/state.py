"""How one training stands: what its folder says, together with what SLURM says of its job."""

from __future__ import annotations

import contextlib
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from configs.load import SUMMARY
from configs.rank_status import STOPPED
from launch.last_words import last_line
from launch.slurm.local_process import process_of, runs_here
from launch.slurm.scheduler import JobState
from launch.slurm.submission import FINAL, Attempt, Member, Submission, newest_checkpoint
from launch.status.targets import Target

State = Literal["waiting", "saved", "running", "finished", "failed", "stopped", "cancelled", "ended", "new"]
"""saved: stopped after a save, and waits to go on; stopped: the same, but nobody will start it again;
ended: without a word; new: not started yet and in no queue."""
PENDING: tuple[State, ...] = ("waiting", "saved", "running")
"""States that change by themselves."""


@dataclass(frozen=True)
class Standing:
    """One training's state."""

    state: State
    detail: str = ""
    """Reason, nodes, or the last line of the error."""


def standing_of(target: Target, known: JobState | None, answered: bool) -> Standing:
    """``known``: what SLURM says of the job, if anything; ``answered``: whether it was heard at all."""
    submission, member = target.submission, target.member
    if submission is None or member is None or _trained_here(target, submission):
        return _unsubmitted(target)
    last = submission.newest_attempt(member)
    if submission.cluster != "slurm":
        known, answered = _local_state(submission, last), runs_here(submission)
    end = last.end if last else {}
    outcome = str(end.get("outcome", ""))
    if known and known.waits:
        return _waiting(member, last, known.reason or known.state)
    if known and known.active and not (outcome in FINAL and _follows(end, known)):
        return _running(known)
    if outcome == "finished" or _finished_since(member, submission):
        return Standing("finished")
    word = f"SLURM: {known.state}" if known and known.state != "COMPLETED" else ""
    if outcome in ("failed", "no progress"):
        return Standing("failed", last_line(end.get("words")) or outcome)
    said = last.statuses(member.ranks).values() if last else ()
    if error := next((last_line(rank.text) for rank in said if rank.state == "failed"), ""):
        return Standing("failed", error)
    if submission.cancelled(member) or (known and known.state == "CANCELLED"):
        return Standing("cancelled", _goes_on(member, ""))
    if not answered and (last is None or outcome):
        return _waiting(member, last, "")
    if not answered and last:
        return Standing("running", f"since {_clock(last.start.get('time'))}")
    if outcome == "killed":
        return Standing("failed", last_line(end.get("words")) or word or outcome)
    # The ranks may have saved although nobody was left to say so of the job.
    if outcome or any(rank.state == "saved" for rank in said):
        return Standing("stopped", _goes_on(member, word))
    if not submission.job:
        return Standing("new", "the scheduler did not take it")
    gone = "its process is gone" if submission.cluster != "slurm" else "the queue has it no more"
    return Standing("ended", f"without a word ({word or gone})")


def _running(known: JobState) -> Standing:
    where = f"on {known.nodes}" if known.nodes else ""
    since = f"since {_clock(known.since)}" if known.since else ""
    word = "" if known.state == "RUNNING" else f"({known.state.lower()})"
    return Standing("running", " ".join(filter(None, [where, since, word])))


def _waiting(member: Member, last: Attempt | None, reason: str) -> Standing:
    saved = newest_checkpoint(member.run) if last else None
    if saved:
        return Standing("saved", f"goes on from {saved}" + (f" ({reason})" if reason else ""))
    return Standing("waiting", reason)


def _goes_on(member: Member, why: str) -> str:
    saved = newest_checkpoint(member.run)
    words = [why, f"submitted again it goes on from {saved}" if saved else ""]
    return "; ".join(filter(None, words))


def _local_state(submission: Submission, last: Attempt | None) -> JobState | None:
    """As if a scheduler said it. None: its process has ended."""
    if process_of(submission, last) is None:
        return None
    start = last.start if last else {}
    return JobState("RUNNING", "", platform.node(), str(start.get("time", "")))


def _trained_here(target: Target, submission: Submission) -> bool:
    """Whether a sweep on this machine trained it after it was submitted the last time."""
    end = target.end
    return end is not None and _seconds(end.time) > _seconds(submission.facts.get("time"))


def _unsubmitted(target: Target) -> Standing:
    """A run directory of `sokhan train`, or one that does not exist yet."""
    run, end = target.run, target.end
    if (run / SUMMARY).is_file():
        return Standing("finished")
    if holder := _holder(run):
        return Standing("running", holder)
    if end and end.code != STOPPED:
        return Standing("failed", last_line(end.words))
    if saved := newest_checkpoint(run):
        return Standing("stopped", f"the same command goes on from {saved}")
    if (run / "config.yaml").is_file():
        return Standing("ended", "not running, and never saved")
    return Standing("new", "not started")


def _holder(run: Path) -> str:
    """The process of this machine that trains there."""
    with contextlib.suppress(OSError):
        holder = (run / "lock").read_text(encoding="utf-8").strip()
        found = re.match(r"process (\d+) on (\S+)", holder)
        if found and found[2] == platform.node() and Path("/proc", found[1]).exists():
            return holder
    return ""


def _finished_since(member: Member, submission: Submission) -> bool:
    """Whether the run was finished after it was submitted, whoever did that."""
    with contextlib.suppress(OSError):
        written = (member.run / SUMMARY).stat().st_mtime
        return written >= _seconds(submission.facts.get("time"))
    return False


def _follows(end: Mapping[str, Any], known: JobState) -> bool:
    """Whether an attempt's end belongs to the start that SLURM tells of, not to one before."""
    return _seconds(end.get("time")) >= _seconds(known.since)


def _clock(time: object) -> str:
    """An ISO time as it is read on this machine."""
    try:
        return f"{datetime.fromisoformat(str(time)).astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return str(time)


def _seconds(time: object) -> float:
    """Of an ISO time, of this machine's zone if it names none; 0 if there is none."""
    try:
        return datetime.fromisoformat(str(time)).timestamp()
    except ValueError:
        return 0.0
