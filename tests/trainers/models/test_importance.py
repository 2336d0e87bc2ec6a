"""Head importance: the derivative that it claims to be, and heads that are useless are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from configs.models import RegimeConfig
from tests.trainers.tiny_models import pairs, small_bert
from trainers.models.bert_classifier import NliModel
from trainers.models.freezing import apply_regime
from trainers.models.importance import (
    layer_normalised,
    least_important,
    mask_gradients,
    removal_path,
)
from trainers.models.masking import attention_mask_for
from trainers.models.pruning import draw_heads, heads_left, prune_heads

LAYERS, HEADS, SIZE = 3, 4, 8
LABELS = torch.tensor([0, 1, 2])
USELESS = {0: (2,), 1: (0, 3), 2: (1,)}


def masked_losses(model: NliModel, masks: Tensor) -> Tensor:
    """(3,) float64 losses with each head's output times ``masks`` (layers, heads)."""
    ids, mask, types = pairs()
    hooks = []
    for number, layer in enumerate(model.bert.encoder.layer):
        factors = masks[number, heads_left(model, number)].repeat_interleave(SIZE)
        hooks.append(
            layer.attention.output.dense.register_forward_pre_hook(
                lambda _, arguments, factors=factors: arguments[0] * factors
            )
        )
    # Not by the model's own forward, whose logits are float32.
    allowed = attention_mask_for(mask.bool(), torch.float64, model.config._attn_implementation)
    with torch.no_grad():
        pooled = model.bert(ids, attention_mask=allowed, token_type_ids=types)[1]
        losses = nn.functional.cross_entropy(model.classifier(pooled), LABELS, reduction="none")
    for hook in hooks:
        hook.remove()
    return losses


def finite_differences(model: NliModel) -> Tensor:
    """(3, layers, heads) central differences of each sample's loss in each head's mask."""
    step, found = 1e-5, torch.zeros(3, LAYERS, HEADS, dtype=torch.float64)
    for layer in range(LAYERS):
        for head in heads_left(model, layer):
            masks = torch.ones(LAYERS, HEADS, dtype=torch.float64)
            masks[layer, head] = 1 + step
            above = masked_losses(model, masks)
            masks[layer, head] = 1 - step
            found[:, layer, head] = (above - masked_losses(model, masks)) / (2 * step)
    return found


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_finite_differences_of_the_mask(tmp_path: Path, pruned: bool, frozen: bool) -> None:
    model = small_bert(tmp_path / "bert").double().eval()
    if pruned:
        prune_heads(model, USELESS)
    if frozen:
        model.bert.requires_grad_(False)
    expected = finite_differences(model)
    found = mask_gradients(model, pairs(), LABELS)
    assert found.shape == (3, LAYERS, HEADS)
    assert expected.abs().max() > 1e-3, "a test of zeros would show nothing"
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
    assert all(parameter.grad is None for parameter in model.parameters())
    # Signs differ between samples: a batch's gradient is not the mean of the samples' sizes.
    assert (found.sum(0).abs() < found.abs().sum(0) - 1e-4).any()


def test_samples_do_not_depend_on_their_batch(tmp_path: Path) -> None:
    model = small_bert(tmp_path / "bert").eval()
    together = mask_gradients(model, pairs(), LABELS)
    for n, length in enumerate((12, 7, 9)):  # without the padding that the batch has
        alone = [tensor[n : n + 1, :length] for tensor in pairs()]
        gradient = mask_gradients(model, alone, LABELS[n : n + 1])
        torch.testing.assert_close(gradient[0], together[n], rtol=1e-4, atol=1e-6)


def test_dropout_must_be_off(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="dropout"):
        mask_gradients(small_bert(tmp_path / "bert").train(), pairs(), LABELS)


def test_each_layer_has_norm_one() -> None:
    scores = layer_normalised(torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-9, 0.0]]))
    assert torch.allclose(scores, torch.tensor([[0.6, 0.8], [0.0, 0.0], [1.0, 0.0]]))


