"""Begin and end one start of a member, in the batch script:

    python -m launch.slurm.attempt begin | end CODE

``begin`` makes the attempt's folder and prints it. ``end`` reads the last words of the ranks, decides
whether the job is to come back, has it requeued, and prints the error of the rank that failed. SLURM
itself requeues what it has preempted and what has lost its first node; then ``end`` may never run.

Exit codes: 0 trained; 1 failed, or no progress; 2 wrong input; 75 saved, and not requeued.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from configs.access import writing_run
from configs.load import SUMMARY
from configs.rank_status import FAILED, STOPPED, TRAINED, RankStatus
from launch.last_words import errors
from launch.slurm.batch import ATTEMPT, SUBMISSION
from launch.slurm.rendezvous import free_port
from launch.slurm.scheduler import SchedulerDown, SchedulerError, cancel, job_states, requeue
from launch.slurm.submission import (
    Attempt,
    Member,
    Outcome,
    Submission,
    earlier_starts,
    newest_checkpoint,
    write_json,
)
from launch.status.log_parts import log_sizes

FRUITLESS = 3
"""So many starts in a row that save nothing new, and the job is not started again."""
_PATIENCE = 600.0
"""Seconds that a controller which does not answer is asked again to requeue: it may be restarting."""


@dataclass(frozen=True)
class Verdict:
    """How a start has ended."""

    outcome: Outcome
    code: int
    words: str = ""
    again: bool = False
    """Whether the member is to be started again."""


def begin(submission: Submission, member: Member) -> Attempt:
    """Make the folder of a new start. If starting is useless, it has ended already: end.json says so."""
    before = submission.attempts(member)
    number = before[-1].number + 1 if before else 0
    folder = submission.folder / "attempts" / f"{member.number}-{number}"
    folder.mkdir(parents=True)
    checkpoint = newest_checkpoint(member.run)
    begun = any(
        start.get("job") == f"{submission.folder.name}/{member.number}"
        for start in earlier_starts(member.run)
    )
    write_json(folder / "start.json", {
        "time": now(),
        "job": _job_id(),
        "nodes": os.environ.get("SLURM_JOB_NODELIST"),
        "pid": os.getpid(),
        "checkpoint": checkpoint,
        "logs": log_sizes(submission, member),
        "port": free_port(os.environ.get("SLURM_JOB_ID", str(os.getpid()))),
        # What the command said of an older run holds for the first start; later ones go on.
        "flags": [] if begun else list(member.flags),
    })  # fmt: skip
    attempt = Attempt(folder)
    if begun and (member.run / SUMMARY).is_file():
        close(attempt, Verdict("finished", TRAINED))  # requeued although it had finished
    elif fruitless(before, checkpoint):
        words = (
            f"error: {FRUITLESS} starts have saved nothing new after {checkpoint or 'the beginning'}; "
            "not started again: `sokhan logs` shows why they ended"
        )
        close(attempt, Verdict("no progress", FAILED, words))
    return attempt


def fruitless(attempts: Sequence[Attempt], checkpoint: str | None) -> bool:
    """Whether the last starts have left the run where they found it."""
    found = [attempt.start.get("checkpoint") for attempt in attempts[-FRUITLESS:]]
    return len(found) == FRUITLESS and set(found) == {checkpoint}


def judge(submission: Submission, member: Member, attempt: Attempt, code: int) -> Verdict:
    """How the ranks have ended, from their words."""
    words = attempt.statuses(member.ranks)
    failed = [word for word in words.values() if word.state == "failed"]
    if failed:
        return Verdict("failed", failed[0].code, "\n".join(errors(failed)))
    if (member.run / SUMMARY).is_file() and "finished" in {word.state for word in words.values()}:
        return Verdict("finished", TRAINED)
    if any(word.state == "saved" for word in words.values()):
        return Verdict("saved", STOPPED, again=True)
    hung = [word for word in words.values() if word.state == "hung_peer"]
    lines = errors(hung) or _silent(words, member.ranks, code)
    failures = sum(earlier.end.get("cause") == "failure" for earlier in submission.attempts(member))
    allowed = int(submission.settings["failures"])
    if failures >= allowed:
        lines.append(f"error: not started again after {failures} failures (--slurm.failures)")
    return Verdict("killed", FAILED, "\n".join(lines), again=failures < allowed)


def end(submission: Submission, member: Member, attempt: Attempt, code: int) -> int:
    """Close a start of a job, have it requeued if that is right, and return the exit code."""
    verdict = judge(submission, member, attempt, code)
    job = _job_id()
    assert job is not None
    if verdict.again and fruitless(submission.attempts(member), newest_checkpoint(member.run)):
        words = (
            f"{verdict.words}\nerror: {FRUITLESS} starts have saved nothing new; not started again"
        )
        verdict = Verdict("no progress", FAILED, words.strip())
    if verdict.again and _is_ours_to_requeue(job):
        close(attempt, Verdict("requeued", verdict.code, verdict.words), verdict.outcome)
        if _requeue(job):
            return verdict.code
        print(f"error: job {job} could not be requeued; `sokhan submit` goes on", file=sys.stderr)
    close(attempt, verdict, verdict.outcome)
    if not verdict.again and _shell_is_orphan():
        # Whoever should tell SLURM that the job has ended was killed: it would hold its nodes on.
        with contextlib.suppress(SchedulerError):
            cancel(job)
    return verdict.code


def close(attempt: Attempt, verdict: Verdict, cause: str = "", told: bool = False) -> None:
    """Write down how a start ended, and print what went wrong unless it has been told."""
    write_json(attempt.folder / "end.json", {
        "time": now(),
        "outcome": verdict.outcome,
        "cause": "failure" if cause == "killed" else "",
        "code": verdict.code,
        "words": verdict.words,
    })  # fmt: skip
    if verdict.words and not told:
        print(verdict.words, file=sys.stderr, flush=True)


def now() -> str:
    """Local time with its zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _silent(words: Mapping[int, RankStatus], ranks: int, code: int) -> list[str]:
    quiet = [rank for rank in range(ranks) if rank not in words or words[rank].state == "started"]
    names = ", ".join(map(str, quiet[:8])) + (" ..." if len(quiet) > 8 else "")
    if quiet:
        return [
            f"error: rank {names} ended without a word, perhaps killed or out of memory (srun {code})"
        ]
    return [f"error: ranks lost their connections to each other (srun {code})"]


