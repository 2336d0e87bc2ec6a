"""What every baseline gets and gives, and the one that fits all corpora: the majority class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.errors import InputError
from data_shards.index import ShardIndex
from data_shards.splits import PARTS, Split, check_classes

EVALUATED = ("validation", "test")

Probabilities = dict[str, NDArray[np.float64]]
"""Part -> (items, classes)."""


@dataclass(frozen=True)
class Parts:
    """The parts of one split."""

    rows: Mapping[str, NDArray[np.int64]]
    """Part -> (items,) rows of the index."""
    codes: Mapping[str, NDArray[np.int64]]
    """Part -> (items,) positions in the corpus's labels."""
    classes: int


@dataclass(frozen=True)
class Baseline:
    """One baseline, fitted on train and applied to validation and test."""

    name: str
    title: str
    what: str
    """How it decides, in one sentence."""
    probabilities: Probabilities
    settings: dict[str, Any] = field(default_factory=dict)
    """What validation chose."""


def parts_of(index: ShardIndex, split: Split) -> Parts:
    """Raises InputError for an empty part and for a class that train lacks."""
    check_classes(index, split, ("train",))
    rows = {part: split.rows(part) for part in PARTS}
    for part, members in rows.items():
        if len(members) == 0:
            raise InputError(f"split {split.name!r}: its {part} part is empty; choose another")
    codes = {part: np.asarray(index.label[members], np.int64) for part, members in rows.items()}
    return Parts(rows, codes, len(index.manifest.labels))


def shares_of(codes: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """(classes,) shares of the classes among the items, each counted once more than it occurs."""
    counts = np.bincount(codes, minlength=classes) + 1.0
    return np.asarray(counts / counts.sum())


def majority(parts: Parts) -> Baseline:
    """The most frequent class of train, whatever the item."""
    shares = shares_of(parts.codes["train"], parts.classes)
    probabilities = {part: np.tile(shares, (len(parts.rows[part]), 1)) for part in EVALUATED}
    what = "always the most frequent class of train"
    return Baseline("majority", "Majority class", what, probabilities)
