"""One training from recipe to finished run directory, on whatever ranks there are."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from configs.check import check_kind, check_ranks
from configs.errors import InputError
from configs.load import SUMMARY, AnyRecipe, run_folder
from configs.schema import EmotionRecipe
from data_shards.index import ShardIndex, open_index
from data_shards.splits import PARTS, Split, load_split
from trainers.card import CardFacts
from trainers.checkpoint import load_weights
from trainers.data import RunData
from trainers.emotion import EmotionTask
from trainers.engine import Engine
from trainers.evaluate import predict, write_predictions
from trainers.folder import (
    RunLock,
    command_line,
    describe_environment,
    open_run_folder,
    write_json,
)
from trainers.loop import BEST, Summary, fit
from trainers.metrics import SplitMetrics
from trainers.models.freezing import ParameterReport
from trainers.nli import NliTask
from trainers.task import Task
from trainers.tracking import FileTracker, NoTracker, Tracker, open_wandb
from trainers.world import World


def train(recipe: AnyRecipe, world: World, overwrite: bool = False) -> Path:
    """Train, evaluate with the best weights, export; returns the run directory."""
    started = time.time()
    check_ranks(recipe, world.size)
    limit_threads()
    index = open_index(Path(recipe.data.shards))
    check_kind(recipe, index.manifest.kind)
    split = load_split(index, recipe.data.split)
    with scratch_folder(recipe, world) as scratch:
        # Whatever can be wrong shows before an older run gives way to this one.
        data = RunData(recipe, index, split, open_task(recipe, index, split, scratch, world), world)
        data.check()
        model = data.task.build_model()
        report = data.task.parameters(model)
        micro_batches = recipe.batching.micro_batches
        engine = Engine(model, world, recipe.engine, recipe.optim, micro_batches)
        folder, lock = open_on_all(recipe, world, overwrite)
        if world.main and (scratch / "tokenizer").is_dir():
            shutil.copytree(scratch / "tokenizer", folder / "tokenizer")
    tracker: Tracker = NoTracker()
    if world.main:
        about = data.describe()
        describe_run(folder, world.size, about, report)
        tracker = FileTracker(folder, open_wandb(recipe, folder, about))
        print(f"{recipe.recipe}: {world.size} rank(s), {folder}\n  {report.describe()}", flush=True)
    summary = fit(engine, data, tracker, folder)
    finish(engine, data, tracker, folder, summary, started)
    if lock:
        lock.release()
    return folder


def open_task(
    recipe: AnyRecipe, index: ShardIndex, split: Split, scratch: Path, world: World
) -> Task:
    """The task that the recipe names."""
    if isinstance(recipe, EmotionRecipe):
        return EmotionTask(recipe, index)
    return NliTask(recipe, index, split, scratch, world)


@contextmanager
def scratch_folder(recipe: AnyRecipe, world: World) -> Iterator[Path]:
    """A folder beside the run directory, where all ranks see it; gone afterwards."""
    parent = run_folder(recipe).parent
    made: list[Path] = []

    def make() -> None:
        if world.main:
            try:
                parent.mkdir(parents=True, exist_ok=True)
                made.append(Path(tempfile.mkdtemp(prefix=".preparing-", dir=parent)))
            except OSError as error:
                raise InputError(f"{parent}: cannot be written ({error.strerror})") from None

    world.main_first(make)
    try:
        yield world.gather(made[0] if made else Path())[0]
        world.barrier()
    finally:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                parent.rmdir()  # if nothing came of the run


def open_on_all(recipe: AnyRecipe, world: World, overwrite: bool) -> tuple[Path, RunLock | None]:
    """Rank 0 makes the run directory and holds it, the others learn its path."""
    opened: list[tuple[Path, RunLock]] = []
    command = command_line()

    def make() -> None:
        if world.main:
            opened.append(open_run_folder(recipe, command, overwrite))

    world.main_first(make)
    folder = world.gather(opened[0][0] if opened else Path())[0]
    return folder, opened[0][1] if opened else None


def describe_run(folder: Path, ranks: int, about: dict[str, Any], report: ParameterReport) -> None:
    """The files that say what is about to be trained on what."""
    write_json(folder / "environment.json", describe_environment(ranks))
    write_json(folder / "data.json", about)
    parameters = {
        "trainable": report.trainable_count,
        "frozen": report.frozen_count,
        "total": report.trainable_count + report.frozen_count,
        "trainable_names": list(report.trainable),
        "summary": report.describe(),
    }
    write_json(folder / "eval" / "parameters.json", parameters)


def finish(
    engine: Engine, data: RunData, tracker: Tracker, folder: Path, summary: Summary, started: float
) -> None:
    """Evaluate every part once with the best weights, write the results and the model."""
    state, facts = load_weights(folder / BEST)
    engine.load_weights(state)
    parts = [part for part in PARTS if part != "train" or data.recipe.evaluation.train]
    results: dict[str, SplitMetrics] = {}
    for part in parts:
        predictions = predict(engine, data, part)
        results[part] = predictions.metrics(data.task.labels)
        if data.world.main:
            write_predictions(folder / "eval" / f"predictions-{part}.csv", predictions, data)
    if not data.world.main:
        return
    best = {key: facts[key] for key in ("epoch", "step", "metric", "value")}
    splits = {part: metrics.as_dict() for part, metrics in results.items()}
    document = {"labels": list(data.task.labels), "best": best, "splits": splits}
    write_json(folder / "eval" / "metrics.json", document)
    data.task.export(state, folder / "model", card_facts(data, results))
    ended = {
        "finished": True,
        "seconds": round(time.time() - started, 1),
        "steps": summary.steps,
        "epochs": summary.epochs,
        "stopped": summary.stopped,
        "best": best,
    }
    test = results["test"]
    tracker.finish(
        {"test/accuracy": test.accuracy, "test/uar": test.uar, "test/macro_f1": test.macro_f1}
    )
    write_json(folder / SUMMARY, ended)
    print(
        f"  test: accuracy {test.accuracy:.4f}, UAR {test.uar:.4f}, macro F1 {test.macro_f1:.4f}",
        flush=True,
    )


def card_facts(data: RunData, results: dict[str, SplitMetrics]) -> CardFacts:
    """What the model card says of data and results."""
    manifest = data.index.manifest
    names = ("accuracy", "uar", "macro_f1", "weighted_f1", "loss")
    return CardFacts(
        recipe=data.recipe.recipe,
        corpus=f"{manifest.corpus}, split {data.split.name} ({data.split.protocol})",
        synthetic=manifest.synthetic,
        metrics={part: {n: float(getattr(m, n)) for n in names} for part, m in results.items()},
        command=command_line(),
        language="fa" if "shemo" in manifest.corpus or "farstail" in manifest.corpus else "",
    )


def limit_threads() -> None:
    """Share the cores among the ranks of this machine, unless the user has set a number."""
    if "OMP_NUM_THREADS" not in os.environ:
        # torchrun, DeepSpeed's launcher and submitit each name the ranks of a machine differently.
        names = ("LOCAL_WORLD_SIZE", "LOCAL_SIZE", "WORLD_SIZE")
        ranks = next((int(os.environ[name]) for name in names if name in os.environ), 1)
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks))
