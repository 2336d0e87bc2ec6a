"""A checkpoint can be gone on from on any number of ranks and at any ZeRO stage, in any precision."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.ranks import RankPool
from tests.trainers.jobs import (
    losses_after,
    losses_and_save,
    train_with_broken_gradient,
    train_with_broken_validation,
)
from tests.trainers.test_world_sizes import assert_close, bert, hubert
from trainers.checkpoints.checkpoint import Checkpoint, list_checkpoints

STEPS, AT = 100, 37
Ranks = Callable[[int], RankPool]


@pytest.mark.parametrize("kind", ["hubert", "bert"])
def test_other_ranks_and_stages(
    kind: str, ranks: Ranks, speech_shards: Path, text_shards: Path, tmp_path: Path
) -> None:
    """Saved on 2 ranks at ZeRO 2, gone on with on 1 and 4 at ZeRO 0 and 3: the uninterrupted losses.

    A large eps makes Adam show the size of gradients and moments, which it hides otherwise.
    """
    name = "demo/hubert" if kind == "hubert" else "demo/bert_full"
    recipe = hubert(speech_shards) if kind == "hubert" else bert(text_shards)
    recipe += ["--optim.eps", "0.1", "--optim.lr", "2e-2"]
    whole = ranks(2).run(losses_and_save, name, [*recipe, "--engine.zero", "2"], STEPS, AT, tmp_path)[0]
    assert len(whole["losses"]) == STEPS
    for size, stage in ((1, 0), (4, 0), (1, 3), (4, 3)):
        overrides = [*recipe, "--engine.zero", str(stage)]
        rest = ranks(size).run(losses_after, name, overrides, STEPS, AT, whole["path"])[0]
        assert rest["loaded"] == whole["saved"], f"{size} ranks, ZeRO {stage}: another state"
        assert_close(rest["losses"], whole["losses"][AT:])


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16_autocast"])
def test_the_same_ranks_go_on_bit_for_bit(
    precision: str, stage: int, ranks: Ranks, text_shards: Path, tmp_path: Path
) -> None:
    recipe = bert(text_shards, "--engine.precision", precision, "--engine.zero", str(stage))
    recipe += ["--optim.weight_decay", "0.1"]
    whole = ranks(2).run(losses_and_save, "demo/bert_full", recipe, 12, 5, tmp_path)[0]
    rest = ranks(2).run(losses_after, "demo/bert_full", recipe, 12, 5, whole["path"])[0]
    assert rest["loaded"] == whole["saved"]
    assert rest["losses"] == whole["losses"][5:]
    assert rest["end"] == whole["end"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_gradient_that_is_not_finite_stops_before_it_is_saved(
    stage: int, precision: str, ranks: Ranks, text_shards: Path, tmp_path: Path
) -> None:
    recipe = bert(text_shards, "--engine.precision", precision, "--engine.zero", str(stage))
    recipe += ["--checkpoint.every_steps", "1"]
    messages = ranks(2).run(train_with_broken_gradient, "demo/bert_full", recipe, 4, tmp_path)
    for message in messages:
        assert message.startswith("step 4: the gradient is not finite; samples: synthetic-")
    newest = list_checkpoints(tmp_path / "checkpoints")[0]
    assert newest.name == "step-3"
    weights = Checkpoint(newest).weights
    assert all(bool(torch.isfinite(weights[name]).all()) for name in weights)


def test_a_validation_that_is_not_finite_names_its_samples(
    ranks: Ranks, text_shards: Path, tmp_path: Path
) -> None:
    """Those of them alone whose loss it is, though they were another rank's."""
    recipe = bert(text_shards, "--evaluation.items", "4")
    one, other = ranks(2).run(train_with_broken_validation, "demo/bert_full", recipe, tmp_path)
    assert one == other
    told = re.match(r"step \d+: the validation loss is not finite; samples: (.*); try", one)
    assert told and all(key.startswith("synthetic-") for key in told[1].split(", "))
    assert not list_checkpoints(tmp_path / "checkpoints")


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_frozen_parts_go_along(stage: int, ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    """All frozen but embeddings and last layer, from ZeRO ``stage`` on 2 ranks to each on 4."""
    recipe = bert(text_shards, "--engine.zero", str(stage))
    whole = ranks(2).run(losses_and_save, "demo/bert_embeddings_last", recipe, 6, 3, tmp_path)[0]
    for other in (0, 1, 3):
        recipe = bert(text_shards, "--engine.zero", str(other))
        rest = ranks(4).run(losses_after, "demo/bert_embeddings_last", recipe, 6, 3, whole["path"])[0]
        assert rest["loaded"] == whole["saved"]
        assert_close(rest["losses"], whole["losses"][3:])
