"""What trains in a run is told in words that differ where the settings do."""

from __future__ import annotations

import pytest

from trainers.models.regime_words import regime_words


@pytest.mark.parametrize(
    ("task", "model", "words"),
    [
        ("emotion", {}, "encoder and mlp head train, convolutions frozen, exact padding"),
        ("emotion", {"freeze_conv": False}, "encoder and mlp head train, exact padding"),
        ("emotion", {"trains": "last", "last_layers": 2}, "last 2 layers and mlp head train, exact padding"),
        ("emotion", {"trains": "last", "last_layers": 1}, "last layer and mlp head train, exact padding"),
        ("emotion", {"trains": "head", "freeze_conv": False}, "mlp head alone trains, exact padding"),
        (
            "emotion",
            {"trains": "head", "cache": True},
            "mlp head alone trains, on cached features, exact padding",
        ),
        ("nli", {"heads_share": 0.3}, "30% of attention heads removed at random"),
        (
            "nli",
            {"heads_share": 0.3, "choose": "importance"},
            "30% of attention heads removed by importance on train",
        ),
        (
            "nli",
            {"heads_share": 0.3, "choose": "importance", "round_share": 0.1},
            "30% of attention heads removed by importance on train, scored anew after every 10%",
        ),
        ("nli", {"heads": {"0": [1, 2], "3": [0]}}, "3 chosen attention heads removed"),
        ("nli", {"kind": "freeze_first", "layers": 0}, "embeddings frozen"),
        ("nli", {"kind": "freeze_first", "layers": 1}, "embeddings and first layer frozen"),
        ("nli", {"kind": "freeze_first", "layers": 9}, "embeddings and first 9 layers frozen"),
    ],
)
def test_regimes_in_words(task: str, model: dict[str, object], words: str) -> None:
    emotion = {"head": "mlp", "trains": "all", "freeze_conv": True, "padding": "exact", **model}
    nli = {"regime": {"kind": "heads_removed", **model}}
    assert regime_words(task, emotion if task == "emotion" else nli) == words
