"""Every sample of a part once, on any number of ranks; metrics from the pooled predictions."""

from __future__ import annotations

import dataclasses
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
from trainers.predictions import softmax
from trainers.predictions import write_predictions as write_table
from trainers.task import StepOutput


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
    found: list[tuple[int, NDArray[np.int64], torch.Tensor, StepOutput]] = []
    with torch.no_grad():
        for step in data.batches(plan, epoch=0):
            if watch is not None:
                watch()
            for batch in step:
                output = data.task.step(engine, batch, data.world.device)
                if batch.request.counted:  # else its forward pass was for the others' sake
                    number = batch.request.step * plan.micro_batches + batch.request.micro_batch
                    found.append((number, batch.request.rows, batch.labels, output))
    engine.train(True)
    # Not before: copying a batch's results to the host waits until the device is done with it.
    mine = [(number, _on_host(rows, labels, output)) for number, rows, labels, output in found]
    pieces = [piece for theirs in data.world.gather(mine) for piece in theirs]
    pieces.sort(key=lambda piece: piece[0])
    names = [column.name for column in dataclasses.fields(Predictions)]
    return Predictions(*(np.concatenate([getattr(piece, name) for _, piece in pieces]) for name in names))


def _on_host(rows: NDArray[np.int64], labels: torch.Tensor, output: StepOutput) -> Predictions:
    """What one micro-batch gave."""
    none = torch.zeros(len(labels), 0)
    return Predictions(
        rows=rows,
        truth=labels.numpy(),
        losses=output.losses.double().cpu().numpy(),
        correct=output.correct.cpu().numpy(),
        logits=(none if output.logits is None else output.logits).cpu().numpy(),
        pairs=(none if output.pairs is None else output.pairs).cpu().numpy(),
    )


def write_predictions(path: Path, predictions: Predictions, data: RunData) -> None:
    """The file of a part's predictions, an entry a row."""
    keys = [data.index.key(row) for row in predictions.rows.tolist()]
    write_table(
        path,
        keys,
        data.task.labels,
        predictions.truth,
        predictions.losses,
        softmax(predictions.logits),
    )
