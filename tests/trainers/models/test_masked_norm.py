"""The masked GroupNorm gives each clip what the stock one gives it alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainers.models.masked_norm import MaskedGroupNorm, masked_group_norm


def inputs(offset: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    x = torch.randn(3, 6, 50) * 2 + offset
    return x, torch.tensor([50, 31, 2]), torch.randn(6), torch.randn(6)


def test_equals_each_clip_alone() -> None:
    x, valid, weight, bias = inputs()
    together = masked_group_norm(x, valid, weight, bias, 1e-5)
    for row, count in enumerate(valid.tolist()):
        alone = functional.group_norm(x[row : row + 1, :, :count], 6, weight, bias, 1e-5)
        torch.testing.assert_close(together[row : row + 1, :, :count], alone)
    wrong = functional.group_norm(x, 6, weight, bias, 1e-5)
    assert (wrong[1, :, :31] - together[1, :, :31]).abs().max() > 0.01


def test_padding_has_no_say() -> None:
    x, valid, weight, bias = inputs()
    other = x.clone()
    other[1, :, 31:] = 1e6
    kept = masked_group_norm(x, valid, weight, bias, 1e-5)[1, :, :31]
    assert torch.equal(kept, masked_group_norm(other, valid, weight, bias, 1e-5)[1, :, :31])


def test_gradients_equal_each_clip_alone() -> None:
    x, valid, weight, bias = inputs()
    target = torch.randn(x.shape)
    leaves = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
    together = masked_group_norm(leaves[0], valid, leaves[1], leaves[2], 1e-5)
    mask = (torch.arange(50) < valid[:, None])[:, None]
    (together * target * mask).sum().backward()
    alone = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
    for row, count in enumerate(valid.tolist()):
        part = alone[0][row : row + 1, :, :count]
        out = functional.group_norm(part, 6, alone[1], alone[2], 1e-5)
        (out * target[row : row + 1, :, :count]).sum().backward()
    for ours, theirs in zip(leaves, alone, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padded", [True, False])
def test_the_derivative_is_that_of_the_formula(padded: bool) -> None:
    """Against differences, in double precision, also through a loss that is not linear."""
    x, valid, weight, bias = (
        tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs()
    )
    counts = valid if padded else None
    mask = (torch.arange(50) < (valid if padded else torch.tensor([50] * 3))[:, None])[:, None]

    def loss(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return (masked_group_norm(x, counts, weight, bias, 1e-5) * mask).sin().sum()

    leaves = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    assert torch.autograd.gradcheck(loss, leaves)


def test_frozen_input_and_frozen_weights() -> None:
    x, valid, weight, bias = inputs()
    masked_group_norm(x, valid, weight.requires_grad_(), bias, 1e-5)[2, :, :2].sum().backward()
    assert weight.grad is not None and bias.grad is None
    masked_group_norm(x.requires_grad_(), valid, weight.detach(), bias, 1e-5)[0].square().sum().backward()
    assert x.grad is not None and not x.grad[1:].any() and x.grad[0].any()


def test_statistics_are_float32_under_bfloat16() -> None:
    x, valid, weight, bias = inputs(offset=60.0)
    low = x.bfloat16()
    exact = masked_group_norm(low.double(), valid, weight.double(), bias.double(), 1e-5)
    ours = masked_group_norm(low, valid, weight.bfloat16(), bias.bfloat16(), 1e-5)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.double(), exact, rtol=0.02, atol=0.03)


def test_takes_the_place_of_the_stock_module() -> None:
    x, valid, weight, bias = inputs()
    stock, ours = nn.GroupNorm(6, 6), MaskedGroupNorm(6, 6)
    stock.weight.data, stock.bias.data = weight, bias
    ours.load_state_dict(stock.state_dict())
    torch.testing.assert_close(ours(x), stock(x))
    torch.testing.assert_close(ours(x, torch.tensor([50, 50, 50])), stock(x))
    assert not torch.allclose(ours(x, valid)[1, :, :31], stock(x)[1, :, :31])
