"""Every sample of a part once, on any number of ranks; metrics from the pooled predictions."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainers.data import RunData
from trainers.engine import Engine
from trainers.metrics import SplitMetrics, class_metrics


@dataclass(frozen=True)
class Predictions:
    """Pooled over all ranks, in plan order."""

    rows: NDArray[np.int64]
    """(entries,) rows of the index; a balanced train part holds rows several times."""
    truth: NDArray[np.int64]
    losses: NDArray[np.float64]
    logits: NDArray[np.float32]
    """(entries, classes)"""

    def metrics(self, labels: tuple[str, ...]) -> SplitMetrics:
        """Metrics over all entries."""
        return class_metrics(self.truth, self.logits.argmax(1), labels, self.losses)


def predict(
    engine: Engine, data: RunData, part: str, watch: Callable[[], None] | None = None
) -> Predictions:
    """Run the model over a part. A collective call; every rank gets the result. ``watch`` is called
    on all ranks before each step, and may end it by raising."""
    plan = data.evaluation_plan(part)
    engine.train(False)
    rows, truth, losses, logits, order = [], [], [], [], []
    with torch.no_grad():
        for step in data.batches(plan, epoch=0):
            if watch is not None:
                watch()
            for batch in step:
                output = data.task.step(engine, batch, data.world.device)
                if not batch.request.counted:  # its forward pass was for the others' sake
                    continue
                number = batch.request.step * plan.micro_batches + batch.request.micro_batch
                order.append(np.full(len(batch.labels), number))
                rows.append(batch.request.rows)
                truth.append(batch.labels.numpy())
                losses.append(output.losses.double().cpu().numpy())
                logits.append(output.logits.cpu().numpy())
    engine.train(True)
    own = [
        np.concatenate(column) if column else None
        for column in (order, rows, truth, losses, logits)
    ]
    parts = [theirs for theirs in data.world.gather(own) if theirs[0] is not None]
    columns = [
        np.concatenate([theirs[n] for theirs in parts if theirs[n] is not None]) for n in range(5)
    ]
    place = np.argsort(columns[0], kind="stable")
    return Predictions(*(column[place] for column in columns[1:]))


def write_predictions(path: Path, predictions: Predictions, data: RunData) -> None:
    """One CSV row an entry: key, label, prediction, loss, p(label)..."""
    labels = data.task.labels
    shifted = predictions.logits - predictions.logits.max(1, keepdims=True)
    shares = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["key", "label", "prediction", "loss", *(f"p({label})" for label in labels)]
        )
        for n, row in enumerate(predictions.rows.tolist()):
            guess = labels[int(shares[n].argmax())]
            truth = labels[int(predictions.truth[n])]
            values = [f"{share:.6f}" for share in shares[n]]
            loss = f"{predictions.losses[n]:.6f}"
            writer.writerow([data.index.key(row), truth, guess, loss, *values])
