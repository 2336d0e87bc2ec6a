"""Scores of a test part with and without noise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.ranks import RankPool
from tests.trainers.jobs import open_data
from tests.trainers.tasks.test_cached_emotion import cached
from tests.trainers.tasks.test_features import speech
from trainers.analyses.noise import _scores
from trainers.analyses.noise import noised_scores as scores_of
from trainers.evaluate import Predictions, predict
from trainers.ranks.world import World

Ranks = Callable[[int], RankPool]


class HearsNoise(nn.Module):
    """Calls a clip the first class if neighbouring samples are alike, the second if they are not."""

    def forward(self, audio: Tensor, lengths: Tensor) -> Tensor:
        """(batch, samples), (batch,) -> (batch, 6)."""
        steps = (audio[:, 1:] - audio[:, :-1]).abs().sum(1) / lengths
        logits = torch.zeros(len(audio), 6)
        logits[:, 1] = steps - 0.9
        return logits


def noised_scores(world: World, recipe: list[str], hears: bool = False) -> dict[str, Any]:
    data = open_data(world, "demo/hubert", recipe)
    model: Any = HearsNoise() if hears else data.task.build_model()
    result = scores_of(data, model.eval())
    assert not model.training
    if not hears:
        plain = predict(model, data, "test").metrics(data.task.labels)
        assert result["clean"]["accuracy"] == plain.accuracy
    return result


def test_a_model_that_hears_noise(ranks: Ranks, speech_shards: Path) -> None:
    recipe = speech(speech_shards, "--data.augment.noise", "0.5")
    alone = ranks(1).run(noised_scores, recipe, True)[0]
    both = ranks(2).run(noised_scores, recipe, True)
    assert both == [alone, alone]
    assert json.loads(json.dumps(alone)) == alone
    first, second = list(alone["clean"]["predicted_share"])[:2]
    assert alone["clean"]["predicted_share"][first] > 0.8
    assert alone["noised"]["predicted_share"][second] == 1
    assert alone["changed"] == pytest.approx(alone["clean"]["predicted_share"][first])
    assert alone["clean"]["recall"][first] > 0.8 > alone["noised"]["recall"][first] == 0
    assert alone["noised"]["recall"][second] == 1
    assert alone["augment"]["noise"] == 0.5 and alone["augment"]["semitones"] == [0]
    assert "noise of deviation 0.5 (full scale is 1)" in alone["augment"]["changes"]
    assert "shift of up to 0.2 s" in alone["augment"]["changes"]


@pytest.mark.parametrize("balance", ["none", "reference", "clean", "sampled"])
def test_every_clip_is_changed_however_training_is_balanced(
    balance: str, ranks: Ranks, speech_shards: Path
) -> None:
    recipe = speech(speech_shards, "--data.augment.noise", "0.5", "--data.augment.semitones", "[0]")
    found = ranks(1).run(noised_scores, [*recipe, "--data.balance", balance], True)[0]
    second = list(found["noised"]["predicted_share"])[1]
    assert found["noised"]["predicted_share"][second] == 1 > found["clean"]["predicted_share"][second]


def test_nothing_changes_without_noise_and_shift(ranks: Ranks, speech_shards: Path) -> None:
    recipe = speech(speech_shards, "--data.augment.noise", "0", "--data.augment.shift_seconds", "0")
    result = ranks(1).run(noised_scores, recipe)[0]
    assert result["changed"] == 0
    assert result["clean"] == result["noised"]


def test_a_balanced_training_part_plays_no_role(ranks: Ranks, speech_shards: Path) -> None:
    recipe = speech(speech_shards, "--data.augment.noise", "0.05", "--data.augment.semitones", "[0]")
    found = [
        ranks(1).run(noised_scores, [*recipe, "--data.balance", balance])[0]
        for balance in ("none", "reference", "clean", "sampled")
    ]
    assert all(result == found[0] for result in found)


def test_a_run_with_cached_features_is_given_audio(ranks: Ranks, speech_shards: Path) -> None:
    recipe = cached(speech_shards, "--data.augment.noise", "0.05")
    whole = [*recipe, "--model.cache", "false"]
    assert ranks(2).run(noised_scores, recipe) == ranks(2).run(noised_scores, whole)


def test_a_class_without_samples_has_no_recall() -> None:
    truth = np.array([0, 1, 0, 1])
    logits = np.eye(3, dtype=np.float32)[[0, 1, 0, 2]]
    right = logits.argmax(1) == truth
    entries = Predictions(np.arange(4), truth, np.zeros(4), right, logits, np.zeros((4, 0)))
    found = _scores(entries, ("a", "b", "c"))
    assert found["recall"] == {"a": 1.0, "b": 0.5}
    assert found["predicted_share"] == {"a": 0.5, "b": 0.25, "c": 0.25}
