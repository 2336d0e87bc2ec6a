"""`sokhan export RUN`: a checkpoint of a run as a model folder, like the one that ends a run."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from configs.errors import InputError
from configs.load import load_recipe
from data_shards.index import open_index
from data_shards.splits import load_split
from trainers.checkpoints.checkpoint import CHECKPOINTS, Checkpoint, Damaged, list_checkpoints
from trainers.checkpoints.facts import TAG
from trainers.opening import copy_made
from trainers.ranks.world import join_world, leave_world
from trainers.run import card_facts, open_task


def export_run(run: Path, tag: str, out: Path, overwrite: bool) -> str:
    """Write the weights of the checkpoint ``tag`` of ``run`` ("": its newest) as the model folder
    ``out``; returns the tag. Raises InputError where a file is missing, damaged or in the way."""
    if not (run / "config.yaml").is_file():
        raise InputError(f"{run}: not a run directory (no config.yaml); runs lie in runs/<recipe>/<name>")
    if out.exists() and not overwrite:
        raise InputError(f"{out}: exists already; replace it with --overwrite or choose another")
    if out.exists() and not (out / "config.json").is_file():
        raise InputError(f"{out}: is no model folder, and is not replaced; choose another --out")
    folder = _checkpoint(run, tag)
    try:
        checkpoint = Checkpoint(folder)
        checkpoint.verify(0, 1)
    except Damaged as error:
        raise InputError(str(error)) from None
    recipe = load_recipe(run / "config.yaml")
    index = open_index(Path(recipe.data.shards))
    split = load_split(index, recipe.data.split)
    world = join_world()
    try:
        with tempfile.TemporaryDirectory(prefix="sokhan-") as scratch:
            copy_made(run, Path(scratch))
            task = open_task(recipe, index, split, Path(scratch), world)
            weights = f"The weights are those of {folder.name}; no other scores of them were kept."
            facts = dataclasses.replace(
                card_facts(recipe, index, split, {}), limits=(weights,), command=_command(run)
            )
            task.export(checkpoint.as_state(), out, facts)
    finally:
        checkpoint.close()
        leave_world(world)
    return folder.name


def _command(run: Path) -> str:
    """The command that trained the run, which is not the one that exports it; "": not kept."""
    try:
        return (run / "command.txt").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _checkpoint(run: Path, tag: str) -> Path:
    found = list_checkpoints(run / CHECKPOINTS)
    if not found:
        raise InputError(f"{run}: has no checkpoints")
    if not tag:
        return found[0]
    named = [folder for folder in found if folder.name == tag]
    if not TAG.fullmatch(tag) or not named:
        names = ", ".join(folder.name for folder in found)
        raise InputError(f"{run}: has no checkpoint {tag!r}; there are {names}")
    return named[0]
