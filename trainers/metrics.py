"""Classification metrics of one split, from pooled per-sample predictions.

Evaluation computes a ``SplitMetrics`` once and stores ``as_dict()`` as JSON; the report reads it
back with ``from_dict`` and needs no scikit-learn for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SplitMetrics:
    """Metrics of one split. Per-class tuples and the confusion matrix follow ``labels``."""

    labels: tuple[str, ...]
    items: int
    loss: float
    """Mean over items."""
    accuracy: float
    uar: float
    """Unweighted average recall over the classes that occur in the split."""
    macro_f1: float
    """Mean F1 over all labels; a class that neither occurs nor is predicted counts as 0."""
    weighted_f1: float
    """F1 weighted by support."""
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    f1: tuple[float, ...]
    support: tuple[int, ...]
    confusion: tuple[tuple[int, ...], ...]
    """(classes, classes) counts: rows are the truth, columns the prediction."""

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and numbers for JSON."""
        scalars = {name: getattr(self, name) for name in SCALARS}
        columns = {name: list(getattr(self, name)) for name in PER_CLASS}
        confusion = [list(row) for row in self.confusion]
        return {
            "labels": list(self.labels),
            **scalars,
            **columns,
            "confusion": confusion,
        }

    def scores(self) -> dict[str, float]:
        """What is logged after each epoch."""
        return {name: float(getattr(self, name)) for name in SCALARS if name != "items"}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> SplitMetrics:
        """The inverse of ``as_dict``. Raises KeyError, TypeError or ValueError on a damaged one."""
        labels = tuple(str(label) for label in values["labels"])

        def floats(name: str) -> tuple[float, ...]:
            return tuple(float(x) for x in values[name])

        metrics = SplitMetrics(
            labels=labels,
            items=int(values["items"]),
            loss=float(values["loss"]),
            accuracy=float(values["accuracy"]),
            uar=float(values["uar"]),
            macro_f1=float(values["macro_f1"]),
            weighted_f1=float(values["weighted_f1"]),
            precision=floats("precision"),
            recall=floats("recall"),
            f1=floats("f1"),
            support=tuple(int(n) for n in values["support"]),
            confusion=tuple(tuple(int(n) for n in row) for row in values["confusion"]),
        )
        columns = [(name, getattr(metrics, name)) for name in (*PER_CLASS, "confusion")]
        columns += [(f"confusion row {n}", row) for n, row in enumerate(metrics.confusion)]
        for name, column in columns:
            if len(column) != len(labels):
                raise ValueError(f"{name} has {len(column)} entries for {len(labels)} labels")
        return metrics


@dataclass(frozen=True)
class TokenMetrics:
    """How well the masked tokens of one split were predicted."""

    items: int
    loss: float
    """Mean over masked tokens, in nats; with ``pair_loss`` where pairs are told too."""
    accuracy: float
    pair_loss: float | None = None
    """Of telling whether two texts belong together: a mean over masked tokens of their pairs' losses."""
    pair_accuracy: float | None = None
    """Share told rightly, pairs weighing by their masked tokens as in the loss."""
    shared_loss: float | None = None
    """Of telling which tokens stand in both texts of a pair, averaged as the pairs' loss."""
    shared_accuracy: float | None = None
    """Share told rightly."""

    @property
    def perplexity(self) -> float:
        """exp of the masked tokens' loss alone."""
        others = (self.pair_loss or 0.0) + (self.shared_loss or 0.0)
        return math.exp(min(self.loss - others, 700.0))

    def scores(self) -> dict[str, float]:
        """What is logged after each epoch."""
        scores = {"loss": self.loss, "accuracy": self.accuracy, "perplexity": self.perplexity}
        of_pairs = {name: getattr(self, name) for name in PAIR_SCORES}
        return scores | {name: score for name, score in of_pairs.items() if score is not None}

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {"items": self.items, **self.scores()}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> TokenMetrics:
        """The inverse of ``as_dict``. Raises KeyError, TypeError or ValueError on a damaged one."""
        pairs = [float(values[name]) if name in values else None for name in PAIR_SCORES]
        loss, accuracy = float(values["loss"]), float(values["accuracy"])
        return TokenMetrics(int(values["items"]), loss, accuracy, *pairs)


PAIR_SCORES = ("pair_loss", "pair_accuracy", "shared_loss", "shared_accuracy")
"""Those of ``TokenMetrics`` that a training may lack, as a task gives them with ``StepOutput.pairs``."""
Metrics = SplitMetrics | TokenMetrics
SCALARS = ("items", "loss", "accuracy", "uar", "macro_f1", "weighted_f1")
PER_CLASS = ("precision", "recall", "f1", "support")


def class_metrics(
    truth: NDArray[np.integer[Any]],
    predicted: NDArray[np.integer[Any]],
    labels: Sequence[str],
    losses: NDArray[np.floating[Any]],
) -> SplitMetrics:
    """Metrics of ``predicted`` against ``truth``, both (items,) positions in ``labels``.

    ``losses`` is (items,), the cross entropy of each item in nats. Undefined precision, recall and
    F1 are 0, as scikit-learn's ``zero_division=0``. UAR is the unweighted average recall of the
    INTERSPEECH paralinguistic challenges (Schuller et al. 2009), over classes with support only:
    a class that is absent from a small split can be neither recalled nor missed.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    truth, predicted = np.asarray(truth), np.asarray(predicted)
    assert len(truth) == len(predicted) == len(losses) > 0, "one prediction and loss per item"
    codes = np.arange(len(labels))
    assert np.isin(truth, codes).all() and np.isin(predicted, codes).all(), "codes out of range"
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, labels=codes, zero_division=0.0
    )
    confusion = confusion_matrix(truth, predicted, labels=codes)
    return SplitMetrics(
        labels=tuple(labels),
        items=len(truth),
        loss=float(np.mean(losses, dtype=np.float64)),
        accuracy=float(np.mean(truth == predicted)),
        uar=float(recall[support > 0].mean()),
        macro_f1=float(f1.mean()),
        weighted_f1=float(np.average(f1, weights=support)),
        precision=tuple(precision.tolist()),
        recall=tuple(recall.tolist()),
        f1=tuple(f1.tolist()),
        support=tuple(support.tolist()),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


@dataclass(frozen=True)
class ReportRow:
    """One row of a classification report. ``None`` stands where scikit-learn prints nothing."""

    name: str
    precision: float | None
    recall: float | None
    f1: float
    support: int


def classification_rows(metrics: SplitMetrics) -> tuple[list[ReportRow], list[ReportRow]]:
    """The rows per class, then accuracy, macro and weighted average."""
    columns = zip(metrics.labels, metrics.precision, metrics.recall, metrics.f1, metrics.support, strict=True)
    classes = [ReportRow(*column) for column in columns]
    weights = np.asarray(metrics.support, np.float64)

    def average(name: str, how: NDArray[np.float64] | None) -> ReportRow:
        values = [
            float(np.average(column, weights=how))
            for column in (metrics.precision, metrics.recall, metrics.f1)
        ]
        return ReportRow(name, values[0], values[1], values[2], metrics.items)

    summary = [
        ReportRow("accuracy", None, None, metrics.accuracy, metrics.items),
        average("macro avg", None),
        average("weighted avg", weights),
    ]
    return classes, summary
