"""A grid -> its trainings: whole recipes, each with a run directory of its own.

In a study a training may go on from another one's model, and may stand in several parts; it is
trained once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from configs.check import check_recipe
from configs.errors import InputError
from configs.grid import Grid
from configs.load import AnyRecipe, load_recipe, run_folder
from configs.parts import Part, value_text

MOST = 1000
"""Members of a grid: as many as SLURM's usual MaxArraySize lets into one array."""
MODEL = "model"
"""Folder of a finished run that holds its model."""


@dataclass(frozen=True)
class GridMember:
    """One training of a grid."""

    name: str
    """The recipe as the grid names it."""
    words: tuple[str, ...]
    """All that is set over the recipe's file, as command-line words."""
    recipe: AnyRecipe
    varied: dict[str, Any]
    """The part's `grid` fields with this member's values."""
    part: str = ""
    """The part that it stands in, the first of several; empty in a grid without parts."""
    source: Path | None = None
    """Run directory of the training that it goes on from."""

    @cached_property
    def run(self) -> Path:
        """The run directory."""
        return run_folder(self.recipe)

    @property
    def short_label(self) -> str:
        """What tells it from the other members of its part."""
        values = [f"{key}={value_text(value)}" for key, value in self.varied.items()]
        return " ".join([self.recipe.recipe, *values, f"seed {self.recipe.seed}"])

    @property
    def label(self) -> str:
        """What tells it from all others of the grid."""
        return f"{self.part}: {self.short_label}" if self.part else self.short_label


def members(grid: Grid, site: Sequence[str] = (), overrides: Sequence[str] = ()) -> tuple[GridMember, ...]:
    """All trainings of a grid, each once, in an order in which they can be trained: by part, recipe,
    the part's values and seed; a part after the one that it starts from.

    ``site`` are a cluster's standing fields, ``overrides`` those of the command line for all members,
    both as words; later wins: recipe, site, the grid, command line, and last what `start_from` says.
    Raises InputError if a member's recipe cannot work, or if two of a part would have the same run
    directory.
    """
    return each_once(by_part(grid, site, overrides))


def each_once(parts: dict[str, tuple[GridMember, ...]]) -> tuple[GridMember, ...]:
    """The members of all parts; of one that stands in several, what the first says of it."""
    found: dict[Path, GridMember] = {}
    for member in itertools.chain.from_iterable(parts.values()):
        found.setdefault(member.run, member)
    return tuple(found.values())


def by_part(
    grid: Grid, site: Sequence[str] = (), overrides: Sequence[str] = ()
) -> dict[str, tuple[GridMember, ...]]:
    """The trainings of each part, as ``members`` orders them."""
    for flag in (word[2:].split("=")[0] for word in overrides if word.startswith("--")):
        if flag in ("seed", "output.name") or any(flag in part.varied for part in grid.parts):
            raise InputError(f"command line: --{flag} differs between the members of {grid.path}")
    size = sum(_size(part) for part in grid.parts)
    if size > MOST:
        raise InputError(f"{grid.path}: {size} trainings; a grid may have {MOST} at most")
    found: dict[str, tuple[GridMember, ...]] = {}
    for part in in_order(grid.parts):
        found[part.name] = _expand(grid, part, found, site, overrides)
    _check_output(grid, each_once(found))
    return found


def in_order(parts: Sequence[Part]) -> list[Part]:
    """The parts as they stand, but each after the one that it starts from."""
    ordered: list[Part] = []
    left = list(parts)
    while left:  # configs/grid.py has seen to it that they do not wait for each other
        done = {part.name for part in ordered}
        part = next(p for p in left if p.start_from is None or p.start_from.part in done)
        left.remove(part)
        ordered.append(part)
    return ordered


def sweep_folder(grid: Grid, trainings: Sequence[GridMember]) -> Path:
    """What belongs to the grid as a whole: <output.folder>/sweeps/<name>."""
    return Path(trainings[0].recipe.output.folder) / "sweeps" / grid.name


def _size(part: Part) -> int:
    size = len(part.recipes) * max(1, len(part.seeds))
    for values in part.grid.values():
        size *= len(values)
    return size


def _expand(
    grid: Grid,
    part: Part,
    before: dict[str, tuple[GridMember, ...]],
    site: Sequence[str],
    overrides: Sequence[str],
) -> tuple[GridMember, ...]:
    """The members of one part; ``before`` holds those of the parts that it may start from."""
    where = f"{grid.path}: part {part.name!r}" if part.name else str(grid.path)
    found: dict[Path, GridMember] = {}
    base: AnyRecipe | None = None
    seeds: tuple[int | None, ...] = part.seeds or (None,)
    for name, varied, seed in itertools.product(part.recipes, part.combinations(), seeds):
        settings = {**part.settings, **varied}
        own = [f"--{key}={value_text(value)}" for key, value in settings.items()]
        seeded = [] if seed is None else [f"--seed={seed}"]
        words = (*site, *own, *seeded, *overrides)
        try:
            if base is None or seed == seeds[0]:  # reading takes a tenth of a second
                base = load_recipe(name, words)
            member = GridMember(name, words, _with_seed(base, seed), varied, part.name)
            if part.start_from:
                member = _going_on(part, member, before[part.start_from.part])
        except InputError as error:
            text = str(error).removeprefix("command line: ")
            raise InputError(f"{where}: {' '.join([name, *own, *seeded])}: {text}") from None
        other = found.setdefault(member.run, member)
        if other is not member:
            raise InputError(
                f"{where}: {other.short_label!r} and {member.short_label!r} are the same training, "
                f"{member.run}: they differ in nothing that changes the result"
            )
    return tuple(found.values())


def _with_seed(recipe: AnyRecipe, seed: int | None) -> AnyRecipe:
    """The same with another seed; None: with its own."""
    if seed is None or seed == recipe.seed:
        return recipe
    changed = replace(recipe, seed=seed)
    check_recipe(changed)
    return changed


def _going_on(part: Part, member: GridMember, before: Sequence[GridMember]) -> GridMember:
    """The member with its weights taken from the one of ``before`` that has its seed and its values,
    or from the only one."""
    assert part.start_from
    named = [other for other in before if other.name == part.start_from.recipe]
    alike = [other for other in named if _alike(member, other)]
    fit = named if len(named) == 1 else alike
    if len(fit) != 1:
        told = ", ".join(repr(other.short_label) for other in (fit or named)[:4])
        several = f"{len(fit)} trainings have" if fit else "no training has"
        raise InputError(
            f"start_from: in part {part.start_from.part!r} {several} its seed and values; there are {told}"
        )
    source = fit[0].run
    words = (*member.words, f"--model.pretrained={source / MODEL}", "--model.revision=null")
    model: Any = replace(member.recipe.model, pretrained=str(source / MODEL), revision=None)
    recipe = replace(member.recipe, model=model)
    return replace(member, words=words, recipe=recipe, source=source)


def _alike(member: GridMember, other: GridMember) -> bool:
    """Whether they have the same seed, and the same value of each field that varies in both parts."""
    shared = member.varied.keys() & other.varied.keys()
    return member.recipe.seed == other.recipe.seed and all(
        value_text(member.varied[key]) == value_text(other.varied[key]) for key in shared
    )


def _check_output(grid: Grid, trainings: Sequence[GridMember]) -> None:
    folders = sorted({member.recipe.output.folder for member in trainings})
    if len(folders) > 1:
        raise InputError(
            f"{grid.path}: members would write to {' and '.join(folders)}; give all of them one "
            "output.folder under 'settings'"
        )
