"""Training a head on cached features: the same model as the whole, without its encoder's work."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_shards.index import open_index
from data_shards.reader import ShardReader
from tests.ranks import RankPool
from tests.trainers.jobs import losses_after, losses_and_save, losses_of, open_data, train_recipe
from tests.trainers.tasks.test_features import speech
from tests.trainers.tiny_models import hubert_folder
from trainers.checkpoints.checkpoint import Checkpoint
from trainers.evaluate import predict
from trainers.exports.classifier import load_exported
from trainers.models.hubert import EmotionModel, normalise_clip
from trainers.ranks.world import World
from trainers.tasks.cached_emotion import CachedEmotionTask, with_encoder

Ranks = Callable[[int], RankPool]
HEADS = ["linear", "mlp", "weighted"]


@pytest.fixture
def shards(speech_shards: Path, tmp_path: Path) -> Path:
    """A copy without features."""
    copy = tmp_path / "shards"
    shutil.copytree(speech_shards, copy, ignore=shutil.ignore_patterns("cache"))
    return copy


def cached(shards: Path, *more: str) -> list[str]:
    return speech(
        shards,
        "--model.trains",
        "head",
        "--model.cache",
        "true",
        "--data.balance",
        "none",
        "--batching.budget",
        "4",
        *more,
    )


def logits_both_ways(world: World, recipe: list[str]) -> tuple[np.ndarray, np.ndarray]:
    data = open_data(world, "demo/hubert", recipe)
    assert isinstance(data.task, CachedEmotionTask)
    head = data.task.build_model()
    with torch.no_grad():
        for parameter in head.parameters():  # far from the small weights of a fresh head
            parameter.add_(torch.randn(parameter.shape, generator=torch.manual_seed(3)) * 0.1)
    features = predict(head, data, "test")
    whole, model = with_encoder(data, head)
    assert isinstance(model, EmotionModel)
    audio = predict(model, whole, "test")
    assert (audio.rows == features.rows).all() and (audio.truth == features.truth).all()
    return features.logits, audio.logits


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("head", HEADS)
def test_logits_are_those_of_the_whole_model(
    head: str, norm: str, ranks: Ranks, shards: Path, tmp_path: Path
) -> None:
    encoder = hubert_folder(tmp_path / "encoder", norm)
    recipe = cached(shards, "--model.head", head, "--model.pretrained", str(encoder))
    features, audio = ranks(1).run(logits_both_ways, recipe)[0]
    assert np.abs(audio).max() > 0.5
    assert np.abs(features - audio).max() < 1e-5


def plan_of(world: World, recipe: list[str]) -> tuple[str, str]:
    data = open_data(world, "demo/hubert", recipe)
    return data.training_plan(3).digest(), data.evaluation_plan("test").digest()


def test_batches_are_those_of_a_training_without_cache(ranks: Ranks, shards: Path) -> None:
    with_cache = ranks(1).run(plan_of, cached(shards))[0]
    assert with_cache == ranks(1).run(plan_of, cached(shards, "--model.cache", "false"))[0]


@pytest.mark.parametrize("head", HEADS)
def test_losses_are_those_of_a_frozen_encoder(head: str, ranks: Ranks, shards: Path) -> None:
    """Without dropout and masks there is no difference at all between the two ways to train a head."""
    more = [
        "--model.head",
        head,
        "--model.dropout",
        "0",
        "--model.specaugment",
        "false",
        "--optim.eps",
        "0.1",
        "--optim.lr",
        "0.1",
    ]
    audio = ranks(2).run(losses_of, "demo/hubert", cached(shards, *more, "--model.cache", "false"), 8)
    features = ranks(2).run(losses_of, "demo/hubert", cached(shards, *more), 8)
    alone = ranks(1).run(losses_of, "demo/hubert", cached(shards, *more), 8)
    expected = audio[0]["losses"]
    assert expected[-1] != pytest.approx(expected[0], rel=1e-2)
    assert features[0]["losses"] == pytest.approx(expected, rel=1e-4)
    assert alone[0]["losses"] == pytest.approx(expected, rel=1e-4)


def test_resumed_at_any_zero_stage(ranks: Ranks, shards: Path, tmp_path: Path) -> None:
    recipe = cached(shards, "--model.head", "mlp", "--model.dropout", "0.2", "--optim.lr", "0.01")
    saved = ranks(2).run(losses_and_save, "demo/hubert", recipe, 8, 4, tmp_path)[0]
    assert all(name.startswith("head.") for name in Checkpoint(saved["path"]).weights)
    again = ranks(2).run(losses_after, "demo/hubert", recipe, 8, 4, saved["path"])[0]
    assert again["loaded"] == saved["saved"] and again["end"] == saved["end"]
    assert again["losses"] == saved["losses"][4:]
    for stage in (1, 3):
        other = [*recipe, "--engine.zero", str(stage)]
        again = ranks(2).run(losses_after, "demo/hubert", other, 8, 4, saved["path"])[0]
        assert again["loaded"] == saved["saved"]
        assert again["losses"] == pytest.approx(saved["losses"][4:], rel=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "bf16_autocast"])
def test_low_precision(precision: str, ranks: Ranks, shards: Path) -> None:
    recipe = cached(shards, "--optim.lr", "0.01", "--engine.precision", precision)
    losses = ranks(2).run(losses_of, "demo/hubert", recipe, 30)[0]["losses"]
    assert min(losses[-5:]) < losses[0]


def test_a_whole_run(ranks: Ranks, shards: Path, tmp_path: Path) -> None:
    """The model that comes out is whole and gives the run's own test results."""
    recipe = cached(
        shards,
        "--model.head",
        "weighted",
        "--output.folder",
        str(tmp_path),
        "--output.name",
        "run",
        "--tracking.wandb",
        "off",
        "--loop.epochs",
        "2",
        "--optim.lr",
        "0.05",
        "--analysis.noise",
        "true",
        "--analysis.probes",
        "end",
    )
    folder = Path(ranks(2).run(train_recipe, "demo/hubert", recipe)[0])
    model: Any = load_exported(folder / "model")
    parameters = json.loads((folder / "eval" / "parameters.json").read_text())
    count = sum(p.numel() for p in model.parameters())
    assert parameters["total"] == count
    assert parameters["trainable"] == sum(p.numel() for p in model.head.parameters())
    assert all(name.startswith("head.") for name in parameters["trainable_names"])
    index = open_index(shards)
    rows = {index.key(row): row for row in range(len(index))}
    with (folder / "eval" / "predictions-test.csv").open(encoding="utf-8", newline="") as stream:
        predictions = list(csv.DictReader(stream))
    assert len(predictions) > 5
    for line in predictions:
        clip = ShardReader(shards).item(rows[line["key"]]).audio
        assert clip is not None
        audio = torch.from_numpy(normalise_clip(clip[:16_000]))[None]
        with torch.no_grad():
            shares = model(audio, torch.tensor([audio.shape[1]])).softmax(1)[0]
        expected = [float(line[f"p({label})"]) for label in model.labels]
        assert shares.tolist() == pytest.approx(expected, abs=1e-5)
    results = json.loads((folder / "eval" / "metrics.json").read_text())["splits"]["test"]
    noise = json.loads((folder / "eval" / "noise.json").read_text())
    assert noise["clean"]["accuracy"] == results["accuracy"]
    assert len(json.loads((folder / "eval" / "probes.json").read_text())["layers"]) == 3
    # From now on no audio is read: it may even be gone.
    for tar in shards.glob("*.tar"):
        tar.write_bytes(bytes(tar.stat().st_size))
    other = ["--output.name", "again", "--analysis.noise", "false", "--analysis.probes", "off"]
    again = Path(ranks(2).run(train_recipe, "demo/hubert", recipe + other)[0])
    assert (again / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
