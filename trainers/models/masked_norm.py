"""HuBERT's first normalisation, over valid frames only.

The base model's first convolution is followed by a GroupNorm with one group per channel: its
statistics run over time, so zeros that pad a clip to its batch change every frame of the clip.
Here they are taken over the clip's own frames, and the clip comes out as it would alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def masked_group_norm(x: Tensor, valid_frames: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise each channel of each clip over the clip's first ``valid_frames`` frames.

    ``x`` is (batch, channels, frames), ``valid_frames`` (batch,) integers from 1 to frames, best on
    the CPU as they are read there, ``weight`` and ``bias`` (channels,). Statistics are in float32
    whatever the type of ``x``, which the result has. What comes out beyond the valid frames means
    nothing, but is finite.
    """
    wide = x.float()
    # One pass a clip for the statistics and one over the batch to apply them: masking the batch
    # instead takes ten times as long, in copies of what is by far the model's largest tensor.
    moments = [
        torch.var_mean(clip[:, :frames], dim=1, correction=0)
        for clip, frames in zip(wide, valid_frames.tolist(), strict=True)
    ]
    variance = torch.stack([variance for variance, _ in moments])
    mean = torch.stack([mean for _, mean in moments])
    scale = (variance + eps).rsqrt() * weight.float()
    shift = bias.float() - mean * scale
    return torch.addcmul(shift[:, :, None], wide, scale[:, :, None]).to(x.dtype)


class MaskedGroupNorm(nn.GroupNorm):
    """A GroupNorm with one group per channel that can be told how many frames are valid.

    Takes the place of the stock module: the parameters have the same names.
    """

    def forward(self, x: Tensor, valid_frames: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """(batch, channels, frames) -> the same; ``valid_frames`` None: all frames are valid."""
        assert self.num_groups == self.num_channels, "made for one group per channel"
        if not (torch.is_grad_enabled() and self.weight.requires_grad):
            return self._norm(x, valid_frames, self.weight, self.bias)
        # Weight and bias must get their gradients in the same order whether clips are padded or
        # not: DeepSpeed's ZeRO 2 reduces gradients in the order of their arrival, and would add
        # one rank's weights to another's biases.
        ones, zeros = torch.ones_like(self.weight), torch.zeros_like(self.bias)
        plain = self._norm(x, valid_frames, ones, zeros)
        return torch.addcmul(self.bias[:, None], plain, self.weight[:, None])

    def _norm(self, x: Tensor, valid_frames: Tensor | None, weight: Tensor, bias: Tensor) -> Tensor:
        if valid_frames is not None:
            return masked_group_norm(x, valid_frames, weight, bias, self.eps)
        wide = functional.group_norm(x.float(), self.num_groups, weight.float(), bias.float(), self.eps)
        return wide.to(x.dtype)
