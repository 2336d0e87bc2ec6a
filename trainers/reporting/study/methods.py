"""What a study compares: methods, each with its seeds, and the test samples that they share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.metrics import SplitMetrics
from trainers.reporting.runs.record import Run

Codes = NDArray[np.int64]
NO_SEED = -1
"""Of what draws nothing, such as a baseline: no training has it, so that it is paired with all."""


@dataclass(frozen=True, eq=False)
class Items:
    """The test samples of a method, ordered by key; over all folds where it has some."""

    corpus: str
    keys: tuple[str, ...]
    labels: tuple[str, ...]
    truth: Codes
    """(items,) positions in ``labels``."""
    speech: bool
    speakers: Codes | None
    """(items,) whose voice it is; None for text, and where the shards cannot be read."""

    def same(self, other: Items) -> bool:
        """Whether predictions of both can be paired."""
        mine, theirs = (
            (self.corpus, self.keys, self.labels),
            (
                other.corpus,
                other.keys,
                other.labels,
            ),
        )
        return mine == theirs and bool((self.truth == other.truth).all())


@dataclass(frozen=True)
class Scored:
    """One seed of a method, its folds pooled."""

    seed: int
    runs: tuple[Run, ...]
    metrics: SplitMetrics
    predicted: Codes | None
    """(items,) positions in the labels, in the order of the method's items."""


@dataclass(frozen=True, eq=False)
class Method:
    """What stands in one row of a part's tables: runs that differ in seed and fold alone."""

    name: str
    value: Any
    """Of the part's curve field; None where it has none."""
    line: str
    """What tells it from other methods of the same value."""
    split: str
    """Name of the split; of folds what they share."""
    folds: tuple[int, ...]
    """Those that are pooled, of a split in folds; empty for a single split."""
    scored: tuple[Scored, ...]
    items: Items | None
    """None where a run has no file of predictions."""
    notes: tuple[str, ...]
    measured: Mapping[str, tuple[Run, ...]] = field(default_factory=dict)
    """Its name, with what was measured where runs differ in that, -> the runs that it was measured on."""

    @property
    def runs(self) -> list[Run]:
        """All runs."""
        return [run for scored in self.scored for run in scored.runs]

    @property
    def first(self) -> Run:
        """A run that stands for what all of them share."""
        return self.scored[0].runs[0]

    @property
    def protocol(self) -> str:
        """The split in words, with the folds where they are not all of it."""
        if not self.folds:
            return self.split
        named = re.search(r"\d+$", self.split)  # speaker5: the name that `sokhan split` gives
        number = int(named[0]) if named else 0
        if len(self.folds) > 1 and self.folds == tuple(range(1, number + 1)):
            return f"{self.split}, {number} folds pooled"
        if len(self.folds) == 1:
            return f"{self.split}, fold {self.folds[0]}"
        of = f" of {number}" if number else ""
        return f"{self.split}, folds {', '.join(map(str, self.folds))}{of} pooled"

    @property
    def leaky(self) -> bool:
        """Whether speakers are in train and test."""
        return any(run.data["speaker_overlap"].get("train/test") for run in self.runs)

    def predictions(self) -> list[tuple[int, Codes]]:
        """(seed, predictions) of each seed."""
        return [(one.seed, one.predicted) for one in self.scored if one.predicted is not None]

    def values(self, score: str) -> list[float]:
        """One value a seed of a score of the test part."""
        return [float(getattr(one.metrics, score)) for one in self.scored]

    def over_runs(self, value: Callable[[Run], float]) -> float:
        """Mean over all runs."""
        return mean(value(run) for run in self.runs)
