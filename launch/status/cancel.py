"""`sokhan cancel`: end jobs. Running ones save first, as at any other signal."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from launch.slurm.ask import SchedulerError
from launch.slurm.local_process import ask_to_stop, process_of
from launch.slurm.scheduler import cancel
from launch.slurm.submission import Submission, note_cancelled
from launch.status.pages import cancel_page, find_pages, page_statuses
from launch.status.state import PENDING
from launch.status.status import Status, statuses
from launch.status.targets import Target, find_targets


def run_cancel(words: Sequence[str], folder: Path) -> int:
    """Cancel the named trainings, and the jobs of their studies' pages; 1 if one of them that is alive
    could not be. What has ended stays as it is."""
    pages = page_statuses(find_pages(words, folder))
    numbers = {page.page.job for page in pages}
    targets = find_targets([word for word in words if word not in numbers], folder)
    found, _ = statuses(targets)
    # A page is written when the trainings have ended, so its job is ended before them.
    code = max((cancel_page(page) for page in pages), default=0)
    live: dict[Path, list[Target]] = defaultdict(list)
    for target, status in zip(targets, found, strict=True):
        name = f"job {target.job}" if target.job else str(target.run)
        if status.state not in PENDING:
            print(f"{name}: nothing to cancel, {status.state}")
        elif target.submission and target.member and target.submission.job:
            live[target.submission.folder].append(target)
        else:
            code = 1
            print(f"error: {name}: {_not_ours(status)}", file=sys.stderr)
    for group in live.values():
        submission = group[0].submission
        assert submission
        if submission.cluster == "slurm":
            code = max(code, _cancel_jobs(submission, group))
        else:
            code = max(code, *(_stop(submission, target) for target in group))
    return code


def _cancel_jobs(submission: Submission, group: Sequence[Target]) -> int:
    """An array that is to end as a whole is ended by one request."""
    whole = len(group) == len(submission.members)
    code = 0
    ends = {submission.job: group} if whole else {target.job: [target] for target in group}
    for job, ended in ends.items():
        try:
            told = "cancelled; it saves first if it runs" if cancel(job) else "had ended already"
            print(f"job {job}: {told}")
            for target in ended:
                assert target.member
                note_cancelled(submission, target.member)
        except SchedulerError as error:
            print(f"error: job {job}: {error}", file=sys.stderr)
            code = 1
    return code


def _stop(submission: Submission, target: Target) -> int:
    assert target.member
    process = process_of(submission, submission.newest_attempt(target.member))
    if process is None or not ask_to_stop(process):
        print(f"job {target.job}: had ended already")
    else:
        print(f"job {target.job}: process {process.pid} was asked to save and stop")
    return 0


def _not_ours(status: Status) -> str:
    return f"not a job ({status.detail}); stop it where it was started, with Ctrl-C"
