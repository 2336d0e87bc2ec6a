"""Multinomial logistic regression whose regularisation validation chooses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainers.baselines.baseline import EVALUATED, Parts, Probabilities

Strengths = tuple[float, ...]
_MAX_ITERATIONS = 1000


def fit_logistic(
    features: Mapping[str, Any],
    parts: Parts,
    strengths: Strengths,
    score: Literal["accuracy", "uar"],
    balanced: bool = False,
) -> tuple[Probabilities, float]:
    """Probabilities of validation and test, and the chosen C (inverse of the L2 penalty).

    ``features``: part -> (items, features), dense or sparse. Fitted on train for each of
    ``strengths``; the best ``score`` of validation wins, the strongest penalty among equals.
    ``balanced`` weighs items by the inverse of their class's count.
    """
    from sklearn.linear_model import LogisticRegression

    best_score, best = -1.0, (strengths[0], None)
    for strength in sorted(strengths):
        model = LogisticRegression(
            C=strength,
            class_weight="balanced" if balanced else None,
            max_iter=_MAX_ITERATIONS,
        )
        model.fit(features["train"], parts.codes["train"])
        predicted = model.predict(features["validation"])
        reached = _score(parts.codes["validation"], predicted, score)
        if reached > best_score:
            best_score, best = reached, (strength, model)
    strength, model = best
    assert model is not None
    # Every class occurs in train (``parts_of``), so that columns are classes.
    probabilities = {part: np.asarray(model.predict_proba(features[part])) for part in EVALUATED}
    return probabilities, strength


def standardised(features: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """Zero mean and unit deviation over train; a column without deviation there becomes zero."""
    train = np.asarray(features["train"], np.float64)
    mean, deviation = train.mean(0), train.std(0)
    scale = np.where(deviation > 1e-12, 1 / np.maximum(deviation, 1e-12), 0.0)
    # Other parts may lie far outside of what train holds: a limit keeps one value from deciding.
    return {
        part: np.clip((np.asarray(values, np.float64) - mean) * scale, -10, 10)
        for part, values in features.items()
    }


def _score(truth: NDArray[np.int64], predicted: NDArray[np.int64], score: str) -> float:
    right = truth == predicted
    if score == "accuracy":
        return float(right.mean())
    return float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))
