"""How fast our loop trains, against ``transformers.Trainer`` and against torch alone, in one run.

    python -m benchmarks.training [--quick] [--folder FOLDER] [--task nli|emotion|both] [--steps N]

One process, fresh models of one shape and optimizer, the same samples for all, in turn:

- the Trainer on random batches, as the usual script has it, and with its own grouping by length;
- ours on random batches and on length buckets of the same mean size: shards, reader, loop, DeepSpeed;
- torch alone over the very batches of ours, made before and lying in memory: the upper bound.

What counts is tokens or audio seconds a second without padding. The Trainer's text is tokenised
before; ours is tokenised while it trains. It is left out where its package accelerate is missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.corpora import packed
from benchmarks.loops import bare_loop, first_rows, open_data, our_loop
from benchmarks.reading import loose_files
from benchmarks.stock_trainer import MISSING, available, stock_trainer
from benchmarks.stopwatch import Party, Pass, hardware, in_turn
from configs.load import AnyRecipe
from configs.models import BertConfig, HubertConfig
from configs.schema import (
    BatchingConfig,
    DataConfig,
    EmotionRecipe,
    EngineConfig,
    NliRecipe,
    OptimConfig,
    Precision,
)
from data_shards.index import open_index
from trainers.ranks.world import World, join_world
from trainers.run import limit_threads

CORPORA = {"nli": "inference", "emotion": "speech"}
ITEMS, FEW = {"nli": 32, "emotion": 8}, {"nli": 8, "emotion": 2}
"""Samples of a global batch, and with ``--quick``."""
USUAL = "Trainer, random batches"
RANDOM, BUCKETS = "ours, random batches", "ours, length buckets"


def recipe_for(task: str, size: Any, items: int, precision: Precision, workers: int) -> AnyRecipe:
    """A fresh model, random batches, one micro-batch a step."""
    common: dict[str, Any] = {
        "data": DataConfig(workers=workers),
        "batching": BatchingConfig(items=items, micro_batches=1),
        "optim": OptimConfig(clip=1.0),
        "engine": EngineConfig(precision=precision),
    }
    if task == "nli":
        return NliRecipe(**common, model=BertConfig(size=size, vocabulary=1000))
    return EmotionRecipe(**common, model=HubertConfig(size=size))


def open_parties(recipe: AnyRecipe, steps: int, folder: Path, scratch: Path, world: World) -> list[Party]:
    """All ways to train on one corpus of ``steps`` random batches."""
    items = recipe.batching.items
    root = packed(CORPORA[recipe.task], (steps + 1) * items, folder)  # type: ignore[index]
    index = open_index(root)
    split = first_rows(index, steps * items, items)
    data = open_data(recipe, index, split, scratch, world)
    mean = float(data.lengths[: steps * items].mean())
    cut = BatchingConfig("buckets", budget=items * mean / data.task.per_unit, micro_batches=1)
    bucketed = open_data(dataclasses.replace(recipe, batching=cut), index, split, scratch, world)
    parties = []
    if available():
        files = loose_files(root) if recipe.task == "emotion" else None
        for name, grouped in ((USUAL, False), ("Trainer, grouped by length", True)):
            parties.append(Party(name, steps, stock_trainer(data, files, scratch, grouped)))
    for name, batches, one in (
        (RANDOM, "random batches", data),
        (BUCKETS, "length buckets", bucketed),
    ):
        count, bound = one.training_plan(1).steps, f"torch alone, {batches}"
        parties += [Party(name, count, our_loop(one), bound), Party(bound, count, bare_loop(one))]
    return parties


def table(parties: list[Party], passes: dict[str, list[Pass]], unit: str) -> list[str]:
    """Medians, as a Markdown table. Ratios are those of passes of one round, then their median; those
    of CPU seconds, in brackets, are steadier where other processes run."""
    usual = passes.get(USUAL)
    lines = [
        f"| trained by | padding | steps | {unit}/s | range | a CPU second | CPU ms a step "
        "| to the usual | to torch alone |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for party in parties:
        own = passes[party.name]
        rates, thrifts = [one.rate for one in own], [one.thrift for one in own]
        lines.append(
            f"| {party.name} | {own[0].padding:.1%} | {party.steps} | {_number(median(rates))} "
            f"| {_number(min(rates))} to {_number(max(rates))} | {_number(median(thrifts))} "
            f"| {median(one.host for one in own) * 1e3:.1f} | {_ratios(own, usual)} "
            f"| {_ratios(own, passes.get(party.bound))} |"
        )
    return lines


def _ratios(own: list[Pass], others: list[Pass] | None) -> str:
    if others is None:
        return ""
    pairs = list(zip(own, others, strict=True))
    wall, cpu = (
        median(p) for p in zip(*((a.rate / b.rate, a.thrift / b.thrift) for a, b in pairs), strict=True)
    )
    return f"{wall:.2f} ({cpu:.2f})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def compare(recipe: AnyRecipe, size: str, steps: int, repeats: int, folder: Path, world: World) -> list[str]:
    """One table, and what it was measured on."""
    with tempfile.TemporaryDirectory() as scratch:
        parties = open_parties(recipe, steps, folder, Path(scratch), world)
        passes = in_turn(parties, world.device, repeats)
    unit = "tokens" if recipe.task == "nli" else "audio s"
    return [
        f"{recipe.task}, {size}, {recipe.engine.precision}, {recipe.batching.items} samples a step, "
        f"{repeats} passes over {steps * recipe.batching.items} samples; {hardware(world.device)}",
        *([] if available() else [MISSING]),
        "",
        *table(parties, passes, unit),
        "",
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0], allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="tiny models, for a check")
    parser.add_argument("--folder", type=Path, help="keep the packed corpora there")
    parser.add_argument("--task", choices=["nli", "emotion", "both"], default="both")
    parser.add_argument("--steps", type=int, help="random batches of a pass (default: 16; quick: 6)")
    parser.add_argument("--repeats", type=int, help="passes of each (default: 5; quick: 1)")
    parser.add_argument("--size", help="of both models (default: base on a GPU, else mini and tiny)")
    options = parser.parse_args()
    steps = options.steps or (6 if options.quick else 16)
    if steps < 1:
        parser.error("--steps: at least 1")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    limit_threads()
    world = join_world()
    gpu = world.device.type == "cuda"
    precisions: tuple[Precision, ...] = ("fp32", "bf16_autocast") if gpu else ("fp32",)
    with tempfile.TemporaryDirectory() as scratch:
        for task in ("nli", "emotion") if options.task == "both" else (options.task,):
            size = "base" if gpu else "mini" if task == "nli" else "tiny"
            size = options.size or ("tiny" if options.quick else size)
            for precision in precisions:
                items = (FEW if options.quick else ITEMS)[task]
                recipe = recipe_for(task, size, items, precision, workers=2 if gpu else 0)
                repeats = options.repeats or (1 if options.quick else 5)
                folder = options.folder or Path(scratch)
                print("\n".join(compare(recipe, size, steps, repeats, folder, world)), flush=True)
    os._exit(0)  # as trainers do


if __name__ == "__main__":
    main()
