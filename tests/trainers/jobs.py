"""What the ranks of the training tests run: module-level functions that a RankPool can send."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.beginning import Beginning
from configs.load import load_recipe
from configs.schema import CheckpointConfig
from data_shards.index import open_index
from data_shards.plan import EpochPlan
from data_shards.splits import load_split
from trainers.checkpoints.checkpoint import Checkpoint
from trainers.checkpoints.saving import Saver
from trainers.checkpoints.state import TrainingState
from trainers.data import RunData
from trainers.engine import Engine
from trainers.evaluate import predict
from trainers.loop import Loop, TrainingFailed
from trainers.optim import learning_rate
from trainers.ranks.world import World
from trainers.run import open_task, train
from trainers.step import train_step
from trainers.tracking.tracker import NoTracker


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


def run_steps(engine: Engine, data: RunData, steps: int, first: int = 0) -> list[float]:
    """The global losses of global steps ``first`` (0 is the first of all) to ``steps``."""
    losses: list[float] = []
    epoch = done = 0
    while done < steps:
        epoch += 1
        plan = data.training_plan(epoch)
        skipped = min(max(first - done, 0), plan.steps)
        done += skipped
        if skipped == plan.steps:
            continue
        for batches in data.batches(plan, epoch, skipped):
            items = data.world.sum([float(sum(batch.items for batch in batches))])[0]
            rate = learning_rate(data.recipe.optim, done, steps)
            result = train_step(engine, data, batches, epoch, done, rate, items)
            losses.append(data.world.sum([result.values.loss])[0] / items)
            done += 1
            if done == steps:
                break
    return losses


def first_gradient_norm(world: World, name: str, overrides: list[str]) -> float:
    """What the first global step says of the norm of its gradient."""
    data = open_data(world, name, overrides)
    engine = open_engine(data)
    batches = next(data.batches(data.training_plan(1), 1))
    items = data.world.sum([float(sum(batch.items for batch in batches))])[0]
    return train_step(engine, data, batches, 1, 0, 1e-3, items).values.gradient_norm


def plain_gradient_norm(world: World, name: str, overrides: list[str]) -> float:
    """The same by torch alone, on one rank and without dropout: all samples' mean loss at once."""
    data = open_data(world, name, overrides)
    model = data.task.build_model()
    batches = next(data.batches(data.training_plan(1), 1))
    losses = [data.task.step(model, batch, world.device).losses for batch in batches]
    torch.cat(losses).mean().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return float(torch.cat([gradient.flatten() for gradient in gradients]).norm())


def whole(engine: Engine) -> dict[str, Tensor]:
    """Everything that a checkpoint would hold, put together from all ranks' pieces on each rank."""
    state: dict[str, Tensor] = {}
    filled: dict[str, int] = {}
    for pieces in engine.world.gather(engine.pieces()):
        for piece in pieces:
            key = f"{piece.kind}/{piece.name}"
            if key not in state:
                state[key] = torch.zeros(torch.Size(piece.shape).numel(), dtype=piece.tensor.dtype)
            state[key][piece.start : piece.start + len(piece.tensor)] = piece.tensor
            filled[key] = filled.get(key, 0) + len(piece.tensor)
    assert all(filled[key] == len(tensor) for key, tensor in state.items()), "a gap or an overlap"
    return state


def weights(engine: Engine) -> dict[str, Tensor]:
    """The weights alone."""
    state = whole(engine).items()
    return {key.partition("/")[2]: t for key, t in state if key.startswith("weights/")}


