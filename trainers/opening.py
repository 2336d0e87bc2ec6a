"""Opening a run directory on all ranks: held, found whole, and brought to where training begins."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from configs.access import group_id, make_parents
from configs.beginning import Beginning
from configs.files import write_json
from configs.load import AnyRecipe, run_folder, signature
from configs.pretrained import PRETRAINED, folder_digest
from trainers.checkpoints.checkpoint import CHECKPOINTS, Checkpoint
from trainers.checkpoints.resume import (
    check_model,
    check_never_saved,
    check_same,
    choose,
    find_checkpoints,
)
from trainers.checkpoints.rewind import check_rewind, rewind
from trainers.checkpoints.state import TrainingState
from trainers.data import RunData
from trainers.engine import Engine
from trainers.files.disk import writing
from trainers.files.line_file import METRICS, PERFORMANCE
from trainers.folder import (
    RUN,
    RunLock,
    clear,
    command_line,
    describe_start,
    hold_run_folder,
    list_start,
    read_run,
)
from trainers.ranks.world import World
from trainers.tasks.head_choice import CHOICE

_SCRATCH = ".preparing-"
MADE_ONCE = ("tokenizer", CHOICE, PRETRAINED)
"""What is made in the scratch folder at a run's first start, for all its starts."""


@dataclass(frozen=True)
class Start:
    """A run directory opened for training."""

    folder: Path
    lock: RunLock | None
    """Rank 0's."""
    attempt: str
    """Another at each start, the same on all ranks."""
    wandb_id: str
    checkpoint: Checkpoint | None
    """Where training goes on; None: from the beginning."""
    state: TrainingState


def open_run(recipe: AnyRecipe, data: RunData, engine: Engine, beginning: Beginning, scratch: Path) -> Start:
    """Hold the run directory, find where to go on, and bring the directory into that state. Nothing
    in it is changed before all is known to fit; when all is changed the start is listed in run.json.
    Killed in between, it leaves a directory in which the same start can be made again."""
    world, held = data.world, list[tuple[Path, RunLock]]()

    world.on_main(lambda: held.append(hold_run_folder(recipe, beginning.overwrite)))
    folder, lock = held[0] if held else (run_folder(recipe), None)
    checkpoint = choose(world.on_main(lambda: find_checkpoints(recipe, beginning)), world, recipe.checkpoint)

    def check() -> tuple[bool, list[str]]:
        forced, changed = False, list[str]()
        if checkpoint:
            forced = beginning.force or _was_forced(folder, recipe, checkpoint)
            changed = check_same(checkpoint, recipe, data, forced)
            check_model(checkpoint, engine.shapes())
            check_rewind(folder, checkpoint, forced)
        elif not beginning.anew:
            check_never_saved(folder)
        return forced, changed

    def prepare(forced: bool, changed: list[str]) -> str:
        keep: tuple[str, ...] = ()
        if checkpoint:
            keep = (RUN, CHECKPOINTS, METRICS, PERFORMANCE, *MADE_ONCE, "wandb")
        elif not beginning.anew:
            keep = (RUN,)  # a new start of the same run
        clear(folder, keep)
        # What W&B has from a past that is left on purpose would stay in its run.
        branches = beginning.force or beginning.resume not in ("auto", "never")
        describe_start(folder, recipe, command_line(), branches)
        if checkpoint:
            rewind(folder, checkpoint)
        keep_made(scratch, folder)
        list_start(
            folder,
            {
                "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "checkpoint": str(checkpoint.folder) if checkpoint else None,
                "ranks": world.size,
                "zero": recipe.engine.zero,
                "changed": changed,
                "forced": signature(recipe) if forced else None,
            },
        )
        return str(read_run(folder)["wandb_id"])

    forced, changed = world.on_main(check)
    wandb_id = world.on_main(lambda: prepare(forced, changed))
    state = TrainingState.from_dict(checkpoint.facts["state"]) if checkpoint else TrainingState()
    attempt = world.on_main(lambda: secrets.token_hex(4))
    return Start(folder, lock, attempt, wandb_id, checkpoint, state)


def _was_forced(folder: Path, recipe: AnyRecipe, checkpoint: Checkpoint) -> bool:
    """Whether the start before this one was forced to go on from this checkpoint with this recipe, and
    ended before it could save: a job that is requeued then goes on without flags."""
    last = read_run(folder)["starts"][-1:]
    return any(
        start.get("forced") == signature(recipe) and Path(start["checkpoint"]).name == checkpoint.folder.name
        for start in last
    )


def fetch_made(recipe: AnyRecipe, beginning: Beginning, scratch: Path) -> None:
    """Go on with the tokenizer and the choice of heads that the run was started with, and with what is
    known of the weights it started from: a new one notes them."""
    found = find_checkpoints(recipe, beginning)
    folder = Path(recipe.model.pretrained or "").expanduser()
    if found:
        copy_made(found[0].parent.parent, scratch)
    elif recipe.model.pretrained and folder.is_dir():
        with contextlib.suppress(OSError):  # building the model tells what cannot be read
            start = {"folder": str(folder.absolute()), "digest": folder_digest(folder)}
            write_json(scratch / PRETRAINED, start)


def copy_made(run: Path, scratch: Path) -> None:
    """Copy what a run has made once into a folder."""
    for name in MADE_ONCE:
        if (run / name).exists():
            _copy(run / name, scratch / name)


def keep_made(scratch: Path, folder: Path) -> None:
    """What was made for a run before its training belongs to it, from its first start on."""
    for name in MADE_ONCE:
        made, kept = scratch / name, folder / name
        if made.exists() and not kept.exists():
            partial = folder / f"{name}.partial"
            try:
                _copy(made, partial)
                partial.rename(kept)
            except OSError:
                if partial.is_dir():
                    shutil.rmtree(partial, ignore_errors=True)
                else:
                    partial.unlink(missing_ok=True)
                raise


def _copy(source: Path, target: Path) -> None:
    """A file, or the files of a folder; without their modes, for who may read the one run need not
    be let into the other."""
    if source.is_file():
        shutil.copyfile(source, target)
        return
    target.mkdir()
    for path in source.iterdir():
        if path.is_file():
            shutil.copyfile(path, target / path.name)


@contextmanager
def scratch_folder(recipe: AnyRecipe, world: World) -> Iterator[Path]:
    """A folder beside the run directory, where all ranks see it; gone afterwards. Raises InputError,
    before anything is made, for an ``output.group`` that is none of the user's."""
    folder, group = run_folder(recipe), recipe.output.group
    world.main_first(lambda: group_id(group))

    def make() -> Path:
        with writing(folder.parent):
            make_parents(folder, group)
            _sweep(folder.parent)
            prefix = f"{_SCRATCH}{platform.node()}@{os.getpid()}@"
            return Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))

    scratch = world.on_main(make)
    try:
        yield scratch
        world.barrier()
    finally:
        if world.main:
            shutil.rmtree(scratch, ignore_errors=True)
            with contextlib.suppress(OSError):
                folder.parent.rmdir()  # if nothing came of the run


def _sweep(parent: Path) -> None:
    """Remove what processes of this machine that were killed have left."""
    prefix = f"{_SCRATCH}{platform.node()}@"
    for left in parent.glob(f"{prefix}*"):
        process = left.name.removeprefix(prefix).partition("@")[0]
        if process.isdigit() and not Path("/proc", process).exists():
            shutil.rmtree(left, ignore_errors=True)
