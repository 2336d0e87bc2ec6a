"""How sure a score is: bootstrap intervals of accuracy, UAR and macro F1, and of their differences.

Random numbers come from a raw bit stream, so that a seed gives the same figures with every version of
NumPy. An interval speaks of other items (or speakers) like these and of the runs as they were trained;
how much scores move from seed to seed is seen in their deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_shards.plan import random_keys

Codes = NDArray[np.integer[Any]]
Score = Literal["accuracy", "uar", "macro_f1"]
DRAWS = 10_000
LEVEL = 0.95
FEWEST_CLUSTERS = 5
"""With fewer there is no interval: four clusters have 35 different resamples, one has a single one, and
their percentiles pass for a surety that nobody has (Cameron, Gelbach & Miller 2008 on few clusters)."""

_AT_ONCE = 2_000_000
"""Resampled units held at a time: 16 MB of random numbers."""


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Resampling:
    """How resamples are drawn, and what is read from them."""

    clusters: Codes | None = None
    """(items,) codes; whole clusters are drawn instead of items, as speakers must be where what one
    says is alike (Field & Welsh 2007)."""
    classes: int | None = None
    """Number of classes, of which macro F1 is the mean; by default as many as occur."""
    draws: int = DRAWS
    level: float = LEVEL
    """Of the interval."""
    seed: int = 0

    @property
    def too_few(self) -> bool:
        """Whether there are too few clusters for an interval."""
        return self.clusters is not None and len(np.unique(self.clusters)) < FEWEST_CLUSTERS


ITEMS = Resampling()
"""Single items, all else as usual."""


def bootstrap_interval(
    truth: Codes, predicted: Codes, score: Score = "accuracy", how: Resampling = ITEMS
) -> Interval | None:
    """Percentile bootstrap (Efron 1979; Efron & Tibshirani 1993, ch. 13) of one score.

    ``truth``: (items,) codes. ``predicted``: (items,), or (runs, items) for the interval of the mean
    over runs, whose resamples share their items; runs themselves are not resampled.
    Scores are those of ``trainers.metrics``: UAR over the classes with support in a resample.
    None for fewer than FEWEST_CLUSTERS clusters.
    """
    if how.too_few:
        return None
    scores = _resampled(truth, _runs(predicted, truth), score, how)
    return _percentiles(scores.mean(1), how.level)


def difference_interval(
    truth: Codes,
    a: Codes | Sequence[Codes],
    b: Codes | Sequence[Codes],
    score: Score = "accuracy",
    how: Resampling = ITEMS,
) -> Interval | None:
    """Paired bootstrap interval of mean score of ``a`` minus mean score of ``b``.

    ``a`` and ``b``: (items,) or (runs, items) each; all runs of a resample share its items. The
    other arguments are those of ``bootstrap_interval``, as is None.
    """
    if how.too_few:
        return None
    first, second = _runs(a, truth), _runs(b, truth)
    scores = _resampled(truth, np.concatenate([first, second]), score, how)
    means = scores[:, : len(first)].mean(1) - scores[:, len(first) :].mean(1)
    return _percentiles(means, how.level)


def _runs(predicted: Any, truth: Codes) -> Codes:
    runs = np.atleast_2d(np.asarray(predicted))
    assert len(truth) > 0 and runs.shape == (len(runs), len(truth)), "a prediction for every item"
    return runs


def _percentiles(values: NDArray[np.float64], level: float) -> Interval:
    assert 0 < level < 1
    low, high = np.quantile(values, ((1 - level) / 2, (1 + level) / 2))
    return Interval(float(low), float(high))


def _resampled(truth: Codes, runs: Codes, score: Score, how: Resampling) -> NDArray[np.float64]:
    """(draws, runs) scores of resamples.

    A resample is how often it holds each unit; times the units' confusion counts that is its
    confusion matrix, so that no item is touched twice.
    """
    size = how.classes or int(max(truth.max(), runs.max())) + 1
    kind, table = _tables(truth, runs, size, how.clusters)
    units, width = len(kind), len(table)
    at_once = max(1, _AT_ONCE // units)
    parts = []
    for chunk, start in enumerate(range(0, how.draws, at_once)):
        count = min(at_once, how.draws - start)
        drawn = (random_keys(count * units, how.seed, chunk) % np.uint64(units)).astype(np.int64)
        place = kind[drawn] + np.repeat(np.arange(count) * width, units)
        weights = np.bincount(place, minlength=count * width).reshape(count, width)
        confusion = (weights.astype(np.float64) @ table).reshape(count, len(runs), size, size)
        parts.append(_scores(confusion, score))
    return np.concatenate(parts)


def _tables(
    truth: Codes, runs: Codes, size: int, clusters: Codes | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(units,) row of the table of each unit that can be drawn, and the table: (rows, runs * size *
    size) confusion counts. Items with the same truth and predictions share a row."""
    outcomes, outcome = np.unique(np.stack([truth, *runs]), axis=1, return_inverse=True)
    outcome = outcome.reshape(-1)  # NumPy 2.0 alone gave it another shape
    table = np.zeros((outcomes.shape[1], len(runs), size, size))
    rows, columns = np.arange(outcomes.shape[1])[:, None], np.arange(len(runs))[None]
    table[rows, columns, outcomes[0][:, None], outcomes[1:].T] = 1
    flat = table.reshape(len(table), -1)
    if clusters is None:
        return outcome, flat
    assert len(clusters) == len(truth), "a cluster for every item"
    names, cluster = np.unique(clusters, return_inverse=True)
    counts = np.bincount(cluster * len(flat) + outcome, minlength=len(names) * len(flat))
    return np.arange(len(names)), counts.reshape(len(names), -1) @ flat


def _scores(confusion: NDArray[np.float64], score: Score) -> NDArray[np.float64]:
    """(..., classes, classes) confusion counts -> (...) scores, as ``trainers.metrics`` has them."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, predicted = confusion.sum(-1), confusion.sum(-2)
    if score == "accuracy":
        return np.asarray(right.sum(-1) / support.sum(-1))
    if score == "uar":
        return np.asarray((right / np.maximum(support, 1)).sum(-1) / (support > 0).sum(-1))
    return np.asarray((2 * right / np.maximum(support + predicted, 1)).mean(-1))
