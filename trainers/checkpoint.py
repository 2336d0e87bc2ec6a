"""Saved weights: safetensors by parameter name and one JSON, in a folder that counts when complete."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from configs.errors import InputError
from data_shards.writer import sha256_of

WEIGHTS = "weights.safetensors"
MANIFEST = "checkpoint.json"


def save_weights(folder: Path, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write beside ``folder``, then take its place: an older one stays until the new one is whole."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        save_file({name: value.contiguous() for name, value in state.items()}, partial / WEIGHTS)
        manifest = {**facts, "sha256": {WEIGHTS: sha256_of(partial / WEIGHTS)}}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            old = folder.with_name(folder.name + ".old")
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
            partial.rename(folder)
            shutil.rmtree(old)
        else:
            partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def load_weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights and facts. Raises InputError if a file is missing or not what was written."""
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if sha256_of(folder / WEIGHTS) != facts["sha256"][WEIGHTS]:
            raise InputError(f"{folder / WEIGHTS}: damaged (its SHA-256 is not the saved one)")
        return load_file(folder / WEIGHTS), facts
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder}: not a complete checkpoint ({error})") from None
