"""Scores of a part's subsets, by the columns of the index: hard and easy pairs, genders, sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_shards.index import ShardIndex
from trainers.metrics import class_metrics

MIN_ITEMS = 10
"""Fewer say nothing of a subset."""
MAX_VALUES = 12
"""A column with more values names things (files, texts) rather than kinds of samples."""
_SPLIT_COLUMN = "source_split"


def subset_scores(
    index: ShardIndex,
    rows: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    predicted: NDArray[np.integer[Any]],
    labels: Sequence[str],
) -> dict[str, dict[str, float]]:
    """{"hard_overlap=1": {"items": 562, "accuracy": ..., "uar": ..., "macro_f1": ...}, ...}

    ``rows`` (items,) rows of the index, ``truth`` and ``predicted`` (items,) positions in ``labels``.
    A subset for each value of at least ten items, of each column with more than one value among the
    rows; samples without a value are in none.
    """
    scores: dict[str, dict[str, float]] = {}
    for name, values in sorted(index.manifest.groups.items()):
        if name == _SPLIT_COLUMN:
            continue
        codes = np.asarray(index.group(name))[rows]
        present = np.unique(codes).tolist()
        if not 1 < len(present) <= MAX_VALUES:
            continue
        for code in present:
            members = np.flatnonzero(codes == code)
            if values[code] and len(members) >= MIN_ITEMS:
                metrics = class_metrics(truth[members], predicted[members], labels, np.zeros(len(members)))
                scores[f"{name}={values[code]}"] = {
                    "items": metrics.items,
                    "accuracy": metrics.accuracy,
                    "uar": metrics.uar,
                    "macro_f1": metrics.macro_f1,
                }
    return scores
