"""Metrics are scikit-learn's, classes without samples included."""

import json
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from trainers.metrics import ReportRow, SplitMetrics, class_metrics, classification_rows

LABELS = ("anger", "fear", "neutral", "خوشحالی")


def drawn(seed: int, present: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """300 items whose truth is among ``present``, two in three predicted right."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(present, 300)
    predicted = np.where(rng.random(300) < 0.67, truth, rng.integers(0, len(LABELS), 300))
    return truth, predicted, rng.exponential(size=300).astype(np.float32)


@pytest.mark.parametrize("present", [(0, 1, 2, 3), (0, 2)])
def test_equal_to_scikit_learn(present: tuple[int, ...]) -> None:
    truth, predicted, losses = drawn(1, present)
    ours = class_metrics(truth, predicted, LABELS, losses)
    codes = list(range(len(LABELS)))
    kwargs = {"labels": codes, "zero_division": 0}
    assert ours.items == 300
    assert ours.loss == pytest.approx(losses.astype(np.float64).mean(), rel=1e-12)
    assert ours.accuracy == pytest.approx(sk.accuracy_score(truth, predicted), rel=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of predicted classes that have no truth
        assert ours.uar == pytest.approx(sk.balanced_accuracy_score(truth, predicted), rel=1e-12)
    assert ours.macro_f1 == pytest.approx(sk.f1_score(truth, predicted, average="macro", **kwargs))
    assert ours.weighted_f1 == pytest.approx(sk.f1_score(truth, predicted, average="weighted", **kwargs))
    table = sk.precision_recall_fscore_support(truth, predicted, **kwargs)
    for mine, theirs in zip((ours.precision, ours.recall, ours.f1, ours.support), table, strict=True):
        assert mine == pytest.approx(theirs.tolist())
    matrix = sk.confusion_matrix(truth, predicted, labels=codes)
    assert np.array_equal(ours.confusion, matrix)
    assert sum(map(sum, ours.confusion)) == 300


def report_text(metrics: SplitMetrics, digits: int) -> str:
    """The rows, as ``sklearn.metrics.classification_report`` prints them."""
    classes, summary = classification_rows(metrics)
    width = max(len(name) for name in (*metrics.labels, "weighted avg", "x" * digits))
    lines = [
        f"{'':>{width}s} " + "".join(f" {h:>9}" for h in ("precision", "recall", "f1-score", "support")),
        "",
    ]

    def number(value: float | None) -> str:
        return f" {'':>9}" if value is None else f" {value:>9.{digits}f}"

    def line(row: ReportRow) -> str:
        numbers = number(row.precision) + number(row.recall) + number(row.f1)
        return f"{row.name:>{width}s} {numbers} {row.support:>9}"

    lines += [*map(line, classes), "", *map(line, summary)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("digits", [2, 4])
@pytest.mark.parametrize("present", [(0, 1, 2, 3), (0, 2)])
def test_rows_are_those_that_scikit_learn_prints(present: tuple[int, ...], digits: int) -> None:
    truth, predicted, losses = drawn(2, present)
    theirs = sk.classification_report(
        truth,
        predicted,
        labels=range(len(LABELS)),
        target_names=LABELS,
        digits=digits,
        zero_division=0,
    )
    ours = class_metrics(truth, predicted, LABELS, losses)
    assert report_text(ours, digits) == theirs


def test_rows_of_the_confusion_matrix_are_the_truth() -> None:
    ours = class_metrics(np.array([0, 0, 1]), np.array([1, 1, 1]), ("a", "b"), np.ones(3))
    assert ours.confusion == ((0, 2), (0, 1))
    assert ours.recall == (0.0, 1.0)


def test_survives_json() -> None:
    truth, predicted, losses = drawn(3, (0, 1, 2))
    ours = class_metrics(truth, predicted, LABELS, losses)
    assert SplitMetrics.from_dict(json.loads(json.dumps(ours.as_dict()))) == ours


@pytest.mark.parametrize("damage", ["labels", "confusion", "f1", "support"])
def test_a_damaged_dict_is_refused(damage: str) -> None:
    truth, predicted, losses = drawn(4, (0, 1, 2, 3))
    values = class_metrics(truth, predicted, LABELS, losses).as_dict()
    with pytest.raises(ValueError, match="entries for"):
        SplitMetrics.from_dict({**values, damage: values[damage][:-1]})
    del values[damage]
    with pytest.raises(KeyError):
        SplitMetrics.from_dict(values)


def test_programming_errors_are_caught() -> None:
    with pytest.raises(AssertionError):
        class_metrics(np.array([0, 2]), np.array([0, 1]), ("a", "b"), np.ones(2))
    with pytest.raises(AssertionError):
        class_metrics(np.array([], int), np.array([], int), ("a", "b"), np.array([]))
