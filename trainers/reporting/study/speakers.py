"""Whose voice each test sample is, from the shards that a run was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.errors import InputError
from data_shards.index import open_index
from trainers.reporting.runs.record import Run


def speakers_of(run: Run, keys: Sequence[str]) -> NDArray[np.int64] | None:
    """(items,) codes of the speakers of ``keys``.

    None for text, where one of them is not named, and where the shards are no longer there or hold
    another corpus: intervals are then over samples. Samples of other parts need no speakers.
    """
    if run.data.get("kind") != "audio" or not run.data.get("shards"):
        return None
    table = _table(shards_of(run), str(run.data.get("digest")))
    if table is None or any(key not in table for key in keys):
        return None
    codes = np.array([table[key] for key in keys], np.int64)
    return None if (codes < 0).any() else codes


def shards_of(run: Run) -> Path:
    """The corpus of a run. A relative folder is that of the training's working directory, which is
    mostly the one where ``runs`` lies."""
    shards = Path(str(run.data.get("shards", "")))
    beside = run.path.absolute().parents[2] / shards
    return shards if shards.is_dir() or not beside.is_dir() else beside


@lru_cache(maxsize=16)
def _table(shards: Path, digest: str) -> dict[str, int] | None:
    try:
        index = open_index(shards)
    except InputError:
        return None
    if index.manifest.digest != digest:
        return None
    return dict(zip(index.keys(), index.speaker.tolist(), strict=True))
