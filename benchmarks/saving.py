"""How long a save holds training up, against peers that write the same state, in the same run.

    python -m benchmarks.saving [--quick] [--folder FOLDER] [--saves N]

One process trains a fresh BERT (BERT-base's shape; `--quick`: tiny) and saves weights and Adam's
moments after a step in turn by: ours (copy, then a thread that hashes, syncs and renames, while
training goes on); ours, waited for; ``torch.save``; DeepSpeed's ``save_checkpoint``. What counts is
for how long the loop stands still, and how much slower the steps beside a background save are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

from configs.models import BertConfig
from configs.schema import CheckpointConfig, EngineConfig, OptimConfig
from trainers.checkpoints.saving import Saver
from trainers.engine import Engine
from trainers.models.bert import build_nli_model
from trainers.ranks.world import World, join_world


@dataclass
class Costs:
    """Seconds of each save of one kind."""

    stalls: list[float] = field(default_factory=list)
    """Until training could go on."""
    steps: list[float] = field(default_factory=list)
    """Of the steps right after it."""


def open_engine(world: World, size: str) -> Engine:
    """A fresh BERT at ZeRO 0 in fp32."""
    vocabulary = 100 if size == "tiny" else 30_000
    model = build_nli_model(BertConfig(size=size), ("e", "c", "n"), vocabulary, 0, seed=0)  # type: ignore[arg-type]
    return Engine(model, world, EngineConfig(), OptimConfig(), micro_batches=1)


def train_step(engine: Engine) -> float:
    """One update on one short batch; returns its seconds."""
    began = time.perf_counter()
    ids = torch.randint(5, 95, (2, 16), device=engine.world.device)
    logits = engine(ids, torch.ones_like(ids), torch.zeros_like(ids))
    engine.backward(logits.square().mean())
    engine.update()
    if engine.world.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def measure(
    engine: Engine, save: Callable[[int], None], after: Callable[[], None], saves: int, steps: int
) -> Costs:
    """Train and save ``saves`` times; ``after`` ends a save that is still under way."""
    costs = Costs()
    for number in range(saves):
        train_step(engine)
        began = time.perf_counter()
        save(number)
        costs.stalls.append(time.perf_counter() - began)
        costs.steps += [train_step(engine) for _ in range(steps)]
        after()
    return costs


def compare(world: World, size: str, folder: Path, saves: int, steps: int) -> dict[str, Costs]:
    """The costs of each way to save; ``none`` are the steps alone."""
    engine = open_engine(world, size)
    saver = Saver(folder / "ours", world, CheckpointConfig(), "benchmark")
    facts: dict[str, Any] = {"best": None, "counters": engine.counters()}

    def ours(number: int) -> None:
        began = time.monotonic()
        saver.start(f"step-{number}", number, engine.pieces(), facts, began)

    def waited(number: int) -> None:
        ours(1000 + number)
        saver.wait()

    def with_torch(number: int) -> None:
        state = {"model": engine.module.state_dict(), "optimizer": engine._optimizer.state_dict()}
        torch.save(state, folder / "torch.pt")

    def with_deepspeed(number: int) -> None:
        engine._engine.save_checkpoint(str(folder / "deepspeed"), tag="one")

    ways: dict[str, tuple[Callable[[int], None], Callable[[], None]]] = {
        "none": (lambda number: None, lambda: None),
        "ours": (ours, saver.wait),
        "ours, waited for": (waited, lambda: None),
        "torch.save": (with_torch, lambda: None),
        "DeepSpeed": (with_deepspeed, lambda: None),
    }
    for _ in range(2):
        train_step(engine)
    return {way: measure(engine, *functions, saves, steps) for way, functions in ways.items()}


def table(costs: dict[str, Costs], size: str) -> str:
    """Medians, as a Markdown table."""
    plain = median(costs["none"].steps)
    blocking = median(costs["torch.save"].stalls)
    lines = [
        f"BERT {size}, weights and moments in fp32, {len(costs['ours'].stalls)} saves each",
        "",
        "| saved by | training stands still (s) | of torch.save's | steps beside it, to others |",
        "| --- | --- | --- | --- |",
    ]
    for way, cost in costs.items():
        if way != "none":
            stall = median(cost.stalls)
            slower = median(cost.steps) / plain
            lines.append(f"| {way} | {stall:.4f} | {stall / blocking:.3f} | {slower:.2f} |")
    return "\n".join(lines)


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="a tiny model")
    parser.add_argument("--folder", type=Path, help="on the disk to measure (default: temporary)")
    parser.add_argument("--saves", type=int, default=5, help="of each kind (default: %(default)s)")
    options = parser.parse_args()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    folder = Path(tempfile.mkdtemp(prefix="saving-", dir=options.folder))
    size = "tiny" if options.quick else "base"
    try:
        world = join_world()
        print(table(compare(world, size, folder, options.saves, steps=3), size), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # as trainers do


if __name__ == "__main__":
    main()
