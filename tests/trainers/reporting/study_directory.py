"""Builds the folder of a study over made-up run directories."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from data_shards.index import open_index
from data_shards.splits import load_split
from tests.trainers.run_directory import write_json, write_test_predictions
from trainers.metrics import class_metrics


def member(run: Path, varied: dict[str, Any] | None = None, signature: str = "") -> dict[str, Any]:
    """One training of a part, of a run directory that may be there or not."""
    config = run / "config.yaml"
    if config.is_file() and not config.read_text().startswith("# signature"):
        config.write_text(f"# signature: {run.name}\n{config.read_text()}")
    seed = yaml.safe_load(config.read_text())["seed"] if config.is_file() else 0
    short = f"{run.parent.name}/{run.name}"
    return {
        "label": f"{short} {varied or ''}",
        "recipe": run.parent.name,
        "varied": varied or {},
        "seed": seed,
        "run": short,
        "signature": signature or run.name,
        "source": None,
    }


def part(name: str, members: Sequence[dict[str, Any]], **values: Any) -> dict[str, Any]:
    """One part of study.json."""
    defaults = {"title": f"Part {name}", "text": "", "curve": None, "start_from": None}
    return {"name": name, **defaults, **values, "members": list(members)}


def build_study(runs: Path, parts: Sequence[dict[str, Any]], **values: Any) -> Path:
    """Write runs/sweeps/made-up/study.json and return its folder."""
    folder = runs / "sweeps" / "made-up"
    folder.mkdir(parents=True)
    document = {
        "name": "made-up",
        "title": "A made-up study",
        "method": "How it was done.\n\nAnd why.",
        "baselines": False,
        "command": "sokhan sweep made-up",
        "grid": "name: made-up\n",
        **values,
        "parts": list(parts),
    }
    write_json(folder / "study.json", document)
    return folder


def log_tests(run: Path) -> None:
    """A test line after each validation, a little below it."""
    path = run / "metrics.jsonl"
    lines = []
    for text in path.read_text().splitlines():
        line = json.loads(text)
        lines.append(text)
        if line["kind"] == "validation":
            line |= {"kind": "test", "accuracy": line["accuracy"] - 0.01, "uar": line["uar"] - 0.01}
            lines.append(json.dumps(line))
    path.write_text("".join(f"{line}\n" for line in lines))


def write_pruning(run: Path, seed: int = 0, layers: int = 4, heads: int = 4) -> dict[str, Any]:
    """eval/pruning.json in which importance loses less than chance."""
    rng = np.random.default_rng(seed)
    points: list[dict[str, Any]] = []
    for share in (0.25, 0.5, 0.75, 0.9):
        removed = min(round(share * layers * heads), layers * heads - layers)
        base = {
            "share": share,
            "removed": removed,
            "macro_f1": 0.5,
            "loss": 1.0,
            "validation_accuracy": 0.6,
            "parameters": 1_000_000 - 40_000 * removed,
            "heads": {"0": [1]},
        }
        points.append(
            {
                **base,
                "choice": "importance",
                "draw": None,
                "milliseconds": 20 - removed,
                "accuracy": 0.7 - 0.1 * share,
            }
        )
        points += [
            {
                **base,
                "choice": "random",
                "draw": draw,
                "milliseconds": None,
                "accuracy": 0.7 - 0.4 * share + 0.02 * draw,
            }
            for draw in range(3)
        ]
    whole = {"accuracy": 0.7, "macro_f1": 0.69, "parameters": 1_000_000, "milliseconds": 20.5}
    values = {
        "heads": layers * heads,
        "score_on": "train",
        "score_items": 200,
        "round_share": None,
        "importance": rng.random((layers, heads)).tolist(),
        "whole": whole,
        "points": points,
        "masked_difference": 2.5e-7,
        "device": "a CPU",
        "latency": {"batch": 8, "tokens": 64, "repeats": 5},
    }
    write_json(run / "eval/pruning.json", values)
    return values


def write_probes(run: Path, scores: Sequence[float]) -> None:
    """eval/probes.json with an accuracy for each layer, from 0."""
    layers = [
        {"layer": n, "validation_accuracy": s + 0.01, "accuracy": s, "uar": s - 0.02, "macro_f1": s - 0.03}
        for n, s in enumerate(scores)
    ]
    write_json(
        run / "eval/probes.json",
        {
            "weights": "end",
            "features": "[CLS] beside the mean over tokens",
            "layers": layers,
            "majority": 0.36,
            "seconds": 3.2,
        },
    )


def write_noise(run: Path, labels: Sequence[str], clean: float, noised: float) -> None:
    """eval/noise.json with these recalls for every class."""

    def scores(value: float) -> dict[str, Any]:
        return {
            "accuracy": value,
            "uar": value,
            "macro_f1": value,
            "recall": dict.fromkeys(labels, value),
            "predicted_share": dict.fromkeys(labels, 1 / len(labels)),
        }

    write_json(
        run / "eval/noise.json",
        {
            "clean": scores(clean),
            "noised": scores(noised),
            "changed": 0.25,
            "augment": {"noise": 0.005},
        },
    )


def on_shards(run: Path, shards: Path, split: str, flipped: int) -> None:
    """Let a run be one on real shards: right about its test part but for the first few samples."""
    index = open_index(shards)
    rows = load_split(index, split).rows("test")
    truth = np.asarray(index.label, np.int64)[rows]
    predicted = truth.copy()
    predicted[:flipped] = (truth[:flipped] + 1) % len(index.manifest.labels)
    keys = [index.key(row) for row in rows.tolist()]
    labels = index.manifest.labels
    write_test_predictions(run, labels, truth, predicted, keys)
    metrics = class_metrics(truth, predicted, labels, np.ones(len(truth)))
    path = run / "eval/metrics.json"
    document = {**json.loads(path.read_text()), "labels": list(labels)}
    write_json(path, {**document, "splits": {"test": metrics.as_dict()}})
    about = json.loads((run / "data.json").read_text())
    manifest = index.manifest
    write_json(
        run / "data.json",
        {
            **about,
            "shards": str(shards),
            "digest": manifest.digest,
            "corpus": manifest.corpus,
            "split": split,
            "kind": manifest.kind,
        },
    )
