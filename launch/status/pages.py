"""The jobs that write the pages of studies, for `sokhan status` and `sokhan cancel`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs.grid import shipped_grids
from launch.slurm.job_files import is_done
from launch.slurm.page_job import PAGE, PageJob, note_page, read_page
from launch.slurm.scheduler import (
    JobState,
    SchedulerDown,
    SchedulerError,
    cancel,
    is_job_id,
    job_states,
)
from launch.slurm.submission import FOLDER
from launch.status.state import PENDING, State
from launch.sweep_folder import open_sweep


@dataclass(frozen=True)
class PageStatus:
    """How the job of a page stands."""

    page: PageJob
    state: State
    detail: str = ""
    """Why it waits, where it runs, or where to read what went wrong."""

    def __str__(self) -> str:
        """One line, as status tells it."""
        detail = f": {self.detail}" if self.detail else ""
        return f"page: job {self.page.job} {self.state}{detail}"


def find_pages(words: Sequence[str], folder: Path) -> list[PageJob]:
    """The jobs of pages that belong to what the words name, each once, oldest first: sweeps by folder
    or grid, folders of sweeps, submissions, jobs below ``folder``. Words without a page give none."""
    found = [page for word in words for page in _find(word, folder)]
    return sorted({page.submission: page for page in found}.values(), key=lambda page: page.submission.name)


def page_statuses(pages: Sequence[PageJob]) -> list[PageStatus]:
    """How they stand, by their files and, if it answers, by the scheduler. Of the pages of one sweep
    only the newest counts, and what is yet to end."""
    known: dict[str, JobState] = {}
    answered = True
    try:
        known = job_states([page.job for page in pages])
    except SchedulerDown:
        answered = False
    newest = {page.submission.parent: page for page in pages}.values()
    found = [_standing(page, known.get(page.job), answered) for page in pages]
    return [one for one in found if one.state in PENDING or one.page in newest]


def pending_pages(folder: Path) -> list[PageStatus]:
    """The jobs of the pages of a sweep that are yet to end, oldest first."""
    return [one for one in page_statuses(find_pages([str(folder)], folder)) if one.state in PENDING]


def cancel_page(status: PageStatus) -> int:
    """End a page's job that is yet to end; 1 if it could not be."""
    page = status.page
    if status.state not in PENDING:
        print(f"job {page.job}, the page: nothing to cancel, {status.state}")
        return 0
    try:
        told = "cancelled" if cancel(page.job) else "had ended already"
    except SchedulerError as error:
        print(f"error: job {page.job}, the page: {error}", file=sys.stderr)
        return 1
    print(f"job {page.job}, the page: {told}")
    note_page(replace(page, cancelled=True))
    return 0


def _find(word: str, folder: Path) -> list[PageJob]:
    path = Path(word).expanduser()
    if path.is_dir():
        return _below(path, "", f"{FOLDER}/*/", f"*/{FOLDER}/*/", f"*/*/{FOLDER}/*/")
    if path.is_file() or word in shipped_grids():
        return _below(open_sweep(path if path.is_file() else word)[0], f"{FOLDER}/*/")
    if is_job_id(word):
        return [page for page in _below(folder, f"*/*/{FOLDER}/*/") if page.job == word]
    return []


def _below(folder: Path, *patterns: str) -> list[PageJob]:
    paths = [path for pattern in patterns for path in folder.absolute().glob(f"{pattern}{PAGE}")]
    return [page for path in paths if (page := read_page(path.parent))]


def _standing(page: PageJob, known: JobState | None, answered: bool) -> PageStatus:
    if known and known.waits:
        return PageStatus(page, "waiting", known.reason)
    if known and known.active:
        return PageStatus(page, "running", f"on {known.nodes}" if known.nodes else "")
    if is_done(page.submission, page.job):
        return PageStatus(page, "finished")
    if page.cancelled or (known and known.state == "CANCELLED"):
        return PageStatus(page, "cancelled")
    if not answered:
        return PageStatus(page, "running" if page.log.is_file() else "waiting")
    if page.log.is_file():
        return PageStatus(page, "failed", f"see {page.log}")
    return PageStatus(page, "ended", "without a word")
