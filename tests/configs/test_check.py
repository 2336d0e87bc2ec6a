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
