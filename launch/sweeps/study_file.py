"""``study.json`` in a sweep's folder: what the page of a study needs to know, so that it can be written
without the grid file, and after the folder was moved with its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.access import writing_run
from configs.errors import InputError
from configs.files import write_json
from configs.grid import Grid
from configs.load import flatten, signature, to_dict
from configs.parts import Part
from configs.study import GridMember
from launch.sweep_folder import short_name

STUDY = "study.json"


def is_study(folder: Path) -> bool:
    """Whether this is the folder of a sweep with parts."""
    return (folder / STUDY).is_file()


def write_study_file(
    folder: Path, grid: Grid, parts: Mapping[str, Sequence[GridMember]], command: str
) -> None:
    """Write ``study.json`` for a grid with parts, and remove an older one for one without.

    ``folder`` is the sweep's and there already. Runs are named ``<recipe>/<name>``, below the output
    folder, in which the sweep's lies at ``sweeps/<name>``.
    """
    with writing_run(folder):
        if not grid.is_study:
            (folder / STUDY).unlink(missing_ok=True)
            return
        try:
            text = grid.path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{grid.path}: cannot be read: {error}") from None
        document = {
            "name": grid.name,
            "title": grid.title or grid.name,
            "method": grid.method,
            "baselines": grid.baselines,
            "command": command,
            "grid": text,
            "parts": [_part(part, parts[part.name]) for part in grid.parts],
        }
        write_json(folder / STUDY, document)


def _part(part: Part, members: Sequence[GridMember]) -> dict[str, Any]:
    return {
        "name": part.name,
        "title": part.title or part.name,
        "text": part.text,
        "curve": part.curve,
        "start_from": asdict(part.start_from) if part.start_from else None,
        "members": [_member(member) for member in members],
    }


def _member(member: GridMember) -> dict[str, Any]:
    return {
        "label": member.short_label,
        "recipe": member.recipe.recipe,
        "varied": _as_read(member),
        "seed": member.recipe.seed,
        "run": short_name(member.run),
        "signature": signature(member.recipe),
        "source": short_name(member.source) if member.source else None,
    }


def _as_read(member: GridMember) -> dict[str, Any]:
    """The varied fields with the values that the recipe has: YAML takes 1e-5 for text."""
    read = flatten(to_dict(member.recipe))
    return {key: read.get(key, value) for key, value in member.varied.items()}
