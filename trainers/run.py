"""One training from recipe to finished run directory, on whatever ranks there are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from configs.access import writing_run
from configs.beginning import Beginning
from configs.check import check_kind, check_ranks
from configs.errors import InputError
from configs.files import write_json
from configs.load import SUMMARY, AnyRecipe, run_folder, settings_that_matter
from configs.schema import EmotionRecipe, NliRecipe, Recipe
from data_shards.index import ShardIndex, open_index
from data_shards.splits import PARTS, Split, load_split
from trainers.analyses.analyse import analyse
from trainers.checkpoints.checkpoint import CHECKPOINTS, sync
from trainers.checkpoints.resume import open_verified
from trainers.checkpoints.saving import Saver
from trainers.data import RunData
from trainers.engine import Engine
from trainers.evaluate import predict, write_predictions
from trainers.exports.card import CardFacts
from trainers.files.disk import writing
from trainers.folder import command_line, describe_environment
from trainers.loop import Loop, Summary, TrainingFailed
from trainers.metrics import Metrics
from trainers.models.freezing import ParameterReport
from trainers.opening import Start, fetch_made, open_run, scratch_folder
from trainers.ranks.standstill import ended_at_standstill
from trainers.ranks.stopping import Stopped, StoppedEarly, nothing_to_save
from trainers.ranks.world import World
from trainers.subsets import subset_scores
from trainers.task import Task
from trainers.tasks.cached_emotion import CachedEmotionTask
from trainers.tasks.emotion import EmotionTask
from trainers.tasks.mlm import MlmTask
from trainers.tasks.nli import NliTask
from trainers.tasks.pair_mlm import PairMlmTask
from trainers.tracking.progress import scores_text
from trainers.tracking.tracker import FileTracker, NoTracker, Tracker
from trainers.tracking.wandb_run import open_wandb


def train(recipe: AnyRecipe, world: World, beginning: Beginning) -> Path:
    """Train, or go on training, evaluate with the best weights, export; returns the run directory.

    Raises Stopped on all ranks when a signal asked for it and all is saved, StoppedEarly where there is
    nothing to save yet.
    """
    check_ranks(recipe, world.size)
    limit_threads()
    if recipe.engine.deterministic:
        be_deterministic()
    index = open_index(Path(recipe.data.shards))
    check_kind(recipe, index.manifest.kind)
    split = load_split(index, recipe.data.split)
    with nothing_to_save(), scratch_folder(recipe, world) as scratch:
        # Whatever can be wrong shows before an older run gives way to this one.
        world.on_main(lambda: fetch_made(recipe, beginning, scratch))
        data = RunData(recipe, index, split, open_task(recipe, index, split, scratch, world), world)
        data.check()
        model = data.task.build_model()
        report = data.task.parameters(model)
        micro_batches = recipe.batching.micro_batches
        engine = Engine(model, world, recipe.engine, recipe.optim, micro_batches)
        # Not before: what is written beside the shards and into the hub's cache is for others too.
        with writing_run(run_folder(recipe), recipe.output.group):
            start = open_run(recipe, data, engine, beginning, scratch)
    with writing_run(start.folder, recipe.output.group):
        _fit(recipe, data, engine, report, start)
        (start.folder / "ranks" / f"{world.rank}.done").touch()
    return start.folder


def _fit(recipe: AnyRecipe, data: RunData, engine: Engine, report: ParameterReport, start: Start) -> None:
    """Train, or go on training, in an opened run directory, and finish it."""
    world = data.world
    if start.checkpoint:
        engine.load(start.checkpoint, start.checkpoint.facts["counters"])
        start.checkpoint.close()
    tracker: Tracker = NoTracker()
    if world.main:
        about = data.describe()
        describe_run(start.folder, world.size, about, report)
        tracker = FileTracker(start.folder, open_wandb(recipe, start.folder, about, start.wandb_id))
        begins = f"goes on after step {start.state.step}" if start.checkpoint else "from the beginning"
        print(f"{recipe.recipe}: {world.size} rank(s), {start.folder}, {begins}", flush=True)
        print(f"  {report.describe()}", flush=True)
    saver = Saver(start.folder, world, recipe.checkpoint, start.attempt)
    about_checkpoints = {"settings": settings_that_matter(recipe), "data": data.digests()}
    loop = Loop(engine, data, tracker, saver, about_checkpoints, start.state)
    try:
        with ended_at_standstill(world):
            summary = loop.run()
            finish(loop, start.folder, summary)
    except Stopped as stopped:
        tracker.pause()
        if not loop.state.step:
            raise StoppedEarly(str(stopped)) from None
        raise
    except TrainingFailed:  # on all ranks, so what was finite before can still be saved
        with contextlib.suppress(InputError):
            saver.wait()
        tracker.fail()
        raise
    except Exception:
        saver.abandon()
        tracker.fail()
        raise
    if start.lock:
        start.lock.release()


def open_task(recipe: AnyRecipe, index: ShardIndex, split: Split, scratch: Path, world: World) -> Task:
    """The task that the recipe names."""
    if isinstance(recipe, EmotionRecipe) and recipe.model.cache:
        return CachedEmotionTask(recipe, index, split, world)
    if isinstance(recipe, EmotionRecipe):
        return EmotionTask(recipe, index, split)
    if isinstance(recipe, NliRecipe):
        return NliTask(recipe, index, split, scratch, world)
    if recipe.model.next_sentence:
        return PairMlmTask(recipe, index, split, scratch, world)
    return MlmTask(recipe, index, split, scratch, world)


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


def finish(loop: Loop, folder: Path, summary: Summary) -> None:
    """Evaluate every part once with the best weights; write results and model, then the analyses,
    which may take long; summary.json last."""
    data, best = loop.data, summary.best
    saved = open_verified(folder / CHECKPOINTS / best.tag, data.world, to_train=False)
    loop.engine.load_weights(saved.weights)
    chosen = {"epoch": best.epoch, "step": best.step, "metric": best.metric, "value": best.value}
    results = _evaluate(loop, folder, chosen)
    if data.world.main:
        facts = card_facts(data.recipe, data.index, data.split, results)
        data.task.export(saved.as_state(), folder / "model", facts)
    analyse(data, saved.weights, folder, loop.watch)
    if data.world.main:
        test = results["test"].scores()
        loop.tracker.finish({f"test/{name}": score for name, score in test.items()})
        write_json(
            folder / SUMMARY,
            {
                "finished": True,
                "seconds": round(loop.seconds(), 1),
                "steps": summary.state.step,
                "epochs": summary.state.epoch,
                "stopped": summary.stopped,
                "best": chosen,
            },
        )
        with writing(folder / SUMMARY):  # what is deleted now could not be gone on from without it
            sync(folder / SUMMARY)
            sync(folder)
        print(f"  test: {scores_text(test)}", flush=True)
    saved.close()
    loop.saver.keep_finished(best.tag)


def _evaluate(loop: Loop, folder: Path, best: dict[str, Any]) -> dict[str, Metrics]:
    """Scores of every part, written with those of its subsets and the predictions."""
    data, labels = loop.data, loop.data.task.labels
    results: dict[str, Metrics] = {}
    subsets: dict[str, Any] = {}
    for part in PARTS:
        if part == "train" and not data.recipe.evaluation.train:
            continue
        found = predict(loop.engine, data, part, loop.watch)
        results[part] = found.summarise(labels)
        if labels and data.world.main:
            predicted = found.logits.argmax(1)
            subsets[part] = subset_scores(data.index, found.rows, found.truth, predicted, labels)
            write_predictions(folder / "eval" / f"predictions-{part}.csv", found, data)
    if data.world.main:
        splits = {part: metrics.as_dict() for part, metrics in results.items()}
        document = {"labels": list(labels), "best": best, "splits": splits, "subsets": subsets}
        write_json(folder / "eval" / "metrics.json", document)
    return results


def card_facts(recipe: Recipe, index: ShardIndex, split: Split, results: Mapping[str, Metrics]) -> CardFacts:
    """What the model card says of data and results."""
    manifest = index.manifest
    return CardFacts(
        recipe=recipe.recipe,
        corpus=f"{manifest.corpus}, split {split.name} ({split.protocol})",
        synthetic=manifest.synthetic,
        metrics={part: metrics.scores() for part, metrics in results.items()},
        command=command_line(),
        language="fa" if "shemo" in manifest.corpus or "farstail" in manifest.corpus else "",
    )


def be_deterministic() -> None:
    """Choose kernels that give the same bits each time; torch warns of operations that have none."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product
    torch.use_deterministic_algorithms(True, warn_only=True)


def limit_threads() -> None:
    """Share the cores among the ranks of this machine, unless the user has set a number."""
    if "OMP_NUM_THREADS" not in os.environ:
        # torchrun, DeepSpeed's launcher and submitit each name the ranks of a machine differently.
        names = ("LOCAL_WORLD_SIZE", "LOCAL_SIZE", "WORLD_SIZE")
        ranks = next((int(os.environ[name]) for name in names if name in os.environ), 1)
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks))
