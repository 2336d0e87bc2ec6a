"""The number of ranks and the ZeRO stage never change a result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ranks import RankPool
from tests.trainers.jobs import first_gradient_norm, losses_of, plain_gradient_norm

STEPS = 100
Ranks = Callable[[int], RankPool]


def hubert(shards: Path, *more: str) -> list[str]:
    return [
        "--data.shards",
        str(shards),
        "--data.workers",
        "0",
        "--model.dropout",
        "0.1",
        "--model.specaugment",
        "true",
        "--model.mask_time_prob",
        "0.2",
        "--model.max_seconds",
        "1",
        "--batching.kind",
        "buckets",
        "--batching.budget",
        "1.5",
        "--batching.micro_batches",
        "4",
        "--optim.lr",
        "1e-3",
        "--optim.clip",
        "1.0",
        *more,
    ]


def bert(shards: Path, *more: str) -> list[str]:
    return [
        "--data.shards",
        str(shards),
        "--data.workers",
        "0",
        "--model.dropout",
        "0.1",
        "--batching.kind",
        "buckets",
        "--batching.budget",
        "60",
        "--batching.micro_batches",
        "4",
        "--optim.lr",
        "5e-4",
        "--optim.clip",
        "1.0",
        "--model.vocabulary",
        "300",
        *more,
    ]


def assert_close(losses: list[float], expected: list[float]) -> None:
    worst = max(abs(a - b) / abs(b) for a, b in zip(losses, expected, strict=True))
    assert worst < 1e-5, f"losses differ by {worst:.2e} relative"


@pytest.mark.parametrize("kind", ["hubert", "bert"])
def test_same_losses_on_1_2_and_4_ranks(
    kind: str, ranks: Ranks, speech_shards: Path, text_shards: Path
) -> None:
    """Dropout and SpecAugment on, micro-batches of unequal sizes, fp32, 100 steps."""
    name = "demo/hubert" if kind == "hubert" else "demo/bert_full"
    recipe = hubert(speech_shards) if kind == "hubert" else bert(text_shards)
    alone = ranks(1).run(losses_of, name, recipe, STEPS)[0]
    assert len(set(alone["sizes"])) > 2, "the micro-batches should be unequal"
    assert len(alone["losses"]) == STEPS
    assert min(alone["losses"][-20:]) < alone["losses"][0], "nothing was learnt"
    for size in (2, 4):
        together = ranks(size).run(losses_of, name, recipe, STEPS)
        assert all(result["losses"] == together[0]["losses"] for result in together)
        assert_close(together[0]["losses"], alone["losses"])


@pytest.mark.parametrize(("kind", "clip"), [("hubert", "0"), ("bert", "0"), ("bert", "0.05")])
def test_zero_stages_agree(
    kind: str, clip: str, ranks: Ranks, speech_shards: Path, text_shards: Path
) -> None:
    name = "demo/hubert" if kind == "hubert" else "demo/bert_full"
    recipe = hubert(speech_shards) if kind == "hubert" else bert(text_shards)
    # A large eps makes Adam show the size of gradients, which it hides otherwise.
    recipe += ["--optim.eps", "0.1", "--optim.lr", "0.01", "--optim.clip", clip]
    stages = [
        ranks(2).run(losses_of, name, [*recipe, "--engine.zero", str(stage)], 25)[0] for stage in (0, 1, 2, 3)
    ]
    for stage in stages[1:]:
        assert_close(stage["losses"], stages[0]["losses"])


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_gradient_norm_is_that_of_the_mean_loss_before_clipping(
    stage: int, ranks: Ranks, text_shards: Path
) -> None:
    recipe = bert(text_shards, "--model.dropout", "0", "--optim.clip", "0.01")
    plain = ranks(1).run(plain_gradient_norm, "demo/bert_full", recipe)[0]
    assert plain > 0.01, "nothing would be clipped"
    recipe += ["--engine.zero", str(stage)]
    for size in (1, 2):
        norms = ranks(size).run(first_gradient_norm, "demo/bert_full", recipe)
        assert norms == pytest.approx([plain] * size, rel=1e-4)


def test_the_same_run_twice_gives_the_same_bits(ranks: Ranks, text_shards: Path) -> None:
    recipe = bert(text_shards)
    first, second = (ranks(2).run(losses_of, "demo/bert_full", recipe, 10)[0] for _ in range(2))
    assert first == second
    other = ranks(2).run(losses_of, "demo/bert_full", [*recipe, "--seed", "1"], 10)[0]
    assert other["losses"] != first["losses"]


@pytest.mark.parametrize("precision", ["bf16", "bf16_autocast"])
def test_low_precision_trains_at_every_stage(precision: str, ranks: Ranks, text_shards: Path) -> None:
    recipe = bert(text_shards, "--engine.precision", precision)
    exact = ranks(2).run(losses_of, "demo/bert_full", bert(text_shards), 20)[0]["losses"]
    for stage in (0, 1, 2, 3):
        overrides = [*recipe, "--engine.zero", str(stage)]
        losses = ranks(2).run(losses_of, "demo/bert_full", overrides, 20)[0]["losses"]
        worst = max(abs(a - b) / b for a, b in zip(losses, exact, strict=True))
        assert worst < 0.05, f"stage {stage}: losses differ from fp32's by {worst:.1%}"


def test_fp16_without_a_gpu_is_refused(ranks: Ranks, text_shards: Path) -> None:
    recipe = bert(text_shards, "--engine.precision", "fp16")
    with pytest.raises(RuntimeError, match="engine.precision.*needs a GPU"):
        ranks(1).run(losses_of, "demo/bert_full", recipe, 1)


def test_activation_checkpointing_changes_nothing(ranks: Ranks, text_shards: Path) -> None:
    recipe = bert(text_shards)
    plain = ranks(1).run(losses_of, "demo/bert_full", recipe, 10)[0]["losses"]
    recipe += ["--engine.activation_checkpointing", "true"]
    assert_close(ranks(1).run(losses_of, "demo/bert_full", recipe, 10)[0]["losses"], plain)
