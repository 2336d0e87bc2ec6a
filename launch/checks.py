"""What can be said against a training before any process starts, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from configs.access import group_id
from configs.beginning import Beginning
from configs.check import check_kind, check_ranks
from configs.errors import InputError
from configs.heads import command_that_makes, shipped_file
from configs.load import AnyRecipe, free_run_folder, left_to_train, load_recipe, run_folder


def load_unfinished(names: Sequence[str], overrides: Sequence[str], beginning: Beginning) -> list[AnyRecipe]:
    """The recipes that are left to train; of the others it is told that they have finished."""
    given = [load_recipe(name, overrides) for name in names]
    recipes = left_to_train(given, beginning.overwrite)
    for recipe in given:
        if recipe not in recipes:
            print(f"{recipe.recipe}: finished already, {run_folder(recipe)}", flush=True)
    return recipes


def check(recipe: AnyRecipe, ranks: int, gpus: int, beginning: Beginning, grid: Path | None = None) -> None:
    """Raise InputError for what a training would stumble over in its first second.

    ``gpus`` are those of the machine that is to train; 0: none, or not known. ``grid``: the file of
    the grid that the training belongs to.
    """
    if ranks < 1:
        raise InputError(f"--ranks {ranks}: use at least 1")
    from data_shards.index import MANIFEST, open_index
    from data_shards.splits import load_split

    check_ranks(recipe, ranks)
    group_id(recipe.output.group)
    if gpus and ranks > gpus:
        raise InputError(f"--ranks {ranks}: this machine has {gpus} GPU(s); use at most as many ranks")
    there = (Path(recipe.data.shards) / MANIFEST).is_file()
    index = open_index(recipe.data.shards, "" if there else _packing(recipe, grid))
    check_kind(recipe, index.manifest.kind)
    load_split(index, recipe.data.split)
    free_run_folder(recipe, beginning.overwrite)


def _packing(recipe: AnyRecipe, grid: Path | None) -> str:
    """The command that makes a recipe's shards, if the head of its grid or of its file names one."""
    folder = recipe.data.shards
    return command_that_makes(folder, grid) or command_that_makes(folder, shipped_file(recipe.recipe))
