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


@dataclass(frozen=True)
class LeftOut:
    """A baseline that this corpus cannot have."""

    title: str
    why: str

    def __str__(self) -> str:
        return f"{self.title}: {self.why}"


def parts_of(index: ShardIndex, split: Split) -> Parts:
    """Raises InputError for an empty part, for a class that train lacks, and for a train part of one
    class: there is nothing to tell apart."""
    check_classes(index, split, ("train",))
    if len(index.manifest.labels) < 2:
        raise InputError(
            f"{index.root}: split {split.name!r}: all of its train part is of one class, "
            f"{index.manifest.labels[0]!r}; a classifier needs two, pack a corpus that has them"
        )
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
