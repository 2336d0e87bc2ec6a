"""The only training loop: epochs of global steps, validation and a checkpoint after each.

Once a global step the ranks exchange one small word while the device works: the items of the step
to come, what the last finished step gave, whether to stop, how a save comes on. The loop itself has
no other collective and waits for the device only for a moment at each save; DeepSpeed's update waits
for it, too, where it reads the norm of the gradient on the host (ZeRO 3, and fp32 at ZeRO 1 and 2).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainers.checkpoints.checkpoint import tag_of
from trainers.checkpoints.saving import Flags, Saver
from trainers.checkpoints.state import Best, TrainingState
from trainers.data import RunData
from trainers.engine import Engine, LossScaleTooSmall
from trainers.evaluate import predict
from trainers.metrics import Metrics
from trainers.optim import learning_rate
from trainers.ranks.stopping import Stopped, stop_asked
from trainers.step import StepResult, StepValues, train_step
from trainers.task import Batch
from trainers.tracking.progress import Progress, StepTotals, reset_peak_memory
from trainers.tracking.tracker import Tracker


class TrainingFailed(RuntimeError):
    """Training cannot go on; one line that says where."""


@dataclass(frozen=True)
class Summary:
    """How a training ended."""

    state: TrainingState
    best: Best
    stopped: str
    """Why: "epochs", "max_steps" or "patience"."""


@dataclass(frozen=True)
class Word:
    """The control word: what each rank says once a step, summed over ranks."""

    items: float = 0.0
    """Of the step to come."""
    loss: float = 0.0
    correct: float = 0.0
    broken: float = 0.0
    valid: float = 0.0
    padded: float = 0.0
    stop: float = 0.0
    """A signal has asked this rank to stop."""
    late: float = 0.0
    """By rank 0's clock it is time for a checkpoint."""
    written: float = 0.0
    failed: float = 0.0
    committed: float = 0.0


