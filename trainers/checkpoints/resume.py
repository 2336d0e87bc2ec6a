"""Going on where a run stopped: which checkpoint, whether it fits, and the run directory cut back to it.

A checkpoint fits when everything that can change the result is as it was: the recipe's settings that
matter, the corpus, the split and the plans made of them. Ranks, ZeRO stage and paths may differ.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.beginning import Beginning
from configs.errors import InputError
from configs.load import SUMMARY, AnyRecipe, run_folder, settings_that_matter
from configs.schema import CheckpointConfig
from trainers.checkpoints.checkpoint import (
    CHECKPOINTS,
    Checkpoint,
    Damaged,
    list_checkpoints,
)
from trainers.checkpoints.facts import TAG
from trainers.checkpoints.state import TrainingState
from trainers.data import RunData
from trainers.files.line_file import PERFORMANCE, read_lines
from trainers.ranks.world import World

log = logging.getLogger("sokhan")


def find_checkpoints(recipe: AnyRecipe, beginning: Beginning) -> list[Path]:
    """The checkpoints to try, in this order; none: start from the beginning."""
    if beginning.anew:
        return []
    if beginning.resume == "auto":
        folder = run_folder(recipe) / CHECKPOINTS
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise InputError(
                f"{folder}: is a link or a file; checkpoints are read from a folder of its own only"
            )
        return list_checkpoints(folder)
    # Whole: the run of a checkpoint that was named from within its folder is found above it.
    path = Path(os.path.abspath(beginning.resume))
    if path.is_dir() and (path / "config.yaml").is_file():
        path = path / CHECKPOINTS
    found = list_checkpoints(path) if path.name == CHECKPOINTS else [path]
    if not found or not path.is_dir() or not TAG.fullmatch(found[0].name):
        raise InputError(f"--resume {beginning.resume}: no checkpoint there; name a run or its step-N")
    finished = (found[0].parent.parent / SUMMARY).is_file()
    if finished and not any(any(folder.glob("optimizer-*")) for folder in found):
        raise InputError(
            f"--resume {beginning.resume}: that run is finished, and its optimizer's state was removed; "
            "it stays with `--checkpoint.optimizer always`"
        )
    return found


def choose(found: list[Path], world: World, config: CheckpointConfig) -> Checkpoint | None:
    """The first checkpoint that is whole, with the best weights that go with it. Raises InputError
    where there are some but none can be used: a run never starts over because of damage."""
    problems: list[str] = []
    for path in found:
        try:
            return open_verified(path, world, to_train=True)
        except Damaged as problem:
            problems.append(str(problem))
            if config.damaged == "refuse":
                raise InputError(
                    f"{problem}; `--checkpoint.damaged previous` goes on from the one before"
                ) from None
            if world.main:
                after = "; trying the one before it" if path != found[-1] else ""
                log.warning("%s%s", problem, after)
    if problems:
        more = f" (nor {len(problems) - 1} older)" if len(problems) > 1 else ""
        raise InputError(
            f"no checkpoint can be used: {problems[0]}{more}; `--resume never` starts a run over"
        )
    return None


def open_verified(path: Path, world: World, to_train: bool) -> Checkpoint:
    """Open a checkpoint, every hash of it compared by one of the ranks. Raises the same Damaged on
    all ranks. ``to_train``: also its optimizer's state and best weights must be there."""
    checkpoint: Checkpoint | None = None
    problem: Damaged | None = None
    try:
        checkpoint = Checkpoint(path)
        checkpoint.verify(world.rank, world.size)
        if to_train:
            if not checkpoint.has_optimizer:
                raise Damaged(f"{path}: has weights only, not the optimizer's state")
            checkpoint.check_training()
            best = checkpoint.facts["best"]
            if best and best["tag"] != path.name:
                _verify_best(path, best["tag"], world)
    except Damaged as error:
        problem = error
    for found in world.gather(problem):
        if found is not None:
            raise found
    assert checkpoint is not None
    return checkpoint


def _verify_best(path: Path, tag: str, world: World) -> None:
    try:
        best = Checkpoint(path.parent / tag)
        best.verify(world.rank, world.size)
        best.check_training()
    except Damaged as error:
        raise Damaged(f"{path}: the best weights that go with it are damaged: {error}") from None


def check_same(checkpoint: Checkpoint, recipe: AnyRecipe, data: RunData, force: bool) -> list[str]:
    """Raise InputError, naming what differs, unless training can go on from here as if it had never
    stopped. ``force`` lets settings differ, but not the data; returns which do."""
    facts, where = checkpoint.facts, checkpoint.folder
    state = TrainingState.from_dict(facts["state"])
    if facts["data"] != data.digests():
        raise InputError(
            f"{where}: was trained on other data (corpus, split or balance); use the same "
            "shards and split, or start anew with `--resume never` or another --output.name"
        )
    changes = differences(facts["settings"], settings_that_matter(recipe))
    if changes and not force:
        raise InputError(
            f"{where}: was trained with other settings: {', '.join(changes)}; use the same, choose "
            "another --output.name, or go on with the new ones by --force"
        )
    if not state.evaluated and facts["plan"] != data.training_plan(state.epoch).digest():
        raise InputError(
            f"{where}: lies within epoch {state.epoch}, whose batches are others now; only a "
            "checkpoint of an epoch's end (step-N-evaluated) can be gone on from with them"
        )
    return changes


def check_model(checkpoint: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise InputError unless the checkpoint holds all parameters of the model, in these shapes."""
    saved = {name: tuple(shape) for name, shape in checkpoint.facts["shapes"].items()}
    for name, shape in shapes.items():
        if saved.get(name) != shape:
            raise InputError(
                f"{checkpoint.folder}: is of another model: {name!r} is {shape} in this one, and "
                f"{saved.get(name, 'absent')} in the checkpoint"
            )


def check_never_saved(folder: Path) -> None:
    """Raise InputError if a run without checkpoints has had some: it must not start over unasked."""
    saves = (line for line in read_lines(folder / PERFORMANCE) if line.get("kind") == "save")
    if any(saves):
        raise InputError(
            f"{folder / CHECKPOINTS}: empty, but {PERFORMANCE} tells of saves; put the checkpoints back, "
            "or start over with `--resume never`"
        )


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """ "key old -> new" for each setting that differs."""
    absent = "(none)"
    return [
        f"{key} {saved.get(key, absent)} -> {now.get(key, absent)}"
        for key in sorted({*saved, *now})
        if saved.get(key, absent) != now.get(key, absent)
    ]
