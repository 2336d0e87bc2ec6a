"""The only training loop: epochs of global steps, validation after each, the best weights kept.

Once a global step the ranks exchange one small word while the device works: the items of the step
to come, and what the last finished step gave. There is no other collective and no waiting for the
device in the loop.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from trainers.checkpoint import save_weights
from trainers.data import RunData
from trainers.engine import Engine
from trainers.evaluate import predict
from trainers.optim import learning_rate
from trainers.progress import Progress, StepTotals
from trainers.task import Batch
from trainers.tracking import Tracker

BEST = Path("checkpoints") / "best"
_SEED_TAG = 20


class TrainingFailed(RuntimeError):
    """Training cannot go on; one line that says where."""


@dataclass(frozen=True)
class Best:
    """The best validation so far. Higher is better: a loss is kept with its sign changed."""

    epoch: int = 0
    step: int = 0
    value: float = float("-inf")


@dataclass(frozen=True)
class Summary:
    """How a training ended."""

    best: Best
    epochs: int
    steps: int
    stopped: str
    """Why: "epochs", "max_steps" or "patience"."""


@dataclass(frozen=True)
class StepResult:
    """One rank's part of a global step, its sums perhaps still on their way from the device."""

    epoch: int
    step: int
    rate: float
    items: float
    """Of the global step."""
    sums: HostCopy
    """Loss and correct predictions, summed over this rank's items."""
    batches: list[Batch]
    seconds: float = 0.0
    """From its start to the next one's, reading and exchange included."""


class HostCopy:
    """A small device tensor on its way to the host."""

    def __init__(self, value: torch.Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if value.device.type == "cuda":
            self._value = torch.empty_like(value, device="cpu", pin_memory=True)
            self._value.copy_(value, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        else:
            self._value = value

    def read(self) -> list[float]:
        """The numbers, once they have arrived."""
        if self._event is not None:
            self._event.synchronize()
        return self._value.tolist()  # type: ignore[no-any-return]


def fit(engine: Engine, data: RunData, tracker: Tracker, folder: Path) -> Summary:
    """Train; afterwards ``folder/checkpoints/best`` holds the weights of the best epoch."""
    recipe = data.recipe
    total = data.total_steps()
    progress = Progress(tracker, recipe.loop.log_every, data.task.unit, total, data.world.main)
    best, step, epoch, stopped = Best(), 0, 0, "epochs"
    while step < total:
        epoch += 1
        step = _run_epoch(engine, data, progress, epoch, step, total)
        best = _validate(engine, data, progress, best, epoch, step, folder)
        patience = recipe.evaluation.patience
        if patience is not None and epoch - best.epoch >= patience:
            stopped = "patience"
            break
    if stopped == "epochs" and total < data.planned_steps():
        stopped = "max_steps"
    return Summary(best, epoch, step, stopped)


def _run_epoch(
    engine: Engine, data: RunData, progress: Progress, epoch: int, step: int, total: int
) -> int:
    """One pass over the training part, at most to step ``total``; returns the steps done so far."""
    optim = data.recipe.optim
    batches = data.batches(data.training_plan(epoch), epoch)
    progress.start_epoch(epoch)
    pending: StepResult | None = None
    upcoming = next(batches, None)
    items = _exchange(data, upcoming, None, progress)
    while upcoming is not None:
        began = time.perf_counter()
        rate = learning_rate(optim, step, total)
        result = train_step(engine, data, upcoming, epoch, step, rate, items)
        step += 1
        upcoming = next(batches, None) if step < total else None
        # The device is busy with `result`; what the word tells of is the step before.
        items = _exchange(data, upcoming, pending, progress)
        pending = replace(result, seconds=time.perf_counter() - began)
    _exchange(data, None, pending, progress)
    progress.finish_epoch(step)
    return step


def train_step(
    engine: Engine, data: RunData, batches: list[Batch], epoch: int, step: int, rate: float, items: float
) -> StepResult:  # fmt: skip
    """One global step: the loss of all ranks' micro-batches together is their mean over ``items``."""
    engine.set_learning_rate(rate)
    micro_batches = data.recipe.batching.micro_batches
    sums = torch.zeros(2, dtype=torch.float64, device=data.world.device)
    for batch in batches:
        seed_step(data.recipe.seed, epoch, step, batch.request.micro_batch)
        output = data.task.step(engine, batch, data.world.device)
        loss = output.losses.sum() * (1.0 if batch.request.counted else 0.0)
        # The engine averages over micro-batches; a short one must not weigh like a full one.
        engine.backward(loss * (micro_batches / items))
        if batch.request.counted:
            labels = batch.labels.to(data.world.device, non_blocking=True)
            sums[0] += loss.detach()
            sums[1] += (output.logits.argmax(1) == labels).sum()
    return StepResult(epoch, step + 1, rate, items, HostCopy(sums), batches)


def seed_step(seed: int, epoch: int, step: int, micro_batch: int) -> None:
    """Seed everything that a forward pass may draw from, so that it does not depend on the rank."""
    words = np.random.SeedSequence([_SEED_TAG, seed, epoch, step, micro_batch]).generate_state(3)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002 - transformers' masking draws from it
    random.seed(int(words[2]))


def _exchange(
    data: RunData, upcoming: list[Batch] | None, finished: StepResult | None, progress: Progress
) -> float:
    """Sum the control word over ranks: report the finished step, return the items of the next."""
    items = float(sum(batch.items for batch in upcoming)) if upcoming else 0.0
    loss, correct = finished.sums.read() if finished else (0.0, 0.0)
    valid = sum(batch.valid for batch in finished.batches) if finished else 0.0
    padded = sum(batch.padded for batch in finished.batches) if finished else 0.0
    items, loss, correct, valid, padded = data.world.sum([items, loss, correct, valid, padded])
    if finished is None:
        return items
    if not np.isfinite(loss):
        _stop_at_non_finite(data, finished)
    totals = StepTotals(loss, correct, valid, padded, finished.seconds)
    progress.report(finished.epoch, finished.step, finished.rate, finished.items, totals)
    return items


def _stop_at_non_finite(data: RunData, finished: StepResult) -> None:
    """Raise on every rank, naming the samples of the ranks whose loss is not finite."""
    broken = not np.isfinite(finished.sums.read()[0])
    rows = [int(row) for batch in finished.batches for row in batch.request.rows] if broken else []
    keys = [data.index.key(row) for theirs in data.world.gather(rows) for row in theirs]
    raise TrainingFailed(
        f"step {finished.step}: the loss is not finite; samples: {', '.join(keys[:20])}"
        f"{' ...' if len(keys) > 20 else ''}; try a lower optim.lr, optim.clip 1.0 or fp32"
    )


def _validate(
    engine: Engine, data: RunData, progress: Progress, best: Best, epoch: int, step: int, folder: Path
) -> Best:  # fmt: skip
    """Evaluate on the validation part and keep the weights if they are the best so far."""
    metrics = predict(engine, data, "validation").metrics(data.task.labels)
    progress.validation(epoch, step, metrics)
    if not np.isfinite(metrics.loss):
        raise TrainingFailed(
            f"step {step}: the validation loss is not finite; try a lower optim.lr, optim.clip 1.0 "
            "or fp32"
        )
    metric = data.recipe.evaluation.metric
    value = -metrics.loss if metric == "loss" else float(getattr(metrics, metric))
    if value <= best.value:
        return best
    state = engine.weights()
    if state is not None:
        save_weights(
            folder / BEST, state, {"epoch": epoch, "step": step, "metric": metric, "value": value}
        )
    data.world.barrier()
    return Best(epoch, step, value)
