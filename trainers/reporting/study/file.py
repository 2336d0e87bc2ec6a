"""A study's folder: study.json says which trainings it consists of and what each part asks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.load import written_signature
from trainers.reporting.runs.read import read_run
from trainers.reporting.runs.record import Run

STUDY = "study.json"
_OUTCOMES = "outcomes.json"


@dataclass(frozen=True)
class StudyMember:
    """One training, as one part sees it."""

    label: str
    recipe: str
    varied: dict[str, Any]
    """The part's grid fields (dotted keys) with this member's values."""
    seed: int
    run: str
    """<recipe>/<name> below the output folder."""
    signature: str


@dataclass(frozen=True)
class StudyPart:
    """One question of a study."""

    name: str
    title: str
    text: str
    curve: str | None
    """Recipe field over which its scores are drawn."""
    start_from: dict[str, str] | None
    """Part and recipe whose weights its trainings begin with."""
    members: tuple[StudyMember, ...]


@dataclass(frozen=True)
class Study:
    """What study.json says."""

    folder: Path
    name: str
    title: str
    method: str
    baselines: bool
    command: str
    grid: str
    parts: tuple[StudyPart, ...]

    @property
    def output(self) -> Path:
        """The folder of all run directories: two above the study's, so that all may be moved."""
        return self.folder.absolute().parents[1]


@dataclass(frozen=True)
class Members:
    """The runs of a study."""

    found: dict[str, Run]
    """By <recipe>/<name>; each once, however many parts it stands in."""
    missing: dict[str, str]
    """Why the others are not there."""


def read_study(folder: Path) -> Study:
    """Read ``study.json``. Raises InputError where it is missing or damaged."""
    path = folder / STUDY
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Study(
            folder=folder,
            name=str(document["name"]),
            title=str(document["title"] or document["name"]),
            method=str(document["method"] or ""),
            baselines=bool(document["baselines"]),
            command=str(document["command"]),
            grid=str(document["grid"]),
            parts=tuple(_part(part) for part in document["parts"]),
        )
    except OSError:
        raise InputError(f"{folder}: no study's folder (no {STUDY})") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: damaged ({error!r}); `sokhan sweep GRID` writes it again") from None


def _part(values: dict[str, Any]) -> StudyPart:
    source = values.get("start_from")
    return StudyPart(
        name=str(values["name"]),
        title=str(values["title"] or values["name"]),
        text=str(values["text"] or ""),
        curve=_curve(values.get("curve")),
        start_from={key: str(value) for key, value in source.items()} if source else None,
        members=tuple(
            StudyMember(
                label=str(member["label"]),
                recipe=str(member["recipe"]),
                varied=dict(member["varied"]),
                seed=int(member["seed"]),
                run=str(member["run"]),
                signature=str(member["signature"]),
            )
            for member in values["members"]
        ),
    )


def _curve(field: Any) -> str | None:
    """What is measured on a trained model changes none of its scores: over that there is no curve."""
    return None if not field or f"{field}.".startswith("analysis.") else str(field)


def read_members(study: Study, left_out: Sequence[str] = ()) -> Members:
    """All runs that have finished with the study's settings, and why the others have not.

    ``left_out`` are lines that name a run (as whoever trains them tells it) and why it is missing.
    """
    found: dict[str, Run] = {}
    missing: dict[str, str] = {}
    outcomes = _outcomes(study.folder)
    for member in (member for part in study.parts for member in part.members):
        if member.run in found or member.run in missing:
            continue
        path = study.output / member.run
        if (path / "summary.json").is_file() and written_signature(path) != member.signature:
            missing[member.run] = "its folder holds a run with other settings"
            continue
        try:
            found[member.run] = read_run(path)
        except InputError as error:
            told = [line for line in left_out if member.run in line]
            missing[member.run] = outcomes.get(member.run) or (told[0] if told else str(error))
    return Members(found, missing)


def _outcomes(folder: Path) -> dict[str, str]:
    """The last line of the error of each training that failed on this machine."""
    try:
        document = json.loads((folder / _OUTCOMES).read_text(encoding="utf-8"))
        words = {run: str(row["words"]).strip() for run, row in document.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # a reason that cannot be told is no reason to write no page
    return {run: f"failed: {text.splitlines()[-1]}" for run, text in words.items() if text}