def _job_id() -> str | None:
    """As `scontrol requeue` must be told: the number of an array's last member is the array's, too."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def _is_ours_to_requeue(job: str) -> bool:
    """Whether the job runs on without its ranks, or is ended for its time. What is ended otherwise
    was preempted, which SLURM requeues itself, or cancelled."""
    try:
        known = job_states([job]).get(job)
    except SchedulerDown:
        return True  # nobody is there who could have ended it
    return known is not None and (known.state == "RUNNING" or known.reason == "TimeLimit")


def _shell_is_orphan() -> bool:
    """Whether the batch script's slurmstepd is gone."""
    shell = psutil.Process(os.getppid())
    parent = shell.parent()
    return parent is None or "slurmstepd" not in parent.name()


def _requeue(job: str) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            requeue(job)
            return True
        except SchedulerDown as error:
            if time.monotonic() > deadline:
                print(f"error: {error}", file=sys.stderr)
                return False
            time.sleep(5)
        except SchedulerError as error:
            print(f"error: {error}", file=sys.stderr)
            return False


def main(words: Sequence[str]) -> int:
    """In the batch script."""
    submission = Submission(Path(os.environ[SUBMISSION]))
    with writing_run(submission.folder):
        return _run(submission, words)


def _run(submission: Submission, words: Sequence[str]) -> int:
    member = submission.members[int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))]
    if words[0] == "begin":
        attempt = begin(submission, member)
        if attempt.end:
            return int(attempt.end["code"])
        print(attempt.folder)
        return TRAINED
    return end(submission, member, Attempt(Path(os.environ[ATTEMPT])), int(words[1]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