class Loop:
    """Trains an engine from a state on. ``run`` returns when training is over; it raises Stopped
    after a save when a signal asked for it, and TrainingFailed where it cannot go on."""

    def __init__(
        self,
        engine: Engine,
        data: RunData,
        tracker: Tracker,
        saver: Saver,
        about: Mapping[str, Any],
        state: TrainingState,
    ) -> None:
        """``about`` goes into every checkpoint: what must be the same when it is loaded."""
        self.engine, self.data, self.tracker, self.saver = engine, data, tracker, saver
        self.about, self.state = about, state
        self.total = data.total_steps()
        every, unit = data.recipe.loop.log_every, data.task.unit
        self.progress = Progress(tracker, every, unit, self.total, data.world.main)
        self.progress.start_epoch(state.epoch, state.sums)
        self._plan = ""
        self._saved = tag_of(state.step, state.evaluated)
        self._began = time.monotonic() - state.seconds

    def run(self) -> Summary:
        """Train to the end of the recipe."""
        reset_peak_memory()
        while not (stopped := self._end()):
            if self.state.evaluated:
                epoch = self.state.epoch + 1
                self.state = replace(self.state, epoch=epoch, steps_in_epoch=0, evaluated=False)
                self.progress.start_epoch(epoch)
            self._train_epoch()
            self._validate()
        self.saver.wait()
        self._log_saves()
        assert self.state.best is not None
        return Summary(self.state, self.state.best, stopped)

    def seconds(self) -> float:
        """Spent in all starts of the run, but for what was lost with a crash."""
        return time.monotonic() - self._began

    def watch(self) -> None:
        """To be called where there is no step: hear of signals, help a save along. Raises Stopped."""
        if self._exchange(None, None).stop:
            raise Stopped(f"step {self.state.step}")

    def _end(self) -> str:
        """Why training is over, or ""."""
        state, recipe = self.state, self.data.recipe
        if not state.evaluated:
            return ""
        patience = recipe.evaluation.patience
        if patience is not None and state.best and state.epoch - state.best.epoch >= patience:
            return "patience"
        if state.step < self.total:
            return ""
        return "max_steps" if self.total < self.data.planned_steps else "epochs"

    def _train_epoch(self) -> None:
        """What is left of one pass over the training part, at most to the last step of the run."""
        data, epoch = self.data, self.state.epoch
        plan = data.training_plan(epoch)
        self._plan = plan.digest()
        batches = data.batches(plan, epoch, self.state.steps_in_epoch)
        pending: StepResult | None = None
        upcoming = next(batches, None) if self.state.step < self.total else None
        word = self._exchange(upcoming, None)
        if word.stop:
            self._leave()
        while upcoming is not None:
            began, step = time.perf_counter(), self.state.step
            rate = learning_rate(data.recipe.optim, step, self.total)
            result = self._step(upcoming, rate, word.items)
            upcoming = next(batches, None) if step + 1 < self.total else None
            # The device is busy with `result`; what the word tells of is the step before.
            word = self._exchange(upcoming, pending)
            pending = replace(result, seconds=time.perf_counter() - began)
            if word.stop or word.late or self.saver.due(step + 1):
                saving = time.monotonic()
                # Only a step that is known to be finite and has been logged is saved.
                stop, word, pending = word.stop, self._exchange(upcoming, pending), None
                self._save(saving)
                if stop:
                    self._leave()
        self._exchange(None, pending)

    def _step(self, batches: list[Batch], rate: float, items: float) -> StepResult:
        state = self.state
        self.data.world.at(f"step {state.step + 1}")
        try:
            result = train_step(self.engine, self.data, batches, state.epoch, state.step, rate, items)
        except LossScaleTooSmall as error:
            keys = self._keys(batches)
            raise TrainingFailed(f"step {state.step + 1}: {error}; samples: {keys}") from None
        steps = state.steps_in_epoch + 1
        self.state = replace(state, step=state.step + 1, steps_in_epoch=steps)
        return result

    def _exchange(self, upcoming: list[Batch] | None, finished: StepResult | None) -> Word:
        """Sum the control word over ranks, report the finished step, move a save along."""
        values = finished.values if finished else StepValues()
        batches = finished.batches if finished else []
        flags = self.saver.flags()
        own = Word(
            items=float(sum(batch.items for batch in upcoming or [])),
            loss=values.loss,
            correct=values.correct,
            broken=float(values.broken),
            valid=sum(batch.valid for batch in batches),
            padded=sum(batch.padded for batch in batches),
            stop=float(stop_asked()),
            late=float(self.saver.late()),
            **dataclasses.asdict(flags),
        )
        word = Word(*self.data.world.sum(list(dataclasses.astuple(own))))
        self.saver.advance(Flags(word.written, word.failed, word.committed))
        self._log_saves()
        if finished is not None:
            if not np.isfinite(word.loss) or word.broken:
                self._stop_at_non_finite(finished, word)
            totals = StepTotals(
                word.loss,
                word.correct,
                values.gradient_norm,
                word.valid,
                word.padded,
                finished.seconds,
            )
            self.progress.report(finished.epoch, finished.step, finished.rate, finished.items, totals)
        return word

    def _validate(self) -> None:
        """Evaluate on the validation part and save, as the best weights if they are."""
        try:
            predictions = predict(self.engine, self.data, "validation", self.watch)
            tested = None
            if self.data.recipe.evaluation.test_each_epoch:
                tested = predict(self.engine, self.data, "test", self.watch)
        except Stopped:
            self._save(time.monotonic())
            self._leave()
        metrics = predictions.summarise(self.data.task.labels)
        state = self.state
        self.progress.finish_epoch(state.step)
        self.progress.evaluated("validation", state.epoch, state.step, metrics)
        if not np.isfinite(metrics.loss):
            rows = predictions.broken_rows()
            samples = f"; samples: {self._names(rows)}" if rows else ""
            raise TrainingFailed(
                f"step {state.step}: the validation loss is not finite{samples}; try a lower optim.lr, "
                "optim.clip 1.0 or fp32"
            )
        metric, value = self.data.recipe.evaluation.metric, self._value(metrics)
        best = state.best
        # A forced change of the metric leaves nothing to compare with.
        if best is None or best.metric != metric or value > best.value:
            best = Best(state.epoch, state.step, metric, value, tag_of(state.step, evaluated=True))
        if tested is not None:
            scores = tested.summarise(self.data.task.labels)
            self.progress.evaluated("test", state.epoch, state.step, scores)
        self.state = replace(state, evaluated=True, best=best)
        self._save(time.monotonic())

    def _value(self, metrics: Metrics) -> float:
        """The metric that the recipe names, higher meaning better."""
        metric = self.data.recipe.evaluation.metric
        return -metrics.loss if metric == "loss" else metrics.scores()[metric]

    def _save(self, began: float) -> None:
        """Have everything saved that the next start needs; ``began`` is when training stood still."""
        state = replace(self.state, sums=self.progress.sums, seconds=began - self._began)
        tag = tag_of(state.step, state.evaluated)
        if tag == self._saved:
            return
        facts = {
            **self.about,
            "state": state.to_dict(),
            "best": dataclasses.asdict(state.best) if state.best else None,
            "counters": self.engine.counters(),
            "saved_by": {"ranks": self.data.world.size, "zero": self.engine.zero},
            "plan": self._plan,
            "metrics_bytes": self.tracker.sync(),
        }
        self.saver.start(tag, state.step, self.engine.pieces(), facts, began)
        self._saved = tag

    def _leave(self) -> None:
        """All is saved: end on all ranks."""
        self.saver.wait()
        self._log_saves()
        raise Stopped(f"step {self.state.step}")

    def _log_saves(self) -> None:
        for saved in self.saver.saved:
            self.tracker.performance({"kind": "save", **dataclasses.asdict(saved)})
        self.saver.saved.clear()

    def _stop_at_non_finite(self, finished: StepResult, word: Word) -> None:
        """Raise on every rank, naming the samples: those of the ranks whose loss is not finite, or of
        the whole step where only the gradient is not."""
        loss = not np.isfinite(word.loss)
        involved = not loss or not np.isfinite(finished.values.loss)
        keys = self._keys(finished.batches if involved else [])
        raise TrainingFailed(
            f"step {finished.step}: the {'loss' if loss else 'gradient'} is not finite; samples: {keys}; "
            "try a lower optim.lr, optim.clip 1.0 or fp32"
        )

    def _keys(self, batches: list[Batch]) -> str:
        """The first keys of all ranks' batches. A collective call."""
        rows = [int(row) for batch in batches for row in batch.request.rows]
        return self._names([row for theirs in self.data.world.gather(rows) for row in theirs])

    def _names(self, rows: list[int]) -> str:
        keys = [self.data.index.key(row) for row in rows[:20]]
        return ", ".join(keys) + (" ..." if len(rows) > 20 else "")
