"""What is said of values that are of another kind than their key."""

from __future__ import annotations

import pytest

from configs.errors import InputError
from configs.kinds import kind_text, wrong_value
from configs.load import all_keys, load_recipe
from configs.schema import EmotionRecipe, MlmRecipe, NliRecipe
from configs.slurm import SlurmConfig


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--model.regime.heads {a:b}",
            "key 'model.regime.heads' cannot be {a:b}; it must be a mapping, "
            'such as {"0": [1, 2]}, or null',
        ),
        ("--optim.lr null", "key 'optim.lr' cannot be null; it must be a number, such as 3e-5"),
        ("--optim.lr fast", "key 'optim.lr' cannot be fast; it must be a number, such as 3e-5"),
        (
            "--optim.head_lr fast",
            "key 'optim.head_lr' cannot be fast; it must be a number, such as 3e-5, or null",
        ),
        (
            "--optim.betas 1",
            "key 'optim.betas' cannot be 1; it must be a list of 2 numbers, such as [0.1,0.2]",
        ),
        (
            "--engine.deterministic maybe",
            "key 'engine.deterministic' cannot be maybe; it must be true or false",
        ),
        ("--tracking.wandb yes", "key 'tracking.wandb' cannot be yes; it must be auto, offline or off"),
        (
            "--model.regime full",
            "key 'model.regime' cannot be full; it must be a section of keys, set one by one, such as "
            "--model.regime.kind VALUE",
        ),
    ],
)
def test_a_value_of_another_kind_is_named_with_key_kind_and_example(words: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load_recipe("demo/bert_full", words.split())
    assert str(error.value) == f"command line: {message}"


@pytest.mark.parametrize("kind", [EmotionRecipe, NliRecipe, MlmRecipe, SlurmConfig])
def test_every_key_has_a_kind_in_words(kind: type) -> None:
    for key, its in all_keys(kind):
        assert kind_text(its, key)


def test_other_messages_stay() -> None:
    for text in ("unrecognized arguments: stray", 'key "seed": required', 'key "x": Got value: 1'):
        assert wrong_value(text, {"seed": int}) == text
