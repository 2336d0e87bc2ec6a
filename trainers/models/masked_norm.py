"""HuBERT's first normalisation, over valid frames only.

The base model's first convolution is followed by a GroupNorm with one group per channel: its
statistics run over time, so zeros that pad a clip to its batch change every frame of the clip.
Here they are taken over the clip's own frames, and the clip comes out as it would alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def masked_group_norm(
    x: Tensor, valid_frames: Tensor | None, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """Normalise each channel of each clip over the clip's first ``valid_frames`` frames.

    ``x`` is (batch, channels, frames), ``valid_frames`` (batch,) integers from 1 to frames, best on
    the CPU as they are read there (None: all frames are valid), ``weight`` and ``bias`` (channels,).
    Statistics are in float32 whatever the type of ``x``, which the result has. What comes out beyond
    the valid frames means nothing, but is finite; its gradient must be zero.
    """
    normalised: Tensor = _MaskedGroupNorm.apply(x, valid_frames, weight, bias, eps)  # type: ignore[no-untyped-call]
    return normalised


class MaskedGroupNorm(nn.GroupNorm):
    """A GroupNorm with one group per channel that can be told how many frames are valid.

    Takes the place of the stock module: the parameters have the same names.
    """

    def forward(self, x: Tensor, valid_frames: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """(batch, channels, frames) -> the same; ``valid_frames`` None: all frames are valid."""
        assert self.num_groups == self.num_channels, "made for one group per channel"
        return masked_group_norm(x, valid_frames, self.weight, self.bias, self.eps)


class _MaskedGroupNorm(torch.autograd.Function):
    """One operation, with a derivative of its own: ``x`` is by far the model's largest tensor, and what
    autograd would keep of the steps, and do for each of them, is several times that.

    It also gives weight and bias their gradients in the same order whether clips are padded or not:
    DeepSpeed's ZeRO 2 reduces gradients in the order of their arrival, and would add one rank's weights
    to another's biases.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, valid_frames: Tensor | None, weight: Tensor, bias: Tensor, eps: float
    ) -> Tensor:
        wide = _at_least_float32(x)
        variance, mean = _moments(wide, valid_frames)
        deviations = (variance + eps).rsqrt()
        ctx.save_for_backward(x, valid_frames, weight, mean, deviations)
        scale = deviations * weight.to(wide.dtype)
        shift = bias.to(wide.dtype) - mean * scale
        return torch.addcmul(shift[:, :, None], wide, scale[:, :, None]).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, valid_frames, weight, mean, deviations = ctx.saved_tensors
        wide, slope = _at_least_float32(x), _at_least_float32(gradients[0].contiguous())
        clips, channels, frames = x.shape
        with torch.autocast(x.device.type, enabled=False):
            # Sums over time of the gradient and of its product with x, without keeping the product.
            total = slope.sum(2)
            rows = (clips * channels, 1, frames)
            product = torch.bmm(slope.view(rows), wide.reshape(rows).mT).view(clips, channels)
        along = (product - mean * total) * deviations  # with what was normalised, before the weight
        of_weight, of_bias = along.sum(0).to(weight.dtype), total.sum(0).to(weight.dtype)
        if not ctx.needs_input_grad[0]:
            return None, None, of_weight, of_bias, None
        counts: Any = frames if valid_frames is None else valid_frames.to(x.device)[:, None]
        scale = deviations * weight.to(wide.dtype)
        factor = -scale * deviations * along / counts
        shift = -scale * total / counts - factor * mean
        of_x = torch.addcmul(shift[:, :, None], wide, factor[:, :, None]).addcmul_(slope, scale[:, :, None])
        for clip, count in enumerate([] if valid_frames is None else valid_frames.tolist()):
            of_x[clip, :, count:] = 0.0
        return of_x.to(x.dtype), None, of_weight, of_bias, None


def _moments(wide: Tensor, valid_frames: Tensor | None) -> tuple[Tensor, Tensor]:
    """Variance and mean over time, each (batch, channels)."""
    if valid_frames is None:
        return torch.var_mean(wide, dim=2, correction=0)
    # Clip by clip: masking the batch instead takes ten times as long, in copies.
    moments = [
        torch.var_mean(clip[:, :count], dim=1, correction=0)
        for clip, count in zip(wide, valid_frames.tolist(), strict=True)
    ]
    return torch.stack([variance for variance, _ in moments]), torch.stack([mean for _, mean in moments])


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
