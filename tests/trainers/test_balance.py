"""Balanced sampling in a training: other rows in every epoch, the same on any number of ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ranks import RankPool
from tests.trainers.jobs import losses_after, losses_and_save, plans_of
from tests.trainers.test_world_sizes import assert_close, bert, hubert

Ranks = Callable[[int], RankPool]
SAMPLED = ["--data.balance", "sampled", "--loop.epochs", "4"]


@pytest.mark.parametrize("kind", ["hubert", "bert"])
@pytest.mark.parametrize("batching", ["buckets", "fixed"])
def test_plans_of_a_sampled_training(
    kind: str, batching: str, ranks: Ranks, speech_shards: Path, text_shards: Path
) -> None:
    name = "demo/hubert" if kind == "hubert" else "demo/bert_full"
    recipe = hubert(speech_shards) if kind == "hubert" else bert(text_shards)
    recipe += [*SAMPLED, "--batching.kind", batching, "--batching.items", "8"]
    plans = ranks(1).run(plans_of, name, recipe)[0]
    for counts, rows in zip(plans["counts"], plans["rows"], strict=True):
        assert max(counts) - min(counts) <= 1
        assert len(rows) == len(plans["train"]) and set(rows) <= set(plans["train"])
    assert plans["steps"] == plans["promised"]
    assert plans["evaluated"] == sorted(plans["train"]), "every row once"
    assert plans["digests"] == ranks(1).run(plans_of, name, recipe)[0]["digests"]
    if kind == "hubert":  # the pairs' classes are nearly even: nearly all of them, in every epoch
        assert len({tuple(rows) for rows in plans["rows"]}) == 4
        other = ranks(1).run(plans_of, name, [*recipe, "--seed", "1"])[0]["digests"]
        assert other["train"] != plans["digests"]["train"]
    assert not plans["changed"]


def test_going_on_in_the_second_epoch(ranks: Ranks, speech_shards: Path, tmp_path: Path) -> None:
    recipe = [*hubert(speech_shards), *SAMPLED, "--optim.eps", "0.1", "--optim.lr", "2e-2"]
    recipe += ["--batching.budget", "6"]
    first = ranks(1).run(plans_of, "demo/hubert", [*recipe, "--loop.epochs", "1"])[0]["steps"]
    at, steps = first + 2, first + 6
    whole = ranks(2).run(losses_and_save, "demo/hubert", recipe, steps, at, tmp_path)[0]
    again = ranks(2).run(losses_after, "demo/hubert", recipe, steps, at, whole["path"])[0]
    assert again["losses"] == whole["losses"][at:] and again["end"] == whole["end"]
    alone = ranks(1).run(losses_after, "demo/hubert", recipe, steps, at, whole["path"])[0]
    assert_close(alone["losses"], whole["losses"][at:])
