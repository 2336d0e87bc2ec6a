"""Whole runs: from a recipe to a finished run directory, on one rank and on two."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.beginning import Beginning
from configs.load import load_recipe
from data_shards.index import open_index
from data_shards.splits import load_split
from tests.ranks import RankPool
from tests.trainers.jobs import train_recipe
from trainers.folder import hold_run_folder

Ranks = Callable[[int], RankPool]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def text_recipe(shards: Path, out: Path, *more: str) -> list[str]:
    return [
        "--data.shards",
        str(shards),
        "--data.workers",
        "0",
        "--model.vocabulary",
        "300",
        "--batching.items",
        "32",
        "--loop.epochs",
        "2",
        "--output.folder",
        str(out),
        "--tracking.wandb",
        "off",
        *more,
    ]


def speech_recipe(shards: Path, out: Path, *more: str) -> list[str]:
    return [
        "--data.shards",
        str(shards),
        "--data.workers",
        "0",
        "--batching.budget",
        "8",
        "--loop.epochs",
        "1",
        "--loop.max_steps",
        "3",
        "--model.max_seconds",
        "1",
        "--data.augment.semitones",
        "[-1,0,1]",
        "--output.folder",
        str(out),
        "--tracking.wandb",
        "off",
        *more,
    ]


def test_one_and_two_ranks_write_the_same_run(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    folders = [
        Path(ranks(n).run(train_recipe, "demo/bert_full", text_recipe(text_shards, tmp_path / str(n)))[0])
        for n in (1, 2)
    ]
    alone, together = [lines(folder / "metrics.jsonl") for folder in folders]
    assert [(m["kind"], m["step"]) for m in alone] == [(m["kind"], m["step"]) for m in together]
    for one, two in zip(alone, together, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
        assert one.get("padding") == two.get("padding")
        norms = one.get("gradient_norm", 0.0), two.get("gradient_norm", 0.0)
        assert norms[0] == pytest.approx(norms[1], rel=1e-3)
        assert (one["kind"] == "train") == (norms[0] > 0)
    assert [m["kind"] for m in alone].count("validation") == 2
    index = open_index(text_shards)
    split = load_split(index)
    counts = {part: len(split.rows(part)) for part in split.names}
    for folder in folders:
        for part, count in counts.items():
            rows = read_csv(folder / "eval" / f"predictions-{part}.csv")
            results = json.loads((folder / "eval" / "metrics.json").read_text())["splits"][part]
            assert len({row["key"] for row in rows}) == len(rows) == results["items"]
            assert len(rows) == count
            right = sum(row["label"] == row["prediction"] for row in rows) / len(rows)
            assert right == pytest.approx(results["accuracy"])
            mean = sum(float(row["loss"]) for row in rows) / len(rows)
            assert mean == pytest.approx(results["loss"], rel=1e-4)
        assert json.loads((folder / "summary.json").read_text())["finished"] is True
        assert (folder / "model" / "model.safetensors").is_file()


def test_the_best_epoch_is_tested(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    recipe = text_recipe(text_shards, tmp_path, "--loop.epochs", "4", "--optim.lr", "3e-3")
    recipe += ["--evaluation.metric", "loss"]
    folder = Path(ranks(2).run(train_recipe, "demo/bert_full", recipe)[0])
    validations = [m for m in lines(folder / "metrics.jsonl") if m["kind"] == "validation"]
    best = json.loads((folder / "eval" / "metrics.json").read_text())["best"]
    least = min(validations, key=lambda m: m["loss"])
    assert (best["epoch"], best["step"]) == (least["epoch"], least["step"])
    results = json.loads((folder / "eval" / "metrics.json").read_text())["splits"]["validation"]
    assert results["loss"] == pytest.approx(least["loss"], rel=1e-4)


def test_patience_stops_early(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    recipe = text_recipe(text_shards, tmp_path, "--loop.epochs", "9", "--evaluation.patience", "1")
    folder = Path(ranks(1).run(train_recipe, "demo/bert_full", [*recipe, "--optim.lr", "0"])[0])
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["stopped"], summary["epochs"]) == ("patience", 2)


def test_balancing_and_pitch_shift(ranks: Ranks, speech_shards: Path, tmp_path: Path) -> None:
    """The reference's balancing end to end: every class to the majority's count."""
    recipe = speech_recipe(speech_shards, tmp_path, "--data.balance", "reference")
    recipe += ["--data.split", "reference"]
    folder = Path(ranks(2).run(train_recipe, "demo/hubert", recipe)[0])
    data = json.loads((folder / "data.json").read_text())
    counts = data["counts"]["train"]
    assert data["train_entries"] == max(counts.values()) * len(counts)
    results = json.loads((folder / "eval" / "metrics.json").read_text())["splits"]
    assert results["train"]["items"] == data["train_entries"]
    assert results["test"]["items"] == sum(data["counts"]["test"].values())
    derived = list((speech_shards / "derived").iterdir())
    assert len(derived) == 1 and derived[0].name.startswith("pitch-reference-")


def test_finished_runs_are_kept(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    recipe = text_recipe(text_shards, tmp_path, "--loop.max_steps", "1")
    folder = Path(ranks(1).run(train_recipe, "demo/bert_full", recipe)[0])
    marker = folder / "eval" / "mine.txt"
    marker.touch()
    with pytest.raises(RuntimeError, match="this run is finished.*--overwrite"):
        ranks(1).run(train_recipe, "demo/bert_full", recipe)
    assert marker.exists()
    ranks(1).run(train_recipe, "demo/bert_full", recipe, Beginning(overwrite=True))
    assert not marker.exists()


def test_a_loss_that_is_not_finite_stops_with_the_samples(
    ranks: Ranks, text_shards: Path, tmp_path: Path
) -> None:
    recipe = text_recipe(text_shards, tmp_path, "--optim.lr", "1e30", "--optim.warmup", "0")
    with pytest.raises(RuntimeError, match=r"step \d+: the loss is not finite; samples: synthetic-"):
        ranks(2).run(train_recipe, "demo/bert_full", recipe)


def test_wandb_offline_run(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    """A real offline run, read back by W&B's own reader."""
    recipe = text_recipe(text_shards, tmp_path, "--loop.max_steps", "2")
    recipe[recipe.index("--tracking.wandb") + 1] = "offline"
    folder = Path(ranks(1).run(train_recipe, "demo/bert_full", recipe)[0])
    runs = list((folder / "wandb").glob("offline-run-*"))
    assert len(runs) == 1
    command = [
        sys.executable,
        "-m",
        "wandb",
        "leet",
        "inspect",
        "--summary",
        "--json",
        str(runs[0]),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    results = json.loads((folder / "eval" / "metrics.json").read_text())["splits"]
    assert str(results["test"]["accuracy"])[:6] in answer.stdout


@pytest.mark.parametrize("kind", ["emotion recipe", "nli recipe"])
def test_shards_of_the_other_kind_are_refused(
    kind: str, ranks: Ranks, text_shards: Path, speech_shards: Path, tmp_path: Path
) -> None:
    if kind == "emotion recipe":
        name, recipe = "demo/hubert", speech_recipe(text_shards, tmp_path)
    else:
        name, recipe = "demo/bert_full", text_recipe(speech_shards, tmp_path)
    with pytest.raises(RuntimeError, match="holds (text|audio), but recipe"):
        ranks(1).run(train_recipe, name, recipe)


def test_a_second_process_on_a_run_directory_is_refused(
    ranks: Ranks, text_shards: Path, tmp_path: Path
) -> None:
    recipe = text_recipe(text_shards, tmp_path, "--loop.max_steps", "1", "--output.name", "one")
    folder, lock = hold_run_folder(load_recipe("demo/bert_full", recipe), overwrite=False)
    (folder / "config.yaml").touch()
    (folder / "metrics.jsonl").write_text("precious")
    with pytest.raises(RuntimeError, match=r"process \d+ on .* trains there"):
        ranks(1).run(train_recipe, "demo/bert_full", recipe)
    assert (folder / "metrics.jsonl").read_text() == "precious"
    lock.release()
    assert ranks(1).run(train_recipe, "demo/bert_full", recipe) == [str(folder)]
    assert "precious" not in (folder / "metrics.jsonl").read_text()


def test_bad_input_keeps_the_older_run(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    recipe = text_recipe(text_shards, tmp_path, "--loop.max_steps", "1", "--output.name", "one")
    folder = Path(ranks(1).run(train_recipe, "demo/bert_full", recipe)[0])
    before = sorted(path.name for path in folder.rglob("*"))
    for change in (["--engine.precision", "fp16"], ["--model.pretrained", str(tmp_path / "no")]):
        with pytest.raises(RuntimeError, match="InputError"):
            ranks(1).run(train_recipe, "demo/bert_full", [*recipe, *change], Beginning(overwrite=True))
        assert sorted(path.name for path in folder.rglob("*")) == before
        assert [path.name for path in folder.parent.iterdir()] == ["one"]
        fresh = [*recipe, "--output.folder", str(tmp_path / "fresh"), *change]
        with pytest.raises(RuntimeError, match="InputError"):
            ranks(1).run(train_recipe, "demo/bert_full", fresh)
        assert list((tmp_path / "fresh").iterdir()) == []


def test_values_with_spaces_are_no_recipes() -> None:
    """As `sokhan sweep` passes them on: a whole section, a path."""
    words = ['--model.regime={"kind": "freeze_first", "layers": 1}', "--data.shards=my data/shards"]
    command = [sys.executable, "-m", "trainers", "--config", "demo/bert_full", *words]
    done = subprocess.run([*command, "--print_config"], capture_output=True, text=True, check=True)
    recipe = yaml.safe_load(done.stdout)
    assert recipe["model"]["regime"]["kind"] == "freeze_first"
    assert recipe["data"]["shards"] == "my data/shards"
