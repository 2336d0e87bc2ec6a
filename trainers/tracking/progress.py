"""What a training says of itself while it runs: lines for the tracker and for the person watching."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from trainers.metrics import Metrics
from trainers.tracking.tracker import Tracker

_TITLES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "perplexity": "perplexity",
    "pair_accuracy": "pairs told rightly",
    "shared_accuracy": "shared tokens told rightly",
    "uar": "UAR",
    "macro_f1": "macro F1",
}


@dataclass(frozen=True)
class StepTotals:
    """A global step, summed over ranks."""

    loss: float
    correct: float
    gradient_norm: float
    """Before clipping."""
    valid: float
    """Audio seconds or tokens."""
    padded: float
    seconds: float
    """On this rank."""


class Progress:
    """Turns finished steps into lines. metrics.jsonl gets what a repeated run gives again, perf.jsonl
    what it does not: times, rates, memory."""

    def __init__(self, tracker: Tracker, every: int, unit: str, total: int, main: bool) -> None:
        self._tracker, self._every, self._unit, self._total = tracker, every, unit, total
        self._main = main
        self._epoch = 0
        self.sums = (0.0, 0.0, 0.0)
        """Loss, correct predictions and items of the epoch so far."""
        self._valid = self._seconds = 0.0
        self._said = time.perf_counter()

    def start_epoch(self, epoch: int, sums: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> None:
        """Begin an epoch, or go on within one, with its sums so far."""
        self._epoch = epoch
        self.sums = sums
        self._valid = self._seconds = 0.0

    def report(self, epoch: int, step: int, rate: float, items: float, totals: StepTotals) -> None:
        """A global step is done."""
        loss_sum, correct, count = self.sums
        self.sums = (loss_sum + totals.loss, correct + totals.correct, count + items)
        self._valid += totals.valid
        self._seconds += totals.seconds
        if step % self._every and step != self._total:
            return
        loss = totals.loss / items
        padding = 1 - totals.valid / totals.padded
        self._tracker.metrics(
            {
                "kind": "train",
                "step": step,
                "epoch": epoch,
                "loss": loss,
                "lr": rate,
                "gradient_norm": totals.gradient_norm,
                "items": int(items),
                "padding": round(padding, 6),
            }
        )
        per_second = self._valid / max(self._seconds, 1e-9)
        self._tracker.performance(
            {
                "step": step,
                "seconds": self._seconds,
                "rate": per_second,
                "unit": f"{self._unit}/s",
                "peak_memory_bytes": peak_memory(),
            }
        )
        self._valid = self._seconds = 0.0
        now = time.perf_counter()
        if self._main and now - self._said > 5:
            self._said = now
            print(
                f"  epoch {epoch} step {step}/{self._total}: loss {loss:.4f}, "
                f"{per_second:,.0f} {self._unit}/s",
                flush=True,
            )

    def finish_epoch(self, step: int) -> None:
        """The training loss and accuracy over all items of the epoch, as they were when trained."""
        loss, correct, items = self.sums
        if items:
            self._tracker.metrics(
                {
                    "kind": "train_epoch",
                    "step": step,
                    "epoch": self._epoch,
                    "loss": loss / items,
                    "accuracy": correct / items,
                }
            )

    def evaluated(self, part: str, epoch: int, step: int, metrics: Metrics) -> None:
        """A part was evaluated after an epoch."""
        scores = metrics.scores()
        self._tracker.metrics({"kind": part, "step": step, "epoch": epoch, **scores})
        if self._main:
            print(f"  epoch {epoch}: {part} {scores_text(scores)}", flush=True)


def scores_text(scores: Mapping[str, float]) -> str:
    """Scores in a line, for the person watching."""
    return ", ".join(f"{_TITLES[name]} {scores[name]:.4f}" for name in _TITLES if name in scores)


def reset_peak_memory() -> None:
    """Let ``peak_memory`` forget what came before, as scoring of heads and passes for features do; a
    process's peak resident set cannot be reset."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> int:
    """Bytes: the device's peak on a GPU since ``reset_peak_memory``, else the process's peak resident
    set."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