def test_the_least_important_go_first() -> None:
    scores = torch.tensor([[0.5, 0.1, 0.1], [0.1, 0.2, 0.9]])
    assert least_important(scores, 1, {}) == {0: (1,)}, "ties in the order of layers and heads"
    assert least_important(scores, 3, {}) == {0: (1, 2), 1: (0,)}
    assert least_important(scores, 4, {}) == {0: (1, 2), 1: (0, 1)}
    assert least_important(scores, 1, {0: (1, 2)}) == {1: (0,)}, "what is gone cannot go again"
    with pytest.raises(AssertionError, match="every layer keeps one"):
        least_important(scores, 5, {})


def plant_useless(model: NliModel) -> None:
    """Heads that hardly reach the rest of the model: their columns of the output matrix, scaled."""
    layers = list(model.bert.encoder.layer)
    for number, heads in USELESS.items():
        for head in heads:
            columns = slice(head * SIZE, head * SIZE + SIZE)
            layers[number].attention.output.dense.weight.data[:, columns] *= 1e-3


def importance(model: NliModel) -> Tensor:
    return layer_normalised(mask_gradients(model, pairs(), LABELS).abs().mean(0))


@pytest.mark.parametrize("at_once", [None, 1, 3])
def test_planted_useless_heads_are_found(tmp_path: Path, at_once: int | None) -> None:
    model = small_bert(tmp_path / "bert").eval()
    plant_useless(model)
    assert removal_path(model, importance, [4], at_once) == [USELESS]
    whole = model(*pairs())

    def change(removed: dict[int, tuple[int, ...]]) -> float:
        pruned = small_bert(tmp_path / "bert").eval()
        plant_useless(pruned)
        prune_heads(pruned, removed)
        return float((pruned(*pairs()) - whole).abs().max().detach())

    drawn = [draw_heads(LAYERS, HEADS, 4, seed, {}) for seed in range(10)]
    assert USELESS not in drawn
    assert change(USELESS) < 0.01 * min(change(removed) for removed in drawn)


def test_rounds_are_scored_anew(tmp_path: Path) -> None:
    """Scores that depend on what is gone: head 0 of each layer matters until another one goes."""
    model = small_bert(tmp_path / "bert").eval()
    seen = []

    def score(state: NliModel) -> Tensor:
        seen.append({n: tuple(heads) for n, heads in state.removed_heads.items()})
        scores = torch.arange(12.0).view(3, 4)
        scores[0, 0] = 0.5 if state.removed_heads else 20.0
        return scores

    assert removal_path(model, score, [2, 4], None) == [{0: (1, 2)}, {0: (1, 2, 3), 1: (0,)}]
    assert seen == [{}]
    seen.clear()
    path = removal_path(model, score, [1, 2, 4], 2)
    assert path == [{0: (1,)}, {0: (1, 2)}, {0: (0, 1, 2), 1: (0,)}]
    assert seen == [{}, {0: (1, 2)}]
    assert path[-1:] == removal_path(model, score, [4], 2), "counts do not depend on each other"
    assert model.removed_heads == {}


def test_a_model_that_lacks_heads(tmp_path: Path) -> None:
    model = small_bert(tmp_path / "bert").eval()
    prune_heads(model, {1: (0, 1, 2)})
    path = removal_path(model, importance, [1, 5, 6], 2)
    assert [sum(map(len, removed.values())) for removed in path] == [1, 5, 6]
    for removed in path:
        assert 1 not in removed, "the last head of a layer stays"
    assert {n: len(gone) for n, gone in path[-1].items()} == {0: 3, 2: 3}


def test_the_regime_takes_the_chosen_heads(tmp_path: Path) -> None:
    regime = RegimeConfig("heads_removed", heads_share=0.3, choose="importance")
    model = small_bert(tmp_path / "bert", regime=regime)
    report = apply_regime(model, regime, 0, USELESS)
    assert report.removed_heads == USELESS
    with pytest.raises(AssertionError, match="chosen before"):
        apply_regime(small_bert(tmp_path / "bert", regime=regime), regime, 0)


def test_scores_are_plain_numbers(tmp_path: Path) -> None:
    scores = importance(small_bert(tmp_path / "bert").eval())
    assert scores.dtype == torch.float64 and not scores.requires_grad
    assert np.isfinite(scores.numpy()).all()
