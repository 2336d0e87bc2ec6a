"""The arithmetic of ranks, and fields that must fit each other."""

from __future__ import annotations

import pytest

from configs.check import check_ranks
from configs.errors import InputError
from configs.load import load_recipe


def test_ranks_must_divide_the_micro_batches() -> None:
    recipe = load_recipe("farstail/parsbert_full")
    for ranks in (1, 2, 4, 8):
        check_ranks(recipe, ranks)
    with pytest.raises(InputError) as error:
        check_ranks(recipe, 3)
    message = str(error.value)
    assert "8 / 3 = 2.67" in message and "6 or 9 micro-batches" in message
    assert "[1, 2, 4, 8] ranks" in message
    with pytest.raises(InputError, match="use 16 micro-batches"):
        check_ranks(recipe, 16)


@pytest.mark.parametrize(
    "change",
    [
        ["--model.head", "weighted"],
        ["--engine.zero", "1"],
        ["--engine.precision", "bf16"],
        ["--model.trains", "head", "--model.cache", "true", "--data.balance", "none"],
    ],
)
def test_layerdrop_is_refused_where_it_breaks(change: list[str]) -> None:
    with pytest.raises(InputError, match="model.layerdrop"):
        load_recipe("demo/hubert", ["--model.layerdrop", "0.1", *change])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--optim.lr", "0", "--optim.head_lr", "1e-3"], "optim.lr' is 0, of which"),
        (["--optim.head_lr", "-1"], "optim.head_lr"),
        (["--optim.layer_decay", "0"], "optim.layer_decay"),
        (["--optim.layer_decay", "1.1"], "optim.layer_decay"),
        (["--model.trains", "last"], "model.last_layers"),
        (["--model.last_layers", "1"], "model.last_layers"),
        (["--model.trains", "last", "--model.last_layers", "0"], "model.last_layers"),
        (["--data.balance", "sampled", "--loss.strength", "-1"], "loss.strength"),
    ],
)
def test_rates_and_what_trains(change: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_recipe("demo/hubert", change)


@pytest.mark.parametrize(
    ("key", "value"), [("round_share", "0.1"), ("score_on", "validation"), ("score_items", "500")]
)
def test_how_heads_are_scored_needs_importance(key: str, value: str) -> None:
    """Drawn heads have no scores: such a field would only give the run another signature."""
    change = [f"--model.regime.{key}", value]
    with pytest.raises(InputError, match=f"'model.regime.{key}' .*; set model.regime.choose imp"):
        load_recipe("demo/bert_heads", change)
    with pytest.raises(InputError, match=f"model.regime.{key}"):
        load_recipe("demo/bert_full", change)
    load_recipe("demo/bert_heads", [*change, "--model.regime.choose", "importance"])


@pytest.mark.parametrize(
    ("recipe", "change", "message"),
    [
        ("demo/bert_full", ["--model.regime.choose", "importance"], "needs regime heads_removed"),
        ("demo/bert_full", ["--data.balance", "clean"], "data.balance' is clean, which changes audio"),
        ("demo/bert_full", ["--model.max_tokens", "7"], "model.max_tokens' is 7"),
        ("demo/bert_full", ["--analysis.pruning.shares", "[0.5,1.0]"], "analysis.pruning.shares' is 1"),
        ("demo/bert_heads", ["--analysis.pruning.shares", "[0.5]"], "heads_removed has removed some"),
        ("demo/bert_full", ["--batching.kind", "packed", "--batching.budget", "99"], "packed rows are what"),
        ("demo/mlm", ["--batching.budget", "63"], "batching.budget' is 63 tokens, less than one row"),
        ("demo/mlm", ["--model.pretrained", "x", "--model.layers", "3"], "model.layers' is for fresh"),
        ("demo/mlm", ["--evaluation.metric", "uar"], "evaluation.metric' is uar"),
        ("demo/mlm", ["--model.mask_share", "0"], "model.mask_share' is 0.0; it must be above 0"),
        ("demo/hubert", ["--model.cache", "true"], "model.cache' keeps pooled features"),
        (
            "demo/hubert",
            [
                "--model.cache",
                "true",
                "--model.trains",
                "head",
                "--data.balance",
                "none",
                "--model.padding",
                "stock",
            ],
            "model.cache' needs model.padding exact",
        ),
        ("demo/hubert", ["--model.max_seconds", "0"], "model.max_seconds' is 0.0; it must be finite"),
    ],
)
def test_models(recipe: str, change: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_recipe(recipe, change)
    assert "\n" not in str(error.value)
