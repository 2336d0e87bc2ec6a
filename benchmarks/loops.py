"""Two ways to train for ``benchmarks.training``: our loop, and torch alone over batches in memory."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.stopwatch import Pass
from configs.load import AnyRecipe
from configs.schema import CheckpointConfig
from data_shards.index import ShardIndex
from data_shards.splits import TEST, TRAIN, UNUSED, VALIDATION, Split
from trainers.checkpoints.saving import Saver
from trainers.checkpoints.state import TrainingState
from trainers.data import RunData
from trainers.engine import Engine
from trainers.loop import Loop
from trainers.optim import build_optimizer
from trainers.ranks.world import World
from trainers.run import open_task
from trainers.step import StepResult
from trainers.task import Batch
from trainers.tracking.tracker import NoTracker

Train = Callable[[Pass], None]


def first_rows(index: ShardIndex, train: int, others: int) -> Split:
    """The first ``train`` rows train, ``others`` more are validation; packing has mixed them."""
    codes = np.full(len(index), UNUSED, np.int8)
    codes[:train] = TRAIN
    codes[train : train + others] = VALIDATION
    codes[train + others :] = TEST
    return Split("benchmark", codes, "first rows train")


def open_data(recipe: AnyRecipe, index: ShardIndex, split: Split, folder: Path, world: World) -> RunData:
    """The data side of a training; a tokenizer is trained into ``folder`` unless it is there."""
    return RunData(recipe, index, split, open_task(recipe, index, split, folder, world), world)


class UnsavedSaver(Saver):
    """Saves nothing: what a save costs is ``benchmarks.saving``'s matter."""

    def start(self, *arguments: Any) -> None:
        """Leave it."""


class TimedLoop(Loop):
    """The loop, telling a stopwatch of each step."""

    timed: Pass

    def _step(self, batches: list[Batch], rate: float, items: float) -> StepResult:
        self.timed.saw(sum(b.valid for b in batches), sum(b.padded for b in batches))
        result = super()._step(batches, rate, items)
        self.timed.stepped()
        return result


def our_loop(data: RunData) -> Train:
    """Everything that a training does but for saving: reading, the control word, the engine, the
    tracker's lines (dropped at the end), and a validation, which is not timed."""
    recipe = data.recipe
    micro_batches = recipe.batching.micro_batches
    model = data.task.build_model()
    engine = Engine(model, data.world, recipe.engine, recipe.optim, micro_batches)
    saver = UnsavedSaver(Path(), data.world, CheckpointConfig(every_minutes=None), "benchmark")

    def train(timed: Pass) -> None:
        loop = TimedLoop(engine, data, NoTracker(), saver, {}, TrainingState())
        loop.timed = timed
        with contextlib.redirect_stdout(io.StringIO()):
            loop.run()

    return train


def bare_loop(data: RunData) -> Train:
    """The same model, optimizer and batches by torch alone, the batches ready in the device's memory:
    what is left is what the mathematics takes."""
    world, recipe = data.world, data.recipe
    model: Any = data.task.build_model().to(world.device).train()
    optimizer = build_optimizer(model, recipe.optim)
    trained = [p for p in model.parameters() if p.requires_grad]
    autocast = recipe.engine.precision == "bf16_autocast"
    batches = [_moved(batch, world) for [batch] in data.batches(data.training_plan(1), 1)]

    def train(timed: Pass) -> None:
        for batch in batches:
            timed.saw(batch.valid, batch.padded)
            with torch.autocast(world.device.type, torch.bfloat16, enabled=autocast):
                loss = data.task.step(model, batch, world.device).losses.mean()
            loss.backward()
            if recipe.optim.clip:
                nn.utils.clip_grad_norm_(trained, recipe.optim.clip)
            optimizer.step()
            optimizer.zero_grad()
            timed.stepped()

    return train


def _moved(batch: Batch, world: World) -> Batch:
    # An emotion's lengths, of one dimension, are read on the host.
    inputs = tuple(t.to(world.device) if t.ndim > 1 else t for t in batch.inputs)
    return replace(batch, inputs=inputs, labels=batch.labels.to(world.device))
