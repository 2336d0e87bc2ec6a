"""The heads against their formulas; against transformers in test_hubert."""

from __future__ import annotations

import math

import pytest
import torch

from configs.models import HeadKind
from trainers.models.heads import AttentiveHead, WeightedHead, build_head, layer_weights
from trainers.models.masking import valid_mask

SHAPES = {"layers": 3, "width": 8, "projection": 5, "classes": 2, "dropout": 0.5}


def states(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 6, 8, generator=generator) for _ in range(4)]


@pytest.mark.parametrize("kind", ["linear", "mlp", "weighted", "attentive"])
def test_padding_has_no_say(kind: HeadKind) -> None:
    head = build_head(kind, **SHAPES).eval()  # type: ignore[arg-type]
    valid = valid_mask(torch.tensor([6, 4]), 6)
    padded = states()
    short = [state[1:, :4] for state in padded]
    torch.testing.assert_close(head(padded, valid)[1:], head(short, None))
    spoilt = [state.masked_fill(~valid[:, :, None], 99.0) for state in padded]
    torch.testing.assert_close(head(padded, valid), head(spoilt, valid))
    assert (head(padded, valid) - head(spoilt, None)).abs().max() > 0.01


def test_mlp_widths() -> None:
    head = build_head("mlp", **SHAPES)  # type: ignore[arg-type]
    shapes = {name: tuple(value.shape) for name, value in head.named_parameters()}
    assert shapes["dense.weight"] == (32, 8) and shapes["classifier.weight"] == (2, 32)


def test_weighted_starts_even_and_weighs_by_softmax() -> None:
    head = build_head("weighted", **SHAPES)  # type: ignore[arg-type]
    assert isinstance(head, WeightedHead)
    assert head.layer_weights.tolist() == [0.0] * 4

    def by_hand(weights: torch.Tensor) -> torch.Tensor:
        mixed = sum(w * state for w, state in zip(weights.softmax(0), states(), strict=True))
        assert isinstance(mixed, torch.Tensor)
        return head.classifier(head.projector(mixed).mean(dim=1))  # type: ignore[no-any-return]

    torch.testing.assert_close(head(states(), None), by_hand(torch.zeros(4)))
    weights = torch.tensor([2.0, -1.0, 0.5, 0.0])
    head.layer_weights.data = weights
    torch.testing.assert_close(head(states(), None), by_hand(weights))
    head(states(), None).sum().backward()
    assert head.layer_weights.grad is not None and head.layer_weights.grad.abs().min() > 0


def test_attention_over_frames_by_its_formula() -> None:
    torch.manual_seed(0)
    head = build_head("attentive", **SHAPES)  # type: ignore[arg-type]
    assert isinstance(head, AttentiveHead)
    last = states()[-1]
    even = head.classifier(head.projector(last.mean(dim=1)))
    assert (head(states(), None) - even).abs().max() < 0.05 * even.abs().max(), "starts near a mean"
    for parameter in head.pooling.parameters():
        parameter.data.normal_()
    frames = []
    head.requires_grad_(False)
    for clip in last:
        scores = [
            sum(
                float(v) * float(torch.tanh(w @ frame + b))
                for v, w, b in zip(
                    head.pooling.score.weight[0],
                    head.pooling.dense.weight,
                    head.pooling.dense.bias,
                    strict=True,
                )
            )
            for frame in clip
        ]
        total = sum(math.exp(score) for score in scores)
        shares = [math.exp(score) / total for score in scores]
        frames.append(sum(share * frame for share, frame in zip(shares, clip, strict=True)))
    expected = head.classifier(head.projector(torch.stack(frames)))  # type: ignore[arg-type]
    torch.testing.assert_close(head(states(), None), expected)
    head.requires_grad_(True)(states(), None).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in head.parameters())


def test_layer_weights_are_read_from_a_state() -> None:
    head = build_head("weighted", **SHAPES)  # type: ignore[arg-type]
    head.layer_weights.data = torch.tensor([0.0, math.log(2), math.log(4), 0.0])  # type: ignore[union-attr]
    for prefix in ("head.", ""):
        state = {prefix + name: value for name, value in head.state_dict().items()}
        assert layer_weights(state) == pytest.approx([0.125, 0.25, 0.5, 0.125])
    assert layer_weights(build_head("mlp", **SHAPES).state_dict()) is None  # type: ignore[arg-type]


def test_a_head_that_needs_all_layers_says_so() -> None:
    head = build_head("weighted", **SHAPES)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="one hidden state per weight"):
        head(states()[:2], None)