def digest(state: dict[str, Tensor]) -> str:
    """SHA-256 over names and bits of all weights."""
    sha = hashlib.sha256()
    for name, value in sorted(state.items()):
        sha.update(name.encode())
        sha.update(value.contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def losses_of(world: World, name: str, overrides: list[str], steps: int) -> dict[str, Any]:
    """Train ``steps`` steps; losses, micro-batch sizes and the digest of the weights."""
    data = open_data(world, name, overrides)
    engine = open_engine(data)
    losses = run_steps(engine, data, steps)
    plan = data.training_plan(1)
    sizes = (plan.offsets[1:] - plan.offsets[:-1]).tolist()
    return {"losses": losses, "weights": digest(weights(engine)), "sizes": sizes}


def save(engine: Engine, folder: Path, step: int) -> Path:
    """Save through a Saver and wait for it."""
    saver = Saver(folder, engine.world, CheckpointConfig(), "test")
    facts = {"best": None, "counters": engine.counters()}
    saver.start(f"step-{step}", step, engine.pieces(), facts, 0.0)
    saver.wait()
    return folder / "checkpoints" / f"step-{step}"


def losses_and_save(
    world: World, name: str, overrides: list[str], steps: int, at: int, folder: Path
) -> dict[str, Any]:
    """Train ``steps`` steps and save after ``at`` of them."""
    data = open_data(world, name, overrides)
    engine = open_engine(data)
    before = run_steps(engine, data, at)
    path = save(engine, folder, at)
    saved = digest(whole(engine))
    after = run_steps(engine, data, steps, at)
    return {"losses": before + after, "saved": saved, "end": digest(whole(engine)), "path": path}


def losses_after(
    world: World, name: str, overrides: list[str], steps: int, at: int, path: Path
) -> dict[str, Any]:
    """Go on from a checkpoint to ``steps``."""
    data = open_data(world, name, overrides)
    engine = open_engine(data)
    checkpoint = Checkpoint(path)
    checkpoint.verify()
    engine.load(checkpoint, checkpoint.facts["counters"])
    loaded = digest(whole(engine))
    losses = run_steps(engine, data, steps, at)
    return {"losses": losses, "loaded": loaded, "end": digest(whole(engine))}


def train_and_compare(world: World, name: str, overrides: list[str], steps: int) -> dict[str, Any]:
    """What a regime must keep: frozen weights to the bit, and predictions through save and load."""
    data = open_data(world, name, overrides)
    engine = open_engine(data)
    trainable = {n for n, p in engine.module.named_parameters() if p.requires_grad}
    before = weights(engine)
    run_steps(engine, data, steps)
    after = weights(engine)
    trained = predict(engine, data, "validation")
    folder = Path(world.gather(tempfile.mkdtemp() if world.main else "")[0])
    checkpoint = Checkpoint(save(engine, folder, steps))
    other = open_engine(data)
    other.load_weights(checkpoint.weights)
    reloaded = weights(other)
    again = predict(other, data, "validation")
    names = {n for n, _ in engine.module.named_parameters()}
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    return {
        "trainable": sorted(trainable),
        "frozen": sorted(names - trainable),
        "changed": sorted(changed & names),
        "same weights": digest(after) == digest(reloaded),
        "same predictions": bool((trained.logits == again.logits).all()),
        "difference": float(abs(trained.logits - again.logits).max()),
        "rows": trained.rows.tolist(),
    }


def train_with_broken_gradient(world: World, name: str, overrides: list[str], at: int, folder: Path) -> str:
    """Run the loop with a gradient that is infinite in global step ``at`` (the loss stays finite);
    returns the message of the failure."""
    data = open_data(world, name, overrides)
    engine = open_engine(data)
    parameter = next(p for p in engine.module.parameters() if p.requires_grad)
    calls = 0
    first = (at - 1) * data.recipe.batching.micro_batches // world.size

    def breaks(gradient: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return gradient + float("inf") if calls > first and world.main else gradient

    parameter.register_hook(breaks)
    return _run_to_failure(engine, data, folder)


def train_with_broken_validation(world: World, name: str, overrides: list[str], folder: Path) -> str:
    """Run the loop with a model whose first output of each evaluation batch is not a number on the last
    rank; returns the message of the failure."""
    data = open_data(world, name, overrides)
    engine = open_engine(data)

    def breaks(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        if module.training or world.rank < world.size - 1:
            return None
        broken = output.clone()
        broken[0] = float("nan")
        return broken

    engine.module.register_forward_hook(breaks)
    return _run_to_failure(engine, data, folder)


def _run_to_failure(engine: Engine, data: RunData, folder: Path) -> str:
    world = data.world
    saver = Saver(folder, world, data.recipe.checkpoint, "test")
    about = {"settings": {}, "data": data.digests()}
    try:
        Loop(engine, data, NoTracker(), saver, about, TrainingState()).run()
    except TrainingFailed as error:
        saver.wait()
        return str(error)
    return "finished"


def moved_by_one_step(world: World, name: str, overrides: list[str]) -> dict[str, Tensor]:
    """How far each weight goes in the first step at a constant rate."""
    data = open_data(world, name, overrides)
    engine = open_engine(data)
    before = {key: value.clone() for key, value in weights(engine).items()}
    run_steps(engine, data, 1)
    return {key: value - before[key] for key, value in weights(engine).items()}


def train_recipe(world: World, name: str, overrides: list[str], beginning: Beginning | None = None) -> str:
    """A whole training; returns the run directory."""
    return str(train(load_recipe(name, overrides), world, beginning or Beginning()))


def loss_by_hand(world: World, name: str, overrides: list[str]) -> float:
    """The mean loss of the first global step, sample by sample, by the formulas of ``LossConfig``.
    For one rank, without dropout."""
    data = open_data(world, name, overrides)
    config, model = data.recipe.loss, data.task.build_model()
    labels = np.asarray(data.index.label)[data.split.rows("train")]
    shares = np.bincount(labels, minlength=len(data.task.labels)) / len(labels)
    weights = (1 / shares) ** config.strength
    weights = weights / (weights * shares).sum()
    losses: list[float] = []
    for batch in next(data.batches(data.training_plan(1), 1)):
        with torch.no_grad():
            logits = model(*batch.inputs).double().numpy()
        for row, label in zip(logits, batch.labels.tolist(), strict=True):
            if config.kind == "logit_adjusted":
                row = row + config.strength * np.log(shares)
            weight = weights[label] if config.kind == "class_weights" else 1.0
            losses.append(weight * float(np.log(np.exp(row).sum()) - row[label]))
    return sum(losses) / len(losses)


def plans_of(world: World, name: str, overrides: list[str]) -> dict[str, Any]:
    """Classes of each epoch's entries, steps planned and promised, rows that an evaluation sees."""
    data = open_data(world, name, overrides)
    labels = np.asarray(data.index.label)
    plans = [data.training_plan(epoch) for epoch in range(1, data.recipe.loop.epochs + 1)]
    drawn = [_counted_rows(plan) for plan in plans]
    return {
        "counts": [np.bincount(labels[rows]).tolist() for rows in drawn],
        "rows": [rows.tolist() for rows in drawn],
        "steps": sum(plan.steps for plan in plans),
        "promised": data.total_steps(),
        "evaluated": _counted_rows(data.evaluation_plan("train")).tolist(),
        "train": data.split.rows("train").tolist(),
        "digests": data.digests(),
        "changed": data.augmentation is not None,
    }


def _counted_rows(plan: EpochPlan) -> NDArray[np.int64]:
    """(entries,) what is not there to fill a step up, sorted."""
    return np.sort(plan.rows[np.repeat(plan.counted, np.diff(plan.offsets))])


def started_from(run: Path, shards: Path) -> list[str]:
    """Fields of a training that begins with a run's model, and leaves it as it is."""
    return ["--data.shards", str(shards), "--optim.lr", "0", "--model.pretrained", str(run / "model")]
