"""`sokhan cancel`: end jobs. Running ones save first, as at any other signal."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from launch.slurm.ask import SchedulerError
from launch.slurm.local_process import ask_to_stop, process_of
from launch.slurm.scheduler import cancel
from launch.slurm.submission import Submission
from launch.status.state import PENDING
from launch.status.status import Status, statuses
from launch.status.targets import Training, find_trainings


def run_cancel(words: Sequence[str], folder: Path) -> int:
    """Cancel the named trainings; 1 if one of them that is alive could not be. What has ended stays as
    it is."""
    trainings = find_trainings(words, folder)
    found, note = statuses(trainings)
    live: dict[Path, list[Training]] = defaultdict(list)
    code = 0
    for training, status in zip(trainings, found, strict=True):
        name = f"job {training.job}" if training.job else str(training.run)
        if status.state not in PENDING:
            print(f"{name}: nothing to cancel, {status.state}")
        elif training.submission and training.member and training.submission.job:
            live[training.submission.folder].append(training)
        else:
            code = 1
            print(f"error: {name}: {_not_ours(status)}", file=sys.stderr)
    for group in live.values():
        submission = group[0].submission
        assert submission
        if submission.cluster == "slurm":
            code = max(code, _cancel_jobs(submission, group))
        else:
            code = max(code, *(_stop(submission, training) for training in group))
    return code


def _cancel_jobs(submission: Submission, group: Sequence[Training]) -> int:
    """An array that is to end as a whole is ended by one request."""
    whole = len(group) == len(submission.members)
    code = 0
    for job in [submission.job] if whole else [training.job for training in group]:
        try:
            told = "cancelled; it saves first if it runs" if cancel(job) else "had ended already"
            print(f"job {job}: {told}")
        except SchedulerError as error:
            print(f"error: job {job}: {error}", file=sys.stderr)
            code = 1
    return code


def _stop(submission: Submission, training: Training) -> int:
    assert training.member
    attempts = submission.attempts(training.member)
    process = process_of(submission, attempts[-1].start if attempts else {})
    if process is None or not ask_to_stop(process):
        print(f"job {training.job}: had ended already")
    else:
        print(f"job {training.job}: process {process.pid} was asked to save and stop")
    return 0


def _not_ours(status: Status) -> str:
    return f"not a job ({status.detail}); stop it where it was started, with Ctrl-C"
