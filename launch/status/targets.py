"""What `sokhan status`, `logs` and `cancel` are about: run directories, sweeps and job ids -> trainings."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs.errors import InputError
from configs.grid import shipped_grids
from launch.slurm.scheduler import SchedulerError, base_id, is_job_id, show_job, submit_line
from launch.slurm.submission import FOLDER, Member, Submission, newest_submission
from launch.sweep_folder import SWEEP, Outcome, open_sweep, read_outcomes, short_name

_MEMBERS = "members.json"


@dataclass(frozen=True)
class Target:
    """A run directory, and the newest submission that is to fill it."""

    run: Path
    submission: Submission | None = None
    """None: trained by `sokhan train`, or not started yet."""
    member: Member | None = None
    label: str = ""
    """What tells it from the others of a sweep."""
    end: Outcome | None = None
    """How it ended without finishing, where a sweep trained it on this machine."""

    @property
    def job(self) -> str:
        """The scheduler's number; empty without a submission."""
        return self.submission.job_of(self.member) if self.submission and self.member else ""


def find_targets(words: Sequence[str], folder: Path) -> list[Target]:
    """The trainings that the words name, each once: run directories, sweep folders, submissions,
    grids, job ids. Raises InputError for a word that names none."""
    found = [target for word in words for target in _find(word, folder)]
    return list({target.run.absolute(): target for target in found}.values())


def submitted_targets(folder: Path) -> list[Target]:
    """All that was ever submitted to run directories and sweeps below ``folder``."""
    return _newest(_submissions(folder.glob(f"*/*/{FOLDER}/*")))


def _find(word: str, folder: Path) -> list[Target]:
    if not word:  # an unset variable of a shell must not stand for the current folder
        raise InputError("an empty name is no run directory, sweep, grid or job id")
    path = Path(word).expanduser()
    if path.is_dir():
        return _in_folder(path, word)
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        return _of_sweep(path)
    if is_job_id(word):
        return _of_job(word, folder)
    if word in shipped_grids():
        return _of_sweep(word)
    raise InputError(f"{word}: no run directory, sweep, grid or job id")


def _in_folder(path: Path, word: str) -> list[Target]:
    if (path / _MEMBERS).is_file():
        submission = Submission(path.absolute())
        return [Target(member.run, submission, member) for member in submission.members]
    if newest := newest_submission(path):
        return [Target(path.absolute(), *newest)]
    if (path / SWEEP).is_file():
        return _of_sweep(path)
    if (path / "config.yaml").is_file():
        return [Target(path.absolute())]
    found = _newest(_submissions([*path.glob(f"{FOLDER}/*"), *path.glob(f"*/{FOLDER}/*")]))
    found = found or submitted_targets(path)
    if not found:
        raise InputError(f"{word}: no run directory, and nothing was submitted below it")
    return found


def _of_sweep(name: str | Path) -> list[Target]:
    """A sweep's folder, or the grid that it was made from."""
    folder, members = open_sweep(name)
    ends = read_outcomes(folder)
    return [
        replace(_of_run(member.run.absolute()), label=member.label, end=ends.get(short_name(member.run)))
        for member in members
    ]


def _of_run(run: Path) -> Target:
    newest = newest_submission(run)
    return Target(run, *newest) if newest else Target(run)


def _of_job(job: str, folder: Path) -> list[Target]:
    """By what SLURM knows of the job, else by what lies below ``folder``."""
    number = job
    try:
        shown = show_job(job)
        # A member of an array has a number of its own, too.
        if "_" not in job and shown.get("ArrayJobId", job) != job:
            number = f"{shown['ArrayJobId']}_{shown.get('ArrayTaskId', '')}"
        paths = [shown.get("Command", ""), shown.get("StdOut", ""), _script(submit_line(job))]
    except SchedulerError:
        paths = []
    folders = [Path(path).parent for path in paths if path.startswith("/")]
    folders += sorted(folder.absolute().glob(f"*/*/{FOLDER}/*"), reverse=True)
    for submission in _submissions(folders):
        if submission.job == base_id(number):
            return _members(submission, number, job)
    for path in folders:
        if path.parent.parent.suffix == ".parts" and path.is_dir():
            raise InputError(f"job {job}: packs a corpus; see `squeue -j {job}` and the logs in {path}")
    raise InputError(
        f"job {job}: not submitted by sokhan, or its run directory is not below {folder} (--folder)"
    )


def _members(submission: Submission, number: str, job: str) -> list[Target]:
    wanted = [m for m in submission.members if number in (submission.job, submission.job_of(m))]
    if not wanted:
        raise InputError(f"job {job}: {submission.job} has no such member")
    return [Target(member.run, submission, member) for member in wanted]


def _script(line: str) -> str:
    """The script that an sbatch command names last."""
    try:
        words = shlex.split(line)
    except ValueError:
        return ""
    return words[-1] if words else ""


def _submissions(folders: Iterable[Path]) -> list[Submission]:
    return [Submission(folder) for folder in folders if (folder / _MEMBERS).is_file()]


def _newest(submissions: Sequence[Submission]) -> list[Target]:
    """The runs of some submissions, each with its newest one."""
    ordered = sorted(submissions, key=lambda submission: submission.folder.name)
    found: dict[Path, Target] = {}
    for submission in ordered:
        for member in submission.members:
            newest = newest_submission(member.run) or (submission, member)
            found[member.run] = Target(member.run, *newest)
    return list(found.values())
