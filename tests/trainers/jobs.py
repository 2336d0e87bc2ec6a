"""What the ranks of the training tests run: module-level functions that a RankPool can send."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs.load import load_recipe
from data_shards.index import open_index
from data_shards.splits import load_split
from trainers.data import RunData
from trainers.engine import Engine
from trainers.evaluate import predict
from trainers.loop import train_step
from trainers.optim import learning_rate
from trainers.run import open_task
from trainers.world import World


def open_data(world: World, name: str, overrides: list[str]) -> RunData:
    """The data side of a recipe."""
    recipe = load_recipe(name, overrides)
    index = open_index(recipe.data.shards)
    split = load_split(index, recipe.data.split)
    folder = Path(world.gather(tempfile.mkdtemp() if world.main else "")[0])
    task = open_task(recipe, index, split, folder, world)
    return RunData(recipe, index, split, task, world)


def open_engine(data: RunData) -> Engine:
    """A fresh model in its engine."""
    recipe = data.recipe
    model = data.task.build_model()
    data.task.parameters(model)
    return Engine(model, data.world, recipe.engine, recipe.optim, recipe.batching.micro_batches)


def run_steps(engine: Engine, data: RunData, steps: int) -> list[float]:
    """The global loss of each of the first ``steps`` global steps."""
    losses: list[float] = []
    epoch = 0
    while len(losses) < steps:
        epoch += 1
        for batches in data.batches(data.training_plan(epoch), epoch):
            items = data.world.sum([float(sum(batch.items for batch in batches))])[0]
            rate = learning_rate(data.recipe.optim, len(losses), steps)
            result = train_step(engine, data, batches, epoch, len(losses), rate, items)
            losses.append(data.world.sum(result.sums.read())[0] / items)
            if len(losses) == steps:
                break
    return losses


def digest(state: dict[str, Tensor] | None) -> str:
    """SHA-256 over names and bits of all weights."""
    sha = hashlib.sha256()
    for name, value in sorted((state or {}).items()):
        sha.update(name.encode())
        sha.update(value.contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def losses_of(world: World, name: str, overrides: list[str], steps: int) -> dict[str, Any]:
    """Train ``steps`` steps; losses, micro-batch sizes and the digest of the weights (rank 0)."""
    data = open_data(world, name, overrides)
    engine = open_engine(data)
    losses = run_steps(engine, data, steps)
    plan = data.training_plan(1)
    sizes = (plan.offsets[1:] - plan.offsets[:-1]).tolist()
    return {"losses": losses, "weights": digest(engine.weights()), "sizes": sizes}


def train_and_compare(world: World, name: str, overrides: list[str], steps: int) -> dict[str, Any]:
    """What a regime must keep: frozen weights to the bit, and predictions through save and load."""
    from trainers.checkpoint import load_weights, save_weights

    data = open_data(world, name, overrides)
    engine = open_engine(data)
    trainable = {n for n, p in engine.module.named_parameters() if p.requires_grad}
    before = engine.weights()
    run_steps(engine, data, steps)
    after = engine.weights()
    trained = predict(engine, data, "validation")
    folder = Path(world.gather(tempfile.mkdtemp() if world.main else "")[0]) / "best"
    if after is not None:
        save_weights(folder, after, {"step": steps})
    world.barrier()
    state, _ = load_weights(folder)
    other = open_engine(data)
    other.load_weights(state)
    reloaded = other.weights()
    again = predict(other, data, "validation")
    names = {n for n, _ in engine.module.named_parameters()}
    changed = (
        {n for n in before if not torch.equal(before[n], after[n])} if before and after else set()
    )
    return {
        "trainable": sorted(trainable),
        "frozen": sorted(names - trainable),
        "changed": sorted(changed & names),
        "same weights": digest(after) == digest(reloaded),
        "same predictions": bool((trained.logits == again.logits).all()),
        "difference": float(abs(trained.logits - again.logits).max()),
        "rows": trained.rows.tolist(),
    }
