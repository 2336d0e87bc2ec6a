"""The file of a part's predictions, by which runs and baselines are compared item by item."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.errors import InputError

_COLUMNS = ["key", "label", "prediction", "loss"]


def write_predictions(
    path: Path,
    keys: Sequence[str],
    labels: Sequence[str],
    truth: NDArray[np.integer[Any]],
    losses: NDArray[np.floating[Any]],
    probabilities: NDArray[np.floating[Any]],
) -> None:
    """One CSV row an item: key, label, prediction, loss, p(label)...

    ``truth`` and ``losses`` are (items,), ``probabilities`` (items, classes); the most likely class is
    the prediction.
    """
    write_rows(path, prediction_rows(keys, labels, probabilities, truth, losses))


def prediction_rows(
    keys: Sequence[str],
    labels: Sequence[str],
    probabilities: NDArray[np.floating[Any]],
    truth: NDArray[np.integer[Any]] | None = None,
    losses: NDArray[np.floating[Any]] | None = None,
    name: str = "key",
) -> Iterator[list[str]]:
    """The rows of a table, the header first; without ``truth`` it has neither label nor loss. ``name``
    is what the first column is called."""
    known = truth is not None and losses is not None
    columns = [name, *_COLUMNS[1:]] if known else [name, "prediction"]
    yield [*columns, *(f"p({label})" for label in labels)]
    for n, key in enumerate(keys):
        row = [key, labels[int(probabilities[n].argmax())]]
        if truth is not None and losses is not None:
            row = [key, labels[int(truth[n])], row[1], f"{losses[n]:.6f}"]
        yield [*row, *(f"{share:.6f}" for share in probabilities[n])]


def write_rows(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write a table beside its place and rename it; an older one is replaced. Raises OSError, and
    leaves nothing then."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(rows)
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """(items, classes) logits -> probabilities."""
    shifted: NDArray[np.float32] = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


@dataclass(frozen=True)
class PredictionTable:
    """A file of predictions, ordered by key, so that the tables of one part pair row by row."""

    labels: tuple[str, ...]
    keys: tuple[str, ...]
    truth: NDArray[np.int64]
    """(items,) positions in ``labels``."""
    predicted: NDArray[np.int64]


def read_predictions(path: Path) -> PredictionTable:
    """Read what ``write_predictions`` wrote. Raises InputError naming the row that is no prediction."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not readable ({error}); evaluate the run again") from None
    header, body = (rows[0], rows[1:]) if rows else ([], [])
    labels = tuple(name[2:-1] for name in header[len(_COLUMNS) :])
    if header[: len(_COLUMNS)] != _COLUMNS or not labels or not body:
        raise InputError(f"{path}: holds no predictions; evaluate the run again")
    code = {label: n for n, label in enumerate(labels)}
    for number, row in enumerate(body, 2):
        if len(row) != len(header) or row[1] not in code or row[2] not in code:
            raise InputError(f"{path}: row {number} is damaged; evaluate the run again")
    body.sort(key=lambda row: row[0])
    keys = tuple(row[0] for row in body)
    truth, predicted = (np.array([code[row[n]] for row in body], np.int64) for n in (1, 2))
    return PredictionTable(labels, keys, truth, predicted)
