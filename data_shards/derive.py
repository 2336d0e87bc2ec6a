"""Derived shard sets: pitch-shifted copies of a training part's minority clips, made once.

A pitch shift costs as much as reading hundreds of clips, so it is not done while training. The
set lies below the shards it comes from, in a folder named after everything it depends on.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.errors import InputError
from configs.schema import AugmentConfig
from data_shards.augment import pitch_shift, pitched_key
from data_shards.corpora.corpus import Corpus
from data_shards.index import MANIFEST, ShardIndex
from data_shards.pack import PackSettings, pack
from data_shards.reader import ShardReader
from data_shards.sample import Sample
from data_shards.splits import Split


@dataclass(frozen=True)
class _Shift:
    """One derived clip."""

    row: int
    semitones: int


def minority_rows(index: ShardIndex, split: Split) -> NDArray[np.int64]:
    """Rows of the training part that are not of its most frequent class."""
    rows = split.rows("train")
    counts = np.bincount(index.label[rows], minlength=len(index.manifest.labels))
    return rows[counts[index.label[rows]] < counts.max()]


def pitched_folder(index: ShardIndex, split: Split, config: AugmentConfig) -> Path | None:
    """Where the derived set belongs; None if nothing is to be shifted."""
    shifts = sorted(set(config.semitones) - {0})
    rows = minority_rows(index, split)
    if not shifts or len(rows) == 0:
        return None
    state = hashlib.sha256(f"{index.manifest.digest} {shifts}".encode() + rows.astype("<i8").tobytes())
    return index.root / "derived" / f"pitch-{split.name}-{state.hexdigest()[:12]}"


def make_pitched(
    index: ShardIndex, split: Split, config: AugmentConfig, *, processes: int | None = None
) -> Path | None:
    """Make the derived set unless it is there; return its folder (None: nothing to shift)."""
    folder = pitched_folder(index, split, config)
    if folder is None or os.access(folder / MANIFEST, os.R_OK):
        return folder
    shifts = sorted(set(config.semitones) - {0})
    corpus = Corpus(
        name=f"{index.manifest.corpus}-pitch",
        kind="audio",
        synthetic=index.manifest.synthetic,
        items=[_Shift(row, s) for row in minority_rows(index, split).tolist() for s in shifts],
        load=partial(_load, ShardReader(index.root)),
        key=_key,
        settings={"source": index.manifest.digest, "semitones": shifts, "split": split.name},
    )
    try:
        folder.parent.mkdir(exist_ok=True)
        # Another run may be making the same set: each makes its own, the first to finish counts.
        own = folder.with_name(f"{folder.name}.{platform.node()}-{os.getpid()}")
        pack(corpus, own, PackSettings(processes=processes))
        try:
            own.rename(folder)
        except OSError:
            shutil.rmtree(own)
            if not (folder / MANIFEST).is_file():
                raise
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); pitch-shifted copies lie there"
        ) from None
    return folder


def _key(item: _Shift) -> str:
    return pitched_key(item.row, item.semitones)


def _load(shards: ShardReader, item: _Shift) -> Sample:
    audio = shards.item(item.row).audio
    if audio is None:
        raise InputError(f"{shards.root}: holds text; only audio can be pitch-shifted")
    index = shards.index
    speaker = int(index.speaker[item.row])
    return Sample(
        key=_key(item),
        label=index.manifest.labels[int(index.label[item.row])],
        speaker=index.manifest.speakers[speaker] if speaker >= 0 else "",
        audio=pitch_shift(audio, item.semitones),
        meta={"source": index.key(item.row), "semitones": item.semitones},
    )
