"""A sweep's folder, ``<output.folder>/sweeps/<name>/``: which trainings it consists of, and how those
ended that were trained on this machine.

``sweep.yaml`` is what was asked last; its run directories are told from the output folder, so that all
of it may be moved. ``slurm/`` holds the submissions, ``outcomes.json`` the ends of local trainings. A
study's has ``study.json``, too (launch/sweeps/study_file.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import yaml

from configs.access import make_run_folder, writing_run
from configs.cluster import load_cluster
from configs.errors import InputError
from configs.files import write_json, write_text
from configs.grid import Grid, find_grid, load_grid
from configs.load import read_yaml, signature
from configs.study import GridMember, members, sweep_folder

SWEEP = "sweep.yaml"
OUTCOMES = "outcomes.json"


@dataclass(frozen=True)
class SweepMember:
    """One training of a sweep."""

    label: str
    """Recipe, varied settings and seed."""
    run: Path
    signature: str


@dataclass(frozen=True)
class Outcome:
    """How a training ended that has not finished."""

    time: str
    """ISO, with the zone."""
    code: int
    """Exit code of `sokhan train`."""
    words: str
    """The error."""


def is_sweep(path: Path) -> bool:
    """Whether this is a sweep's folder."""
    return (path / SWEEP).is_file()


def open_sweep(name: str | Path) -> tuple[Path, list[SweepMember]]:
    """Folder and trainings of a sweep, which is named by its folder or by its grid.

    Of a grid that was swept it is what was asked last, with the fields of that command line; of another
    one what it would be, with the usual site's settings.
    """
    if is_sweep(Path(name)):
        return Path(name), read_sweep(Path(name))
    grid = load_grid(find_grid(name))
    trainings = members(grid, load_cluster().recipe)
    folder = sweep_folder(grid, trainings)
    if is_sweep(folder) and read_yaml(folder / SWEEP).get("grid") == str(grid.path.absolute()):
        return folder, read_sweep(folder)
    return folder, [recorded(training) for training in trainings]


def recorded(member: GridMember) -> SweepMember:
    """What a sweep keeps of a training."""
    return SweepMember(member.label, member.run, signature(member.recipe))


def write_sweep(folder: Path, grid: Grid, trainings: Sequence[GridMember], command: str) -> tuple[int, int]:
    """Write ``sweep.yaml``; returns how many trainings are new in it, and how many are no longer.

    The folder is closed as the run directories are, to all but the first training's ``output.group``.
    """
    runs = {member.run.resolve() for member in trainings}
    before = {member.run.resolve() for member in read_sweep(folder)} if is_sweep(folder) else runs
    rows = [
        {
            "label": member.label,
            "recipe": member.name,
            "settings": list(member.words),
            "run": short_name(member.run),
            "signature": signature(member.recipe),
        }
        for member in trainings
    ]
    document = {
        "name": grid.name,
        "grid": str(grid.path.absolute()),
        "command": command,
        "members": rows,
    }
    group = trainings[0].recipe.output.group
    make_run_folder(folder, group)
    with writing_run(folder, group):
        write_text(folder / SWEEP, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    return len(runs - before), len(before - runs)


def read_sweep(folder: Path) -> list[SweepMember]:
    """The trainings of a sweep. Raises InputError if its file is damaged."""
    document = read_yaml(folder / SWEEP)
    try:
        return [
            SweepMember(str(row["label"]), _output_folder(folder) / row["run"], str(row["signature"]))
            for row in document["members"]
        ]
    except (KeyError, TypeError):
        raise InputError(f"{folder / SWEEP}: damaged; `sokhan sweep GRID` writes it again") from None


def read_outcomes(folder: Path) -> dict[str, Outcome]:
    """How those trainings of this machine have ended that failed, by ``<recipe>/<name>``."""
    try:
        document = json.loads((folder / OUTCOMES).read_text(encoding="utf-8"))
        return {str(run): Outcome(**row) for run, row in document.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError):
        raise InputError(f"{folder / OUTCOMES}: damaged; remove it") from None


def note_outcome(folder: Path, run: Path, code: int, words: str = "") -> None:
    """Note how a training has ended; 0: that there is nothing to tell of it any longer."""
    outcomes = read_outcomes(folder)
    if not outcomes.pop(short_name(run), None) and not code:
        return
    if code:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        outcomes[short_name(run)] = Outcome(now, code, words)
    with writing_run(folder):
        write_json(folder / OUTCOMES, {key: asdict(outcome) for key, outcome in outcomes.items()})


def short_name(run: Path) -> str:
    """<recipe>/<name>: a run directory as it lies in the output folder."""
    return f"{run.parent.name}/{run.name}"


def _output_folder(folder: Path) -> Path:
    return folder.parents[1] if len(folder.parents) > 1 else folder.absolute().parents[1]
