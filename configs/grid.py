"""A grid of trainings: recipes x settings x seeds, as a YAML file for ``sokhan sweep``.

Each member is a whole recipe with a run directory of its own. Nothing here depends on where and how
the members are trained.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.load import FOLDER, AnyRecipe, load_recipe, read_yaml, run_folder, shipped

MOST = 1000
"""Members of a grid: as many as SLURM's usual MaxArraySize lets into one array."""


@dataclass(frozen=True)
class Grid:
    """What a grid file says."""

    path: Path
    name: str
    """Names the sweep's folder; the file's name if not given."""
    recipes: tuple[str, ...]
    """Files or shipped names."""
    seeds: tuple[int, ...] = ()
    """Seeds of each training; none: each recipe's own."""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Recipe fields of all members, such as `loop.epochs: 3`."""
    grid: dict[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    """Recipe fields with the values that they take; all combinations are trained."""
    at_most: int | None = None
    """Members that train at the same time on a cluster; null: as many as it lets."""


@dataclass(frozen=True)
class GridMember:
    """One training of a grid."""

    name: str
    """The recipe as the grid names it."""
    words: tuple[str, ...]
    """All that is set over the recipe's file, as command-line words."""
    recipe: AnyRecipe
    varied: dict[str, Any]
    """The grid's fields with this member's values."""

    @property
    def run(self) -> Path:
        """The run directory."""
        return run_folder(self.recipe)

    @property
    def label(self) -> str:
        """What tells it from the other members."""
        values = [f"{key}={_text(value)}" for key, value in self.varied.items()]
        return " ".join([self.recipe.recipe, *values, f"seed {self.recipe.seed}"])


def shipped_grids() -> list[str]:
    """Names of all grids in the package."""
    return shipped("recipes")


def find_grid(name: str | Path) -> Path:
    """Path of a grid: a file, or one shipped with the package. Raises InputError with the nearest."""
    path = Path(name)
    if path.is_file():
        return path
    packaged = FOLDER / path.with_suffix(".yaml")
    if not path.is_absolute() and packaged.is_file():
        return packaged
    known = shipped_grids()
    near = difflib.get_close_matches(str(name), known, 3, 0.4) or known
    raise InputError(f"{name}: no such grid file; those that come with sokhan: {', '.join(near)}")


def load_grid(name: str | Path) -> Grid:
    """Read a grid file. Raises InputError, one line, that names file and key."""
    path = find_grid(name)
    document = read_yaml(path)
    if "task" in document:
        raise InputError(f"{path}: a recipe, not a grid; use `sokhan train {name}`")
    known = [f.name for f in dataclasses.fields(Grid) if f.name != "path"]
    for key in document:
        if key not in known:
            raise InputError(f"{path}: unknown key {key!r}; a grid has {', '.join(known)}")
    varied = _section(path, "grid", document)
    grid = Grid(
        path,
        name=document.get("name", path.stem),
        recipes=tuple(_list(path, "recipes", document.get("recipes"), str)),
        seeds=tuple(_list(path, "seeds", document["seeds"], int)) if "seeds" in document else (),
        settings=_section(path, "settings", document),
        grid={key: tuple(_list(path, f"grid.{key}", values)) for key, values in varied.items()},
        at_most=document.get("at_most"),
    )
    _check(grid)
    return grid


