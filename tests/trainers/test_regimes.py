"""Five regimes x ZeRO stages: what trains, what does not move, what survives save and load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ranks import RankPool
from tests.trainers.jobs import losses_of, train_and_compare
from tests.trainers.test_world_sizes import assert_close, hubert

Ranks = Callable[[int], RankPool]
REGIMES = {
    "full": ([], []),
    "freeze": (["bert.embeddings.", "bert.encoder.layer.0."], []),
    "embeddings_last": (["bert.encoder.layer.0."], ["bert.embeddings."]),
    "intermediate": ([], ["bert.encoder.layer.0."]),
    "heads": ([], []),
}


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("regime", sorted(REGIMES))
def test_regime_at_stage(regime: str, stage: int, ranks: Ranks, text_shards: Path) -> None:
    recipe = [
        "--data.shards",
        str(text_shards),
        "--data.workers",
        "0",
        "--model.vocabulary",
        "300",
        "--batching.items",
        "16",
        "--engine.zero",
        str(stage),
        "--optim.lr",
        "1e-3",
    ]
    result = ranks(2).run(train_and_compare, f"demo/bert_{regime}", recipe, 2)[0]
    frozen, trained = REGIMES[regime]
    expected = [n for n in result["frozen"] + result["trainable"] if n.startswith(tuple(frozen))]
    assert result["frozen"] == sorted(expected)
    for prefix in trained:
        assert any(name.startswith(prefix) for name in result["changed"])
    # Frozen weights are the same to the bit; of the others only rows that no token has used are.
    assert set(result["changed"]) <= set(result["trainable"])
    unmoved = set(result["trainable"]) - set(result["changed"])
    assert unmoved <= {"bert.pooler.dense.bias"}, unmoved
    assert result["same weights"]
    assert result["difference"] < 1e-6
    assert sorted(result["rows"]) == sorted(set(result["rows"]))


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("head", ["linear", "mlp", "weighted", "attentive"])
def test_hubert_with_frozen_convolutions(head: str, stage: int, ranks: Ranks, speech_shards: Path) -> None:
    recipe = [
        "--data.shards",
        str(speech_shards),
        "--data.workers",
        "0",
        "--model.head",
        head,
        "--model.freeze_conv",
        "true",
        "--model.max_seconds",
        "1",
        "--engine.zero",
        str(stage),
        "--batching.budget",
        "4",
    ]
    result = ranks(2).run(train_and_compare, "demo/hubert", recipe, 2)[0]
    assert result["frozen"] and all("feature_extractor" in name for name in result["frozen"])
    assert set(result["changed"]) <= set(result["trainable"])
    assert any("encoder.layers" in name for name in result["changed"])
    assert any(name.startswith("head.") for name in result["changed"])
    assert result["same weights"]
    assert result["difference"] < 1e-5


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("trains", ["head", "last"])
def test_hubert_with_a_frozen_encoder(trains: str, stage: int, ranks: Ranks, speech_shards: Path) -> None:
    recipe = [
        "--data.shards",
        str(speech_shards),
        "--data.workers",
        "0",
        "--model.trains",
        trains,
        "--model.max_seconds",
        "1",
        "--engine.zero",
        str(stage),
        "--batching.budget",
        "4",
        "--model.head",
        "attentive",
        *(["--model.last_layers", "1"] if trains == "last" else []),
    ]
    result = ranks(2).run(train_and_compare, "demo/hubert", recipe, 2)[0]
    kept = ("head.", "hubert.encoder.layers.1.") if trains == "last" else ("head.",)
    assert all(name.startswith(kept) for name in result["trainable"])
    assert not any(name.startswith(kept) for name in result["frozen"])
    assert set(result["changed"]) <= set(result["trainable"])
    for prefix in kept:
        assert any(name.startswith(prefix) for name in result["changed"])
    assert result["same weights"]
    assert result["difference"] < 1e-5


@pytest.mark.parametrize("settings", [["--model.head", "attentive"], ["--model.trains", "last"]])
def test_zero_stages_agree(settings: list[str], ranks: Ranks, speech_shards: Path) -> None:
    """On clips of unequal lengths: ranks that pad and ranks that do not must reduce gradients in the
    same order. A large eps makes Adam show the size of gradients, which it hides otherwise."""
    recipe = [*hubert(speech_shards), "--optim.eps", "0.1", "--optim.lr", "0.02", *settings]
    recipe += ["--model.last_layers", "1"] if "last" in settings else []
    stages = [
        ranks(2).run(losses_of, "demo/hubert", [*recipe, "--engine.zero", str(stage)], 12)[0]
        for stage in (0, 2, 3)
    ]
    for stage in stages[1:]:
        assert_close(stage["losses"], stages[0]["losses"])
