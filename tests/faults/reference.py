"""The recipes that are killed, and what an uninterrupted run of each leaves.

Models are as large as it takes for a save to last, and small enough for two slow cores.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.faults.watching import Shape, names, tags


@dataclass(frozen=True)
class KilledRecipe:
    """A shipped recipe and what is changed in it."""

    name: str
    recipe: str
    kind: Literal["text", "speech"]
    overrides: Sequence[str]
    ranks: Literal[1, 2] = 2

    def command(self, shards: Path, out: Path) -> list[str]:
        """`sokhan train ...`, without the interpreter; the same at every start."""
        return [
            "launch", "train", self.recipe, "--ranks", str(self.ranks), "--data.shards", str(shards),
            "--output.folder", str(out), "--output.name", "run", "--loop.epochs", "3",
            "--model.dropout", "0.1", "--checkpoint.optimizer", "always", *self.overrides,
        ]  # fmt: skip

    def run(self, out: Path) -> Path:
        """The run directory below ``out``."""
        return out / self.recipe.rpartition("/")[2] / "run"


_BERT = ("--model.size", "mini", "--model.vocabulary", "2000", "--batching.items", "12",
         "--evaluation.items", "4")  # fmt: skip
_HUBERT = ("--model.specaugment", "true", "--batching.budget", "3", "--evaluation.items", "2")

RECIPES = {
    recipe.name: recipe
    for recipe in (
        KilledRecipe("bert-fp32", "demo/bert_full", "text", (
            *_BERT, "--checkpoint.every_steps", "2", "--data.workers", "1",
            "--tracking.wandb", "offline",
        )),
        KilledRecipe("bert-zero2-bf16", "demo/bert_full", "text", (
            *_BERT, "--checkpoint.every_steps", "3", "--engine.zero", "2",
            "--engine.precision", "bf16", "--tracking.wandb", "off",
        )),
        KilledRecipe("hubert-zero1", "demo/hubert", "speech", (
            *_HUBERT, "--checkpoint.every_steps", "2", "--engine.zero", "1",
            "--tracking.wandb", "offline",
        )),
        KilledRecipe("bert-zero3", "demo/bert_full", "text", (
            *_BERT, "--checkpoint.every_steps", "1", "--engine.zero", "3",
            "--data.workers", "1", "--tracking.wandb", "off",
        )),
        # Without DeepSpeed's launcher between: starts are cheap.
        KilledRecipe("bert-alone", "demo/bert_full", "text", (
            *_BERT, "--checkpoint.every_steps", "1", "--data.workers", "0",
            "--tracking.wandb", "off",
        ), ranks=1),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """What a finished run of a recipe must be like, and how long its parts took."""

    recipe: KilledRecipe
    shards: Path
    metrics: bytes
    files: dict[str, str]
    """SHA-256 of what must be identical."""
    start_up: float
    """Seconds from its start to its first step."""
    final: float
    """Seconds from the last validation to its end."""

    @property
    def shape(self) -> Shape:
        """Steps and epochs."""
        return Shape.of(self.metrics)


def results(run: Path) -> dict[str, str]:
    """SHA-256 of everything that a finished run leaves and that must not depend on its history."""
    best = json.loads((run / "summary.json").read_text())["best"]
    newest = tags(run)[0]
    paths = {
        "metrics.jsonl": run / "metrics.jsonl",
        **{f"model/{path.name}": path for path in (run / "model").glob("*.safetensors")},
        **{f"tokenizer/{path.name}": path for path in (run / "tokenizer").glob("*.json")},
        "eval/metrics.json": run / "eval" / "metrics.json",
        **{f"eval/{path.name}": path for path in (run / "eval").glob("*.csv")},
        **{f"newest/{path.name}": path for path in (run / "checkpoints" / newest).glob("*.safetensors")},
        **{
            f"best/{path.name}": path
            for path in run.glob(f"checkpoints/step-{best['step']}-evaluated/weights-*.safetensors")
        },
    }
    tracked = len(names(run / "wandb", "offline-run-"))
    return {"best": str(best), "newest": newest, "W&B runs": str(tracked)} | {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()
    }


def untidy(run: Path, ranks: int) -> list[str]:
    """What is wrong with a finished run directory besides its results. ``ranks`` have left their
    markers; 0: the last start was killed, so perhaps not all have."""
    problems = []
    left = names(run / "checkpoints", ".") + names(run / "checkpoints", "set-aside-")
    left += names(run, ".") + names(run.parent, ".")
    if left:
        problems.append(f"left over: {sorted(left)}")
    if ranks and sorted(names(run / "ranks", "")) != [f"{rank}.done" for rank in range(ranks)]:
        problems.append(f"markers: {sorted(names(run / 'ranks', ''))}")
    identifier = json.loads((run / "run.json").read_text())["wandb_id"]
    others = [name for name in names(run / "wandb", "offline-run-") if identifier not in name]
    if others:
        problems.append(f"W&B runs of other ids than {identifier}: {others}")
    try:
        for line in (run / "perf.jsonl").read_text().splitlines():
            json.loads(line)
    except ValueError as error:
        problems.append(f"perf.jsonl: {error}")
    return problems


def make_shards(kind: Literal["text", "speech"], out: Path) -> Path:
    """A small packed corpus."""
    from data_shards.corpora.synthetic_speech import synthetic_shemo
    from data_shards.corpora.synthetic_text import synthetic_farstail
    from data_shards.index import open_index
    from data_shards.pack import PackSettings, pack
    from data_shards.protocols import official_split, speaker_splits
    from data_shards.splits import save_split
    from data_shards.text import TextSteps

    if kind == "text":
        corpus = synthetic_farstail(180, seed=1, steps=TextSteps(False, False, False))
    else:
        corpus = synthetic_shemo(96, seed=1, seconds_scale=0.2)
    pack(corpus, out, PackSettings(processes=1))
    index = open_index(out)
    for split in [official_split(index)] if kind == "text" else speaker_splits(index):
        save_split(index, split)
    return out