def members(
    grid: Grid, site: Sequence[str] = (), overrides: Sequence[str] = ()
) -> tuple[GridMember, ...]:
    """All trainings of a grid, by recipe, then by the grid's values, then by seed.

    ``site`` are a cluster's standing fields, ``overrides`` those of the command line for all members,
    both as words; later wins: recipe, site, the grid, command line. Raises InputError if a member's
    recipe cannot work, or if two would have the same run directory.
    """
    for flag in (word[2:].split("=")[0] for word in overrides if word.startswith("--")):
        if flag in ("seed", "output.name") or flag in grid.grid:
            raise InputError(f"command line: --{flag} differs between the members of {grid.path}")
    combinations = list(itertools.product(*grid.grid.values()))
    seeds: Sequence[int | None] = grid.seeds or (None,)
    size = len(grid.recipes) * len(combinations) * len(seeds)
    if size > MOST:
        raise InputError(f"{grid.path}: {size} trainings; a grid may have {MOST} at most")
    found: list[GridMember] = []
    for name, values, seed in itertools.product(grid.recipes, combinations, seeds):
        varied = dict(zip(grid.grid, values, strict=True))
        settings = {**grid.settings, **varied, **({} if seed is None else {"seed": seed})}
        own = [f"--{key}={_text(value)}" for key, value in settings.items()]
        words = (*site, *own, *overrides)
        try:
            found.append(GridMember(name, words, load_recipe(name, words), varied))
        except InputError as error:
            text = str(error).removeprefix("command line: ")
            raise InputError(f"{grid.path}: {' '.join([name, *own])}: {text}") from None
    _check_folders(grid, found)
    return tuple(found)


def sweep_folder(grid: Grid, trainings: Sequence[GridMember]) -> Path:
    """What belongs to the grid as a whole: <output.folder>/sweeps/<name>."""
    return Path(trainings[0].recipe.output.folder) / "sweeps" / grid.name


def _check(grid: Grid) -> None:
    if not isinstance(grid.name, str) or not re.fullmatch(
        r"[A-Za-z0-9_][\w.-]{0,63}", grid.name, re.A
    ):
        raise InputError(
            f"{grid.path}: key 'name' is {grid.name!r}; it names a folder: use letters, digits, '.', '_' "
            "and '-'"
        )  # fmt: skip
    if grid.at_most is not None and (type(grid.at_most) is not int or grid.at_most < 1):
        raise InputError(
            f"{grid.path}: key 'at_most' is {grid.at_most!r}; write a whole number above 0"
        )
    for section, keys in (("settings", grid.settings), ("grid", grid.grid)):
        for key in keys:
            if key in ("seed", "output.name"):
                other = (
                    "the list 'seeds'" if key == "seed" else "nothing: seed and settings name a run"
                )
                raise InputError(f"{grid.path}: key '{section}.{key}': use {other}")
    for key in grid.grid:
        if key in grid.settings:
            raise InputError(f"{grid.path}: key {key!r} stands in 'settings' and in 'grid'")


def _check_folders(grid: Grid, trainings: Sequence[GridMember]) -> None:
    folders = sorted({member.recipe.output.folder for member in trainings})
    if len(folders) > 1:
        raise InputError(
            f"{grid.path}: members would write to {' and '.join(folders)}; give all of them one "
            "output.folder under 'settings'"
        )
    seen: dict[Path, GridMember] = {}
    for member in trainings:
        other = seen.setdefault(member.run, member)
        if other is not member:
            raise InputError(
                f"{grid.path}: {other.label!r} and {member.label!r} are the same training, "
                f"{member.run}: they differ in nothing that changes the result"
            )


def _section(path: Path, key: str, document: dict[str, Any]) -> dict[str, Any]:
    section = document.get(key, {})
    if not isinstance(section, dict) or not all(isinstance(name, str) for name in section):
        raise InputError(f"{path}: key {key!r} is a section of recipe fields, not {section!r}")
    return section


def _list(path: Path, key: str, values: Any, kind: type | None = None) -> list[Any]:
    """A list that is not empty and holds nothing twice."""
    what = {str: "names of recipes", int: "whole numbers"}.get(kind or object, "values")
    if not isinstance(values, list) or not values:
        raise InputError(f"{path}: key {key!r} is a list of {what} such as [a, b], not {values!r}")
    seen = set()
    for value in values:
        if kind is not None and type(value) is not kind:
            raise InputError(f"{path}: key {key!r} holds {value!r}; it is a list of {what}")
        if _text(value) in seen:
            raise InputError(f"{path}: key {key!r} holds {value!r} twice")
        seen.add(_text(value))
    return values


def _text(value: Any) -> str:
    """A value as it is typed on the command line."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
