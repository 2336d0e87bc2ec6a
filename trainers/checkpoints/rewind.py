"""Bringing a run directory back to what it was when a checkpoint was saved. For rank 0."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from configs.errors import InputError
from trainers.checkpoints.checkpoint import (
    CHECKPOINTS,
    SET_ASIDE,
    SUMS,
    Checkpoint,
    list_checkpoints,
    read_sums,
    remove,
    sweep,
    sync,
)
from trainers.files.disk import writing
from trainers.files.line_file import METRICS


def check_rewind(folder: Path, checkpoint: Checkpoint, force: bool) -> None:
    """Raise InputError if ``rewind`` could not be done; nothing is changed."""
    metrics, length = _run_of(checkpoint) / METRICS, checkpoint.facts["metrics_bytes"]
    size = metrics.stat().st_size if metrics.is_file() else 0
    if size < length and not force:
        raise InputError(
            f"{metrics}: has {size} bytes, but had {length} when {checkpoint.folder.name} was saved; "
            "put the lost lines back, or go on without them by --force"
        )
    if not _is_own(folder, checkpoint):
        for own in list_checkpoints(folder / CHECKPOINTS):
            # An earlier start may have been killed while it copied.
            twin = checkpoint.folder.parent / own.name
            if own.name not in _tags(checkpoint) or read_sums(own) != read_sums(twin):
                raise InputError(
                    f"{folder}: has checkpoints of its own; go on from them with `--resume auto`, or "
                    "choose another --output.name"
                )


def rewind(folder: Path, checkpoint: Checkpoint) -> None:
    """Cut metrics.jsonl back and set newer checkpoints aside, to be deleted when the next one is
    safe. A checkpoint of another run is copied into this one, with its metrics."""
    sweep(folder / CHECKPOINTS)
    if not _is_own(folder, checkpoint):
        _adopt(folder, checkpoint)
    for path in list_checkpoints(folder / CHECKPOINTS):
        if path.name == checkpoint.folder.name:
            break
        aside = path.with_name(SET_ASIDE + path.name)
        with writing(path):
            if aside.is_symlink() or aside.exists():
                remove(aside)
            path.rename(aside)
    metrics, length = folder / METRICS, checkpoint.facts["metrics_bytes"]
    if metrics.is_file() and metrics.stat().st_size > length:
        with writing(metrics):
            os.truncate(metrics, length)


def _run_of(checkpoint: Checkpoint) -> Path:
    return checkpoint.folder.parent.parent


def _is_own(folder: Path, checkpoint: Checkpoint) -> bool:
    return _run_of(checkpoint).resolve() == folder.resolve()


def _tags(checkpoint: Checkpoint) -> list[str]:
    """The checkpoint with the best weights, then the checkpoint itself: with its name all is there."""
    best = checkpoint.facts["best"]
    return list(dict.fromkeys([*([best["tag"]] if best else []), checkpoint.folder.name]))


def _adopt(folder: Path, checkpoint: Checkpoint) -> None:
    source, own = checkpoint.folder.parent, folder / CHECKPOINTS
    metrics = _run_of(checkpoint) / METRICS
    if metrics.is_file():
        with writing(folder / METRICS):
            shutil.copyfile(metrics, folder / METRICS)
    for tag in _tags(checkpoint):
        if (own / tag).is_dir():
            continue
        staging = own / f".saving-{tag}-copy"
        with writing(staging):
            try:
                staging.mkdir(parents=True)
                for name in (*read_sums(source / tag), SUMS):
                    shutil.copyfile(source / tag / name, staging / name)
                    sync(staging / name)
                staging.rename(own / tag)
                sync(own)
            except OSError:
                shutil.rmtree(staging, ignore_errors=True)
                raise
