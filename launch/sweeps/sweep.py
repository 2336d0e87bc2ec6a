"""A sweep: the trainings of a grid, how each of them stands, and which are left to train."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs.beginning import Beginning
from configs.errors import InputError
from configs.grid import Grid, shipped_grids
from configs.load import written_signature
from configs.study import GridMember, by_part, each_once, sweep_folder
from launch.checks import check
from launch.last_words import last_line
from launch.slurm.submission import newest_submission
from launch.status.status import Status, statuses
from launch.status.targets import Target
from launch.sweep_folder import SweepMember, is_sweep, open_sweep, read_outcomes, short_name
from launch.sweeps.inputs import changed_input
from launch.sweeps.no_run import no_run
from launch.sweeps.study_file import is_study

IN_HAND = ("waiting", "saved", "running")
"""States of trainings that somebody sees to."""


@dataclass(frozen=True)
class Sweep:
    """A grid with its trainings."""

    grid: Grid
    trainings: tuple[GridMember, ...]
    """Each once, in the order in which they are trained here."""
    parts: Mapping[str, tuple[GridMember, ...]]
    """By the names of the grid's parts; one without a name where it has none."""

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return sweep_folder(self.grid, self.trainings)


def plan_sweep(grid: Grid, site: Sequence[str], overrides: Sequence[str]) -> Sweep:
    """The trainings of a grid; ``site`` and ``overrides`` are recipe fields for all of them."""
    parts = by_part(grid, site, overrides)
    return Sweep(grid, each_once(parts), parts)


def look(trainings: Sequence[SweepMember], folder: Path) -> tuple[list[Status], str]:
    """How the trainings stand, and why the scheduler was not heard; empty: it was, or need not be."""
    targets = []
    for member in trainings:
        run = member.run.absolute()
        newest = newest_submission(run)
        targets.append(Target(run, *newest) if newest else Target(run))
    found, note = statuses(targets)
    outcomes = read_outcomes(folder)
    seen = []
    for member, status in zip(trainings, found, strict=True):
        outcome = outcomes.get(short_name(member.run))
        if status.state == "finished" and written_signature(member.run) != member.signature:
            detail = "holds a finished run with other settings; --overwrite replaces it"
            status = replace(status, state="failed", detail=detail)
        elif status.state == "finished" and (changed := changed_input(member.run)):
            detail = f"holds a finished run from before {changed} was made anew; --overwrite replaces it"
            status = replace(status, state="failed", detail=detail)
        elif outcome and status.state not in (*IN_HAND, "finished"):
            status = replace(status, state="failed", detail=last_line(outcome.words))
        seen.append(status)
    return seen, note


def left_to_do(
    trainings: Sequence[GridMember], found: Sequence[Status], beginning: Beginning
) -> list[GridMember]:
    """Those that have neither finished nor are seen to; with ``--overwrite`` the finished ones too."""
    done = IN_HAND if beginning.overwrite else (*IN_HAND, "finished")
    return [member for member, status in zip(trainings, found, strict=True) if status.state not in done]


def check_all(
    trainings: Sequence[GridMember], ranks: int, gpus: int, beginning: Beginning, grid: Path
) -> None:
    """Raise InputError, naming the training, for what one would stumble over in its first second.
    The head of the file ``grid`` says how shards are made."""
    for member in trainings:
        try:
            check(member.recipe, ranks, gpus, beginning, grid)
        except InputError as error:
            raise InputError(f"{member.label}: {error}") from None


def describe(name: str, trainings: Sequence[SweepMember], found: Sequence[Status]) -> str:
    """A line of counts, then one for each training, with a second one for what there is to say."""
    counts = Counter(status.state for status in found)
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    lines = [f"sweep {name}: {trainings_text(len(found))}: {told}"]
    widths = [max(len(s.state) for s in found), max(len(m.label) for m in trainings)]
    for member, status in zip(trainings, found, strict=True):
        job = f" (job {status.job})" if status.job and status.state in IN_HAND else ""
        lines.append(f"  {status.state:{widths[0]}}  {member.label:{widths[1]}}  {member.run}{job}")
        if status.detail and status.state not in ("finished", "new"):
            lines.append(f"  {'':{widths[0]}}  {status.detail}")
    return "\n".join(lines)


def trainings_text(count: int) -> str:
    """A number of trainings in words."""
    return f"{count} training{'s' if count != 1 else ''}"


@dataclass(frozen=True)
class Wanted:
    """What a report is to be about."""

    runs: list[Path]
    left_out: list[str]
    """One line for each training that has not finished."""
    folder: Path | None
    """Where the report goes if nothing else is said: a sweep's folder, if one is all that is named."""
    study: Path | None = None
    """That folder, if it is a study's, which has a page of its own."""


def for_report(paths: Sequence[Path]) -> Wanted:
    """Run directories, folders of sweeps and grids -> what to report. Raises InputError for a sweep
    without a finished training, and for a folder that holds runs instead of being one."""
    study = None
    runs: list[Path] = []
    left_out: list[str] = []
    folder = None
    for path in paths:
        if not is_sweep(path) and not path.is_file() and str(path) not in shipped_grids():
            if why := no_run(path):
                raise InputError(why)
            runs.append(path)
            continue
        folder, trainings = open_sweep(path)
        found, _ = look(trainings, folder)
        done = [m.run for m, s in zip(trainings, found, strict=True) if s.state == "finished"]
        others = [_unfinished(m, s) for m, s in zip(trainings, found, strict=True) if s.state != "finished"]
        if not done:
            raise InputError(f"{path}: none of {len(found)} trainings has finished; {others[0]}")
        study = folder if len(paths) == 1 and is_study(folder) else None
        runs += done
        left_out += others
    return Wanted(runs, left_out, folder if len(paths) == 1 else None, study)


def _unfinished(member: SweepMember, status: Status) -> str:
    why = f": {status.detail}" if status.detail else ""
    return f"{member.label} ({member.run}) is {status.state}{why}"
