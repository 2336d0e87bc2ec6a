"""Builds finished run directories of the shape that training leaves, with made-up numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from configs.models import BertConfig, RegimeConfig
from configs.schema import EmotionRecipe, NliRecipe
from trainers.metrics import SplitMetrics, class_metrics
from trainers.predictions import write_predictions
from trainers.reporting.runs.reference import EPOCHS, TEST_SAMPLES

Codes = NDArray[np.int64]
EMOTIONS = ("anger", "fear", "happiness", "neutral", "sadness", "surprise")
NLI = ("c", "e", "n")


def predictions_like(
    labels: Sequence[str], supports: Sequence[int], skill: float, seed: int
) -> tuple[Codes, Codes, NDArray[np.float64]]:
    """Truth, predictions that are right with probability ``skill``, else drawn evenly, and losses."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(labels)), supports)
    drawn = rng.integers(0, len(labels), len(truth))
    predicted = np.where(rng.random(len(truth)) < skill, truth, drawn)
    losses = np.where(predicted == truth, 0.3, 2.1) + rng.random(len(truth)) * 0.2
    return truth, predicted, losses


def write_test_predictions(
    path: Path, labels: Sequence[str], truth: Codes, predicted: Codes, keys: Sequence[str] = ()
) -> None:
    """eval/predictions-test.csv as evaluation leaves it."""
    shares = np.full((len(truth), len(labels)), 0.1)
    shares[np.arange(len(truth)), predicted] = 1 - 0.1 * (len(labels) - 1)
    losses = -np.log(shares[np.arange(len(truth)), truth])
    names = keys or [f"item{n:05d}" for n in range(len(truth))]
    write_predictions(path / "eval/predictions-test.csv", names, labels, truth, losses, shares)


def build_run(
    folder: Path,
    *,
    task: str = "nli",
    recipe: str = "parsbert_full",
    regime: RegimeConfig | None = None,
    labels: Sequence[str] | None = None,
    corpus: str = "farstail",
    split: str = "official",
    synthetic: bool = False,
    seed: int = 0,
    skill: float = 0.6,
    overlap: int = 0,
    epochs: int = 4,
    steps_an_epoch: int = 57,
    name: str = "",
    supports: dict[str, Sequence[int]] | None = None,
    keys: Sequence[str] = (),
    model: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    recipe_epochs: int | None = None,
) -> Path:
    """Write runs/<recipe>/<name> below ``folder`` and return it.

    ``keys`` are those of the test samples; ``model`` and ``data`` are set over the recipe's sections,
    whose number of epochs is the reference's if no other is given.
    """
    path = folder / recipe / (name or f"seed{seed}")
    (path / "eval").mkdir(parents=True)
    labels = tuple(labels or (NLI if task == "nli" else EMOTIONS))
    sizes = supports or {
        part: [n * (5 + i) for i in range(len(labels))]
        for part, n in (("train", 20), ("validation", 6), ("test", 7))
    }
    config = _config(task, recipe, regime, seed, split)
    config["model"].update(model or {})
    config["data"].update(data or {})
    config["loop"]["epochs"] = recipe_epochs or EPOCHS[task]
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (path / "command.txt").write_text(f"sokhan train configs/{recipe}.yaml --seed {seed}\n")
    rng = np.random.default_rng(seed)
    _write_metrics(path, rng, epochs, steps_an_epoch)
    parts: dict[str, SplitMetrics] = {}
    for i, (part, counts) in enumerate(sizes.items()):
        own = min(0.98, skill + 0.1 * (part == "train"))
        truth, predicted, losses = predictions_like(labels, counts, own, seed + i)
        parts[part] = class_metrics(truth, predicted, labels, losses)
        if part == "test":
            write_test_predictions(path, labels, truth, predicted, keys)
    write_json(
        path / "eval/metrics.json",
        {
            "labels": list(labels),
            "best": {"epoch": 2, "step": 2 * steps_an_epoch, "metric": "accuracy", "value": 0.7123},
            "splits": {part: metrics.as_dict() for part, metrics in parts.items()},
        },
    )
    write_json(
        path / "eval/parameters.json",
        {
            "trainable": 110_075,
            "frozen": 52_352,
            "total": 162_427,
            "trainable_names": [f"encoder.layer.{n}.attention.self.query.weight" for n in range(12)],
            "summary": "everything trains but the convolutional feature extractor",
        },
    )
    write_json(
        path / "environment.json",
        {
            "python": "3.11.7",
            "torch": "2.11.0",
            "deepspeed": "0.19.8",
            "transformers": "5.23.0",
            "hardware": "2 CPU cores, 24 GiB",
            "ranks": 2,
            "git": "1a2b3c4d",
        },
    )
    by_label = {part: dict(zip(labels, map(int, n), strict=True)) for part, n in sizes.items()}
    # The test part is as large as the reference's: only so a run may stand beside it.
    size = sum(by_label["test"].values())
    by_label["test"][labels[0]] += TEST_SAMPLES.get(corpus, size) - size
    write_json(
        path / "data.json",
        {
            "corpus": corpus,
            "synthetic": synthetic,
            "split": split,
            "kind": "text" if task == "nli" else "audio",
            "counts": by_label,
            "speaker_overlap": {"train/validation": overlap, "train/test": overlap, "validation/test": 0},
        },
    )
    write_json(
        path / "summary.json",
        {
            "finished": True,
            "seconds": 245.3,
            "steps": epochs * steps_an_epoch,
            "epochs": epochs,
        },
    )
    return path


