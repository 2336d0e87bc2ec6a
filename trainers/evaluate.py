"""Every sample of a part once, on any number of ranks; metrics from the pooled predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainers.data import RunData
from trainers.engine import Engine
from trainers.metrics import Metrics, SplitMetrics, TokenMetrics, class_metrics
from trainers.predictions import write_predictions as write_table


@dataclass(frozen=True)
class Predictions:
    """Pooled over all ranks, in plan order."""

    rows: NDArray[np.int64]
    """(entries,) rows of the index; a balanced train part holds rows several times."""
    truth: NDArray[np.int64]
    """(items,) an item is an entry, or a token to predict where ``logits`` has no classes."""
    losses: NDArray[np.float64]
    correct: NDArray[np.bool_]
    logits: NDArray[np.float32]
    """(items, classes)"""
    pairs: NDArray[np.float32]
    """(items, 2 or 4) as in ``StepOutput``, or (items, 0)."""

    def broken_rows(self) -> list[int]:
        """Rows of the entries whose loss is not finite; none where items are tokens, not entries."""
        if len(self.losses) != len(self.rows):
            return []
        return self.rows[~np.isfinite(self.losses)].tolist()  # type: ignore[no-any-return]

    def metrics(self, labels: tuple[str, ...]) -> SplitMetrics:
        """Metrics of a classifier, over all entries."""
        return class_metrics(self.truth, self.logits.argmax(1), labels, self.losses)

    def summarise(self, labels: tuple[str, ...]) -> Metrics:
        """Metrics of a classifier, or of predicted tokens where there are no ``labels``."""
        if labels:
            return self.metrics(labels)
        accuracy = float(self.correct.mean())
        pairs = map(float, self.pairs.mean(0, dtype=np.float64))
        return TokenMetrics(len(self.losses), float(self.losses.mean()), accuracy, *pairs)


def predict(
    engine: Engine | nn.Module, data: RunData, part: str, watch: Callable[[], None] | None = None
) -> Predictions:
    """Run the model over a part. A collective call; every rank gets the result. ``watch`` is called
    on all ranks before each step, and may end it by raising. A plain module works like an engine."""
    plan = data.evaluation_plan(part)
    engine.train(False)
    rows, truth, losses, correct, logits, pairs, order = [], [], [], [], [], [], []
    with torch.no_grad():
        for step in data.batches(plan, epoch=0):
            if watch is not None:
                watch()
            for batch in step:
                output = data.task.step(engine, batch, data.world.device)
                if not batch.request.counted:  # its forward pass was for the others' sake
                    continue
                number = batch.request.step * plan.micro_batches + batch.request.micro_batch
                order.append(number)
                rows.append(batch.request.rows)
                truth.append(batch.labels.numpy())
                losses.append(output.losses.double().cpu().numpy())
                correct.append(output.correct.cpu().numpy())
                logits.append(_kept(output.logits, len(truth[-1])))
                pairs.append(_kept(output.pairs, len(truth[-1])))
    engine.train(True)
    gathered = data.world.gather((order, rows, truth, losses, correct, logits, pairs))
    place = np.argsort([number for theirs in gathered for number in theirs[0]], kind="stable")
    columns = [[piece for theirs in gathered for piece in theirs[n]] for n in range(1, 7)]
    return Predictions(*(np.concatenate([column[n] for n in place]) for column in columns))


def _kept(values: torch.Tensor | None, items: int) -> NDArray[np.float32]:
    return np.zeros((items, 0), np.float32) if values is None else values.cpu().numpy()


def write_predictions(path: Path, predictions: Predictions, data: RunData) -> None:
    """The file of a part's predictions, an entry a row."""
    shifted = np.exp(predictions.logits - predictions.logits.max(1, keepdims=True))
    keys = [data.index.key(row) for row in predictions.rows.tolist()]
    write_table(
        path, keys, data.task.labels, predictions.truth, predictions.losses,
        shifted / shifted.sum(1, keepdims=True),
    )  # fmt: skip
