"""`sokhan status`: how trainings stand, from what their folders say and, where it answers, SLURM."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launch.slurm.scheduler import JobState, SchedulerDown, job_states
from launch.slurm.submission import Attempt
from launch.status.pages import find_pages, page_statuses
from launch.status.progress import Progress, read_progress
from launch.status.state import PENDING, State, standing_of
from launch.status.targets import Target, find_targets, submitted_targets


@dataclass(frozen=True)
class Status:
    """One training."""

    run: str
    state: State
    detail: str = ""
    """Reason, nodes, or the last line of the error."""
    label: str = ""
    """What tells it from the others of a sweep."""
    job: str = ""
    starts: int = 0
    progress: Progress = Progress(None, None, None, None)
    log: str = ""
    """Where to read more about a failure."""
    submission: str = ""


def run_status(words: Sequence[str], folder: Path, as_json: bool) -> int:
    """Print how the named trainings and the pages of their studies stand; without words all that was
    submitted below ``folder`` and is not finished."""
    pages = page_statuses(find_pages(words or [str(folder)], folder))
    numbers = {page.page.job for page in pages}
    named = [word for word in words if word not in numbers]
    targets = find_targets(named, folder) if words else submitted_targets(folder)
    found, note = statuses(targets)
    if not words:
        found = [status for status in found if status.state != "finished"]
        pages = [page for page in pages if page.state in PENDING]
    if as_json:
        rows = [dataclasses.asdict(status) for status in found]
        told = [{"job": one.page.job, "state": one.state, "detail": one.detail} for one in pages]
        document = {"scheduler": note or "ok", "trainings": rows, "pages": told}
        print(json.dumps(document, indent=1))
        return 0
    if found or not pages:
        print(table(found) if found else f"nothing unfinished was submitted below {folder}")
    for page in pages:
        print(page)
    if note:
        print(f"note: {note}; what is told is what the files say", file=sys.stderr)
    return 0


def statuses(targets: Sequence[Target]) -> tuple[list[Status], str]:
    """How each training stands, and why the scheduler was not heard; empty: it was, or need not be."""
    jobs = [one.job for one in targets if one.submission and one.submission.cluster == "slurm"]
    known: dict[str, JobState] = {}
    note = ""
    try:
        known = job_states([job for job in jobs if job])
    except SchedulerDown as down:
        note = str(down)
    return [_status(one, known.get(one.job), not note) for one in targets], note


def table(found: Sequence[Status]) -> str:
    """One line a training, a second one for what there is to say of it, and counts."""
    rows = [("JOB", "STATE", "STEP", "STARTS", "RUN")]
    rows += [(s.job or "-", s.state, str(s.progress), str(s.starts), _short(s.run)) for s in found]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = []
    for row, status in zip(rows, [None, *found], strict=True):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[4]]))
        if status and (status.label or status.detail):
            lines.append("    " + ": ".join(filter(None, [status.label, status.detail])))
        if status and status.log:
            lines.append(f"    log: {_short(status.log)}")
    if len(found) > 1:
        counts = Counter(status.state for status in found)
        told = ", ".join(f"{count} {state}" for state, count in counts.items())
        lines.append(f"{len(found)} trainings: {told}")
    return "\n".join(lines)


def _status(target: Target, known: JobState | None, answered: bool) -> Status:
    submission, member = target.submission, target.member
    recipe_file = member.recipe_file if member else target.run / "config.yaml"
    standing = standing_of(target, known, answered)
    status = Status(
        str(target.run),
        standing.state,
        standing.detail,
        target.label,
        target.job,
        progress=read_progress(target.run, recipe_file),
    )
    if submission is None or member is None:
        return status
    starts = submission.attempts(member)
    status = replace(status, submission=str(submission.folder), starts=len(starts))
    if standing.state not in ("failed", "ended"):
        return status
    log = submission.logs(member, failed_rank(starts, member.ranks))[1]
    return replace(status, log=str(log) if log.is_file() else str(submission.folder))


def failed_rank(starts: Sequence[Attempt], ranks: int) -> int:
    """The first rank that failed in the newest start; 0 if none says so."""
    words = starts[-1].statuses(ranks).values() if starts else ()
    return next((word.rank for word in words if word.state == "failed"), 0)


def _short(path: str) -> str:
    """Relative to the current folder, where it lies below."""
    with contextlib.suppress(ValueError):
        return str(Path(path).relative_to(Path.cwd()))
    return path