def write_json(path: Path, value: Any) -> None:
    """A JSON file."""
    path.write_text(json.dumps(value), encoding="utf-8")


def _config(task: str, recipe: str, regime: RegimeConfig | None, seed: int, split: str) -> dict[str, Any]:
    from dataclasses import asdict, replace

    if task == "nli":
        bert = BertConfig("HooshvareLab/bert-fa-base-uncased", regime=regime or RegimeConfig())
        full: Any = NliRecipe(recipe, seed, model=bert)
    else:
        full = EmotionRecipe(recipe, seed)
    full = replace(full, data=replace(full.data, shards="shards/corpus", split=split))
    return json.loads(json.dumps(asdict(full)))  # type: ignore[no-any-return]


def _write_metrics(path: Path, rng: np.random.Generator, epochs: int, steps: int) -> None:
    lines: list[dict[str, Any]] = []
    perf = []
    for epoch in range(1, epochs + 1):
        for step in range((epoch - 1) * steps + 1, epoch * steps + 1):
            loss = 0.4 + 1.2 * np.exp(-step / (1.5 * steps)) + rng.normal() * 0.08
            lines.append(
                {
                    "kind": "train",
                    "step": step,
                    "epoch": epoch,
                    "loss": loss,
                    "lr": 1e-5,
                    "items": 128,
                    "padding": 0.12,
                }
            )
            perf.append(
                {
                    "step": step,
                    "seconds": 0.9,
                    "rate": 5210.0 + step,
                    "unit": "tokens/s",
                    "peak_memory_bytes": 1.5 * 2**30,
                }
            )
        end, rise = epoch * steps, 1 - np.exp(-epoch / 1.5)
        lines.append(
            {
                "kind": "train_epoch",
                "step": end,
                "epoch": epoch,
                "loss": 1.3 - 0.8 * rise,
                "accuracy": 0.35 + 0.5 * rise,
            }
        )
        lines.append(
            {
                "kind": "validation",
                "step": end,
                "epoch": epoch,
                "loss": 1.25 - 0.5 * rise,
                "accuracy": 0.35 + 0.4 * rise,
                "uar": 0.3 + 0.33 * rise,
                "macro_f1": 0.31 + 0.3 * rise,
                "weighted_f1": 0.33 + 0.35 * rise,
            }
        )
    for name, records in (("metrics.jsonl", lines), ("perf.jsonl", perf)):
        (path / name).write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
