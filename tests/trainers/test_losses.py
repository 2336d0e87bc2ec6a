"""Losses against torch's own and against their formulas, and in a real training on 1 and 2 ranks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from configs.errors import InputError
from configs.schema import LossConfig
from tests.ranks import RankPool
from tests.trainers.jobs import loss_by_hand, losses_of
from tests.trainers.test_run import train_recipe
from tests.trainers.test_world_sizes import assert_close, hubert
from trainers.losses import ClassLoss

Ranks = Callable[[int], RankPool]
COUNTS = np.array([60, 30, 10])
KINDS = ["cross_entropy", "class_weights", "logit_adjusted"]


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 3, generator=generator, requires_grad=True)
    return logits, torch.randint(0, 3, (40,), generator=generator)


def loss(kind: str, strength: float = 1.0, counts: NDArray[np.int64] = COUNTS) -> ClassLoss:
    return ClassLoss(LossConfig(kind=kind, strength=strength), counts)  # type: ignore[arg-type]


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_class_weights_are_torchs(strength: float) -> None:
    logits, labels = batch()
    weights = torch.tensor([(100 / (3 * n)) ** strength for n in COUNTS.tolist()])
    weights = weights / sum(n / 100 * w for n, w in zip(COUNTS.tolist(), weights, strict=True))
    expected = functional.cross_entropy(logits, labels, weight=weights, reduction="sum")
    ours = loss("class_weights", strength)(logits, labels, training=True)
    torch.testing.assert_close(ours.sum(), expected)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (ours.sum(), expected)]
    torch.testing.assert_close(*gradients)


def test_class_weights_make_classes_weigh_the_same() -> None:
    """Over the training rows: at strength 1 every class adds up to the same, all to their number."""
    labels = torch.from_numpy(np.repeat(np.arange(3), COUNTS))
    losses = loss("class_weights")(torch.zeros(100, 3), labels, training=True) / math.log(3)
    of_class = [float(losses[labels == label].sum()) for label in range(3)]
    assert of_class == pytest.approx([100 / 3] * 3, rel=1e-5)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_logit_adjustment_by_its_formula(tau: float) -> None:
    """-log(p_y^tau e^f_y / sum_k p_k^tau e^f_k), arXiv 2007.07314, equation 10."""
    logits, labels = batch()
    ours = loss("logit_adjusted", tau)(logits, labels, training=True)
    shares = [0.6, 0.3, 0.1]
    for row, label, value in zip(logits.tolist(), labels.tolist(), ours.tolist(), strict=True):
        terms = [share**tau * math.exp(f) for share, f in zip(shares, row, strict=True)]
        assert value == pytest.approx(-math.log(terms[label] / sum(terms)), rel=1e-5)


def test_a_model_of_the_shares_alone_adjusts_to_nothing() -> None:
    """Zero logits under the adjusted loss are the classes' shares, which is what the loss is for:
    their mean loss is the shares' entropy, and no logit is pushed anywhere."""
    labels = torch.from_numpy(np.repeat(np.arange(3), COUNTS))
    logits = torch.zeros(100, 3, requires_grad=True)
    mean = loss("logit_adjusted")(logits, labels, training=True).mean()
    assert mean.item() == pytest.approx(-sum(p * math.log(p) for p in (0.6, 0.3, 0.1)), rel=1e-5)
    mean.backward()
    assert logits.grad is not None and float(logits.grad.sum(0).abs().max()) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_gives_plain_cross_entropy(kind: str) -> None:
    logits, labels = batch()
    plain = functional.cross_entropy(logits, labels, reduction="none")
    assert torch.equal(loss(kind)(logits, labels, training=False), plain)
    assert torch.equal(loss(kind)(logits, labels, training=True), plain) == (kind == KINDS[0])


@pytest.mark.parametrize("kind", KINDS[1:])
def test_even_classes_and_no_strength_give_plain_cross_entropy(kind: str) -> None:
    logits, labels = batch()
    plain = functional.cross_entropy(logits, labels, reduction="none")
    for same in (loss(kind, counts=np.array([5, 5, 5])), loss(kind, strength=0.0)):
        torch.testing.assert_close(same(logits, labels, training=True), plain)


def test_low_precision_logits_are_widened() -> None:
    logits, labels = batch()
    for kind in KINDS:
        losses = loss(kind)(logits.bfloat16(), labels, training=True)
        assert losses.dtype == torch.float32


def test_a_class_without_rows_is_refused() -> None:
    counts = np.array([3, 0, 2])
    for kind in KINDS[1:]:
        with pytest.raises(InputError, match=f"loss.kind: {kind} needs rows of every class"):
            loss(kind, counts=counts)
    logits, labels = batch()
    assert loss(KINDS[0], counts=counts)(logits, labels, training=True).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_a_step_is_as_defined(kind: str, ranks: Ranks, speech_shards: Path) -> None:
    """The first step's loss against the formula over the whole global step, from the plan and one
    forward pass, and the losses of 6 steps on 1 rank and on 2."""
    recipe = hubert(speech_shards, "--loss.kind", kind, "--loss.strength", "0.7")
    recipe += ["--data.balance", "none", "--model.dropout", "0", "--model.specaugment", "false"]
    alone = ranks(1).run(losses_of, "demo/hubert", recipe, 6)[0]["losses"]
    assert alone[0] == pytest.approx(ranks(1).run(loss_by_hand, "demo/hubert", recipe)[0], rel=1e-5)
    assert_close(ranks(2).run(losses_of, "demo/hubert", recipe, 6)[0]["losses"], alone)


def test_validation_of_a_run_is_plain(ranks: Ranks, speech_shards: Path, tmp_path: Path) -> None:
    """With a rate of nearly zero both models are the same, so what is minimised alone differs."""
    lines = {}
    for kind in KINDS:
        recipe = hubert(speech_shards, "--loss.kind", kind, "--data.balance", "none")
        recipe += ["--optim.lr", "1e-12", "--loop.max_steps", "2", "--tracking.wandb", "off"]
        recipe += ["--output.folder", str(tmp_path), "--output.name", kind]
        folder = Path(ranks(2).run(train_recipe, "demo/hubert", recipe)[0])
        records = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        lines[kind] = [json.loads(line) for line in records]
    losses = {
        kind: {
            role: [line["loss"] for line in records if line["kind"] == role]
            for role in ("train", "validation")
        }
        for kind, records in lines.items()
    }
    for kind in KINDS[1:]:
        assert losses[kind]["validation"] == pytest.approx(losses[KINDS[0]]["validation"])
        assert losses[kind]["train"] != pytest.approx(losses[KINDS[0]]["train"], rel=1e-3)
