"""Begin and end one start of a member, in the batch script:

    python -m launch.slurm.attempt begin | end CODE PARENT

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
from collections.abc import Sequence
from pathlib import Path

import psutil

from configs.access import writing_run
from configs.files import write_json
from configs.load import SUMMARY
from configs.ports import free_port
from configs.rank_status import FAILED, TRAINED
from launch.slurm.batch import ATTEMPT, SUBMISSION
from launch.slurm.log_parts import log_sizes
from launch.slurm.scheduler import SchedulerDown, SchedulerError, cancel, job_states, requeue
from launch.slurm.submission import (
    Attempt,
    Member,
    Submission,
    earlier_starts,
    newest_checkpoint,
)
from launch.slurm.verdict import FRUITLESS, Verdict, fruitless, judge

# What SLURM says of a job whose batch script has ended by itself, or was killed.
_SCRIPT_ENDED = ("JobLaunchFailure", "NonZeroExitCode", "OutOfMemory", "RaisedSignal")
_PAUSE = 5.0
_PATIENCE = 600.0
"""Seconds that a controller which does not answer is asked again to requeue: it may be restarting."""


def begin(submission: Submission, member: Member) -> Attempt:
    """Make the folder of a new start. If starting is useless, it has ended already: end.json says so."""
    before = submission.attempts(member)
    number = before[-1].number + 1 if before else 0
    folder = submission.folder / "attempts" / f"{member.number}-{number}"
    folder.mkdir(parents=True)
    checkpoint = newest_checkpoint(member.run)
    ours = submission.start_id(member)
    begun = any(start.get("job") == ours for start in earlier_starts(member.run))
    write_json(
        folder / "start.json",
        {
            "time": now(),
            "job": _job_id(submission),
            "nodes": os.environ.get("SLURM_JOB_NODELIST"),
            "pid": os.getpid(),
            "checkpoint": checkpoint,
            "logs": log_sizes(submission, member),
            "port": free_port(os.environ.get("SLURM_JOB_ID", str(os.getpid()))),
            # What the command said of an older run holds for the first start; later ones go on.
            "flags": [] if begun else list(member.flags),
        },
    )
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


def end(submission: Submission, member: Member, attempt: Attempt, code: int, parent: int) -> int:
    """Close a start of a job, have it requeued if that is right, and return the exit code.

    ``code`` is srun's, ``parent`` the process that has started the batch script.
    """
    verdict = judge(submission, member, attempt, code)
    job = _job_id(submission)
    assert job is not None
    if verdict.again and fruitless(submission.attempts(member), newest_checkpoint(member.run)):
        words = f"{verdict.words}\nerror: {FRUITLESS} starts have saved nothing new"
        verdict = Verdict("no progress", FAILED, f"{words}; not started again".strip())
    if not verdict.again:
        close(attempt, verdict, failure=verdict.outcome == "killed")
        if psutil.Process(os.getppid()).ppid() != parent:
            # Its slurmstepd was killed, and nobody else tells SLURM that the job has ended.
            with contextlib.suppress(SchedulerError):
                cancel(job)
        return verdict.code
    _come_back(job, attempt, verdict)
    return verdict.code


def end_without_script(submission: Submission, member: Member, attempt: Attempt) -> None:
    """Close a start whose batch script is no more, unless it has done so itself, and have the job
    requeued if that is right. What the ranks save meanwhile is for the next start to judge."""
    job = _job_id(submission)
    assert job is not None
    if attempt.end:
        return
    verdict = judge(submission, member, attempt, None)
    if verdict.again:
        _come_back(job, attempt, verdict)
    else:
        close(attempt, verdict, failure=verdict.outcome == "killed")


def _come_back(job: str, attempt: Attempt, verdict: Verdict) -> None:
    """Close a start that is to go on, and have its job requeued where SLURM does not do so itself."""
    deadline = time.monotonic() + _PATIENCE
    if not _is_ours_to_requeue(job, deadline):
        close(attempt, verdict)
        return
    requeued = Verdict("requeued", verdict.code, verdict.words)
    close(attempt, requeued, failure=verdict.outcome == "killed")
    if not _requeue(job, deadline):
        close(attempt, verdict, told=True)
        print(f"error: job {job} could not be requeued; `sokhan submit` goes on", file=sys.stderr)


def close(attempt: Attempt, verdict: Verdict, *, failure: bool = False, told: bool = False) -> None:
    """Write down how a start ended, and print what went wrong unless it has been told. ``failure``:
    whether it counts for --slurm.failures."""
    write_json(
        attempt.folder / "end.json",
        {
            "time": now(),
            "outcome": verdict.outcome,
            "cause": "failure" if failure else "",
            "code": verdict.code,
            "words": verdict.words,
        },
    )
    if verdict.words and not told:
        print(verdict.words, file=sys.stderr, flush=True)


def now() -> str:
    """Local time with its zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _job_id(submission: Submission) -> str | None:
    """As `scontrol requeue` must be told: the number of an array's last member is the array's, too."""
    if len(submission.members) > 1:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def _is_ours_to_requeue(job: str, deadline: float) -> bool:
    """Whether the job runs on without its ranks, or is ended for its time or with its batch script.
    What is ended otherwise was preempted, which SLURM requeues itself, or cancelled, which a requeue
    would undo."""
    while True:
        try:
            known = job_states([job]).get(job)
            if known is None:
                return False
            return known.state == "RUNNING" or known.reason.startswith(("TimeLimit", *_SCRIPT_ENDED))
        except SchedulerDown as error:
            if not _has_time(error, deadline):
                return False


def _requeue(job: str, deadline: float) -> bool:
    while True:
        try:
            requeue(job)
            return True
        except SchedulerDown as error:
            if not _has_time(error, deadline):
                return False
        except SchedulerError as error:
            print(f"error: {error}", file=sys.stderr)
            return False


def _has_time(error: SchedulerDown, deadline: float) -> bool:
    """Wait a moment for a controller that does not answer; False: it has been enough."""
    if time.monotonic() > deadline:
        print(f"error: {error}", file=sys.stderr)
        return False
    time.sleep(_PAUSE)
    return True


def main(words: Sequence[str]) -> int:
    """In the batch script."""
    submission = Submission(Path(os.environ[SUBMISSION]))
    with writing_run(submission.folder):
        return _run(submission, words)


def _run(submission: Submission, words: Sequence[str]) -> int:
    array = len(submission.members) > 1
    member = submission.members[int(os.environ["SLURM_ARRAY_TASK_ID"]) if array else 0]
    if words[0] == "begin":
        attempt = begin(submission, member)
        if attempt.end:
            return int(attempt.end["code"])
        print(attempt.folder)
        return TRAINED
    attempt = Attempt(Path(os.environ[ATTEMPT]))
    return end(submission, member, attempt, int(words[1]), int(words[2]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
