"""Which part of a log belongs to which start: a job's logs are appended to, over all its starts."""

from __future__ import annotations

from configs.errors import InputError
from launch.slurm.submission import Attempt, Member, Submission


def log_sizes(submission: Submission, member: Member) -> dict[str, int]:
    """File name -> bytes of a member's logs so far: where the part of a new start begins."""
    job = submission.job_of(member)  # empty in a first start that is faster than sbatch's answer
    logs = submission.folder.glob(f"{job}_*_log.*") if job else ()
    return {path.name: path.stat().st_size for path in logs}


def part_of(submission: Submission, member: Member, number: int, name: str) -> tuple[int, int | None]:
    """Where a start's part of a log begins and ends; None: it has no end yet. Raises InputError if
    there was no such start."""
    starts = {attempt.number: attempt for attempt in submission.attempts(member)}
    if number not in starts:
        told = f"there are 0 to {max(starts)}" if starts else "there was none yet"
        raise InputError(f"--attempt {number}: no such start; {told}")
    begin = _size(starts[number], name) if number else 0
    return begin, _size(starts[number + 1], name) if number + 1 in starts else None


def _size(attempt: Attempt, name: str) -> int:
    return int(attempt.start.get("logs", {}).get(name, 0))
