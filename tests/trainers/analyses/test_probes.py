"""Linear probes of every layer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.beginning import Beginning
from configs.errors import InputError
from configs.load import load_recipe
from tests.ranks import RankPool
from tests.trainers.baselines.test_baselines import pack_pairs
from tests.trainers.jobs import open_data
from tests.trainers.tasks.test_cached_emotion import cached
from tests.trainers.tasks.test_features import speech, text
from trainers.analyses.probes import STRENGTHS, Part, probe
from trainers.analyses.probes import layer_probes as probes_of
from trainers.ranks.world import World
from trainers.run import train

Ranks = Callable[[int], RankPool]
LABELS = ("a", "b", "c")


def parts(signal: float, seed: int = 0, width: int = 40) -> dict[str, Part]:
    """Features that hold the label in one direction of ``width``, scaled by ``signal``."""
    rng = np.random.Generator(np.random.PCG64(seed))
    made = {}
    for part, count in (("train", 300), ("validation", 150), ("test", 150)):
        labels = rng.integers(0, 3, count)
        features = rng.standard_normal((count, width))
        features[:, 0] += signal * labels
        # Units must not matter.
        made[part] = ((features * 100 + 7).astype(np.float32), labels)
    return made


def test_a_probe_finds_what_is_linear_in_the_features() -> None:
    found = [probe(parts(signal), LABELS, "accuracy")["accuracy"] for signal in (0.0, 1.0, 5.0)]
    assert found[0] < 0.45
    assert found[0] + 0.1 < found[1] < found[2]
    assert found[2] > 0.95


def test_the_strength_is_chosen_on_validation() -> None:
    """Against fits made one by one; what scikit-learn gives with the chosen strength is the answer."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import recall_score
    from sklearn.preprocessing import StandardScaler

    given = parts(1.0, seed=3, width=120)
    scaler = StandardScaler().fit(given["train"][0])
    x = {part: scaler.transform(features) for part, (features, _) in given.items()}
    y = {part: labels for part, (_, labels) in given.items()}
    right = {}
    for strength in STRENGTHS:
        fitted = LogisticRegression(C=strength, max_iter=2000, tol=1e-6).fit(x["train"], y["train"])
        uar = [
            recall_score(y[part], fitted.predict(x[part]), average="macro") for part in ("validation", "test")
        ]
        right[strength] = uar
    best = max(right, key=lambda strength: right[strength][0])
    found = probe(given, LABELS, "uar")
    assert found["C"] == best != STRENGTHS[-1]
    assert found["uar"] == pytest.approx(right[best][1], abs=0.02)


@pytest.mark.parametrize("metric", ["accuracy", "uar", "macro_f1", "weighted_f1", "loss"])
def test_every_metric_of_a_recipe_can_choose(metric: Any) -> None:
    assert probe(parts(3.0), LABELS, metric)["accuracy"] > 0.7


def layer_probes(world: World, name: str, recipe: list[str]) -> dict[str, Any]:
    data = open_data(world, name, recipe)
    model: Any = data.task.build_model()
    return probes_of(data, model.eval())


@pytest.mark.parametrize("weights", ["start", "end"])
@pytest.mark.parametrize("kind", ["hubert", "bert"])
def test_layers_of_a_model(
    kind: str, weights: str, ranks: Ranks, speech_shards: Path, text_shards: Path
) -> None:
    name = "demo/hubert" if kind == "hubert" else "demo/bert_full"
    recipe = speech(speech_shards) if kind == "hubert" else text(text_shards)
    recipe += ["--analysis.probes", weights]
    alone = ranks(1).run(layer_probes, name, recipe)[0]
    both = ranks(2).run(layer_probes, name, recipe)
    assert both[0] == both[1]
    assert json.loads(json.dumps(alone)) == alone
    assert {type(result.pop("seconds")) for result in (alone, both[0])} == {float}
    # Work is shared, results are not of the sharing.
    assert alone == both[0]
    assert alone["weights"] == weights
    assert [layer["layer"] for layer in alone["layers"]] == [0, 1, 2]
    for layer in alone["layers"]:
        assert set(layer) == {"layer", "validation_accuracy", "accuracy", "uar", "macro_f1", "C"}
        assert 0 <= layer["accuracy"] <= 1
    assert 0 < alone["majority"] < 1


def test_probes_of_a_run_with_cached_features(ranks: Ranks, speech_shards: Path) -> None:
    """The whole encoder's layers, though only the last one's features train a head."""
    more = ["--analysis.probes", "start"]
    found = ranks(1).run(layer_probes, "demo/hubert", cached(speech_shards, *more))[0]
    expected = ranks(1).run(layer_probes, "demo/hubert", speech(speech_shards, *more))[0]
    assert found["layers"] == expected["layers"]


def train_one_class(world: World, recipe: list[str]) -> str:
    """What a training says."""
    try:
        train(load_recipe("demo/bert_full", recipe), world, Beginning())
    except InputError as error:
        return str(error)
    return ""


def test_one_class_is_told_before_training(ranks: Ranks, tmp_path: Path) -> None:
    """A probe cannot be fitted on it, nor is there a classifier to train."""
    shards = pack_pairs(tmp_path, "e", "او رفت")
    runs = tmp_path / "runs"
    recipe = text(shards, "--analysis.probes", "end", "--output.folder", str(runs))
    told = ranks(1).run(train_one_class, recipe)[0]
    assert told == "labels: a classifier needs two or more, the shards have 1"
    assert not list(runs.glob("*/*")), "and nothing was trained"
