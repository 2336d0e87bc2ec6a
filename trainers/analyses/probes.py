"""What each layer knows: a linear classifier on every layer's pooled features.

Multinomial logistic regression on standardised features of the frozen encoder (linear probes, Alain
and Bengio 2016, arXiv 1610.01644). Trained on the train part as it is, without balancing; the L2
strength is chosen on validation by the recipe's metric.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from configs.schema import EmotionRecipe, NliRecipe
from data_shards.splits import PARTS
from trainers.data import RunData
from trainers.metrics import SplitMetrics, class_metrics
from trainers.models.hubert import EmotionModel
from trainers.tasks.cached_emotion import with_encoder
from trainers.tasks.features import kept_features, layers_of, main_features

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""scikit-learn's C, the inverse of the L2 strength, from strong to weak."""
_ITERATIONS = 500
Part = tuple[NDArray[np.float32], NDArray[np.int64]]
"""(samples, width) features of one layer and (samples,) labels."""


def layer_probes(data: RunData, model: nn.Module, watch: Callable[[], None] | None = None) -> dict[str, Any]:
    """Scores of the probe of each layer 0..L on validation and test. A collective call; the same on
    all ranks: features are shared over them, rank 0 fits.

    ``model`` is what ``data.task.build_model`` makes, in evaluation mode on the world's device, with
    the weights that ``analysis.probes`` names. Features of a model before training are kept beside
    the shards, for other runs start from it too.
    """
    began = time.monotonic()
    recipe = data.recipe
    assert isinstance(recipe, EmotionRecipe | NliRecipe)
    data, whole = with_encoder(data, model)
    rows = {part: data.split.rows(part) for part in PARTS}
    if recipe.analysis.probes == "start":
        features: NDArray[np.float32] | None = kept_features(data, whole)
    else:
        features = main_features(data, whole, np.concatenate(list(rows.values())))
    labels, truth = data.task.labels, np.asarray(data.index.label).astype(np.int64)

    def probed(layer: int) -> dict[str, Any]:
        assert features is not None
        parts = {p: (np.ascontiguousarray(features[r, layer]), truth[r]) for p, r in rows.items()}
        return {"layer": layer, **probe(parts, labels, recipe.evaluation.metric)}

    found = []
    for layer in range(layers_of(whole)):
        if watch is not None:
            watch()
        # Layer by layer: the others wait for rank 0, and not longer than ranks do.
        found.append(data.world.on_main(partial(probed, layer)))
    majority = np.bincount(truth[rows["train"]], minlength=len(labels)).argmax()
    return {
        "weights": recipe.analysis.probes,
        "features": "mean over frames"
        if isinstance(whole, EmotionModel)
        else "[CLS] beside the mean over tokens",
        "layers": found,
        "majority": float((truth[rows["test"]] == majority).mean()),
        "seconds": data.world.gather(round(time.monotonic() - began, 1))[0],
    }


def probe(parts: dict[str, Part], labels: tuple[str, ...], metric: str) -> dict[str, float]:
    """Train on the part train, choose the strength on validation, score on test.

    Of equally good strengths the strongest is taken. Returns validation_accuracy, accuracy, uar,
    macro_f1 (test) and the chosen C.
    """
    from sklearn.linear_model import LogisticRegression

    train = parts["train"][0]
    mean, deviation = train.mean(0), train.std(0)
    deviation[deviation == 0] = 1
    scaled = {part: ((x - mean) / deviation, y) for part, (x, y) in parts.items()}
    # From strong to weak, each fit starts from the one before.
    classifier = LogisticRegression(max_iter=_ITERATIONS, warm_start=True)
    best: tuple[float, float, SplitMetrics, SplitMetrics] | None = None
    for strength in STRENGTHS:
        classifier.set_params(C=strength)
        with warnings.catch_warnings():
            # The weakest may stop short of the optimum; validation decides all the same.
            warnings.filterwarnings("ignore", message="lbfgs failed to converge")
            classifier.fit(*scaled["train"])
        validation, test = (_score(classifier, scaled[part], labels) for part in ("validation", "test"))
        value = -validation.loss if metric == "loss" else float(getattr(validation, metric))
        if best is None or value > best[0]:
            best = value, strength, validation, test
    assert best is not None
    _, strength, validation, test = best
    return {
        "validation_accuracy": validation.accuracy,
        "accuracy": test.accuracy,
        "uar": test.uar,
        "macro_f1": test.macro_f1,
        "C": strength,
    }


def _score(classifier: Any, part: Part, labels: tuple[str, ...]) -> SplitMetrics:
    features, truth = part
    # A class that the train part lacks gets no probability.
    shares = np.zeros((len(features), len(labels)))
    shares[:, classifier.classes_] = classifier.predict_proba(features)
    losses = -np.log(np.maximum(shares[np.arange(len(truth)), truth], 1e-12))
    return class_metrics(truth, shares.argmax(1), labels, losses)
