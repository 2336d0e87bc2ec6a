"""Real recordings and real Persian pairs through the commands: pack, split, train, report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.cli import main
from tests.ranks import RankPool
from tests.trainers.test_run import train_recipe

Ranks = Callable[[int], RankPool]
EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}


def results(folder: Path) -> dict[str, dict[str, float]]:
    document = json.loads((folder / "eval" / "metrics.json").read_text(encoding="utf-8"))
    parts: dict[str, dict[str, float]] = document["splits"]
    return parts


def test_emodb_trains_speaker_disjointly(ranks: Ranks, shared_data: Path, tmp_path: Path) -> None:
    """Anger against sadness, which differ most: a small fresh HuBERT must beat the majority."""
    wavs = [w for w in sorted((shared_data / "emodb").glob("*.wav")) if w.name[5] in "WT"]
    lines = [f"{wav},{EMOTIONS[wav.name[5]]},{wav.name[:2]}" for wav in wavs]
    manifest = tmp_path / "emodb.csv"
    manifest.write_text("path,label,speaker\n" + "\n".join(lines), encoding="utf-8")
    shards = tmp_path / "shards"
    assert main(["pack", "manifest", str(manifest), "--out", str(shards)]) == 0
    recipe = [
        "--data.shards",
        str(shards),
        "--batching.budget",
        "8",
        "--loop.epochs",
        "4",
        "--output.folder",
        str(tmp_path),
        "--output.name",
        "run",
        "--tracking.wandb",
        "off",
        "--evaluation.train",
        "false",
    ]
    folder = Path(ranks(2).run(train_recipe, "demo/hubert", recipe)[0])
    assert json.loads((folder / "data.json").read_text())["speaker_overlap"]["train/test"] == 0
    test = results(folder)["test"]
    assert test["items"] >= 20
    assert test["uar"] > 0.7, test
    assert main(["report", str(folder)]) == 0
    assert "anger" in (folder / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("regime", ["full", "heads"])
def test_farstail_with_hazm_trains(regime: str, ranks: Ranks, shared_data: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for source in (shared_data / "farstail").glob("*-word.csv"):
        rows = source.read_text(encoding="utf-8").splitlines(keepends=True)[:200]
        (raw / source.name).write_text("".join(rows), encoding="utf-8")
    shards = tmp_path / "shards"
    assert main(["pack", "farstail", str(raw), "--out", str(shards)]) == 0
    recipe = [
        "--data.shards",
        str(shards),
        "--model.max_tokens",
        "128",
        "--loop.max_steps",
        "3",
        "--output.folder",
        str(tmp_path),
        "--output.name",
        "run",
        "--tracking.wandb",
        "off",
    ]
    folder = Path(ranks(2).run(train_recipe, f"demo/bert_{regime}", recipe)[0])
    assert {part: m["items"] for part, m in results(folder).items()} == {
        "train": 199,
        "validation": 199,
        "test": 199,
    }
