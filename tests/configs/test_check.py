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
    "change", [["--model.head", "weighted"], ["--engine.zero", "1"], ["--engine.precision", "bf16"]]
)
def test_layerdrop_is_refused_where_it_breaks(change: list[str]) -> None:
    with pytest.raises(InputError, match="model.layerdrop"):
        load_recipe("demo/hubert", ["--model.layerdrop", "0.1", *change])
