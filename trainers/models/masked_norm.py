"""HuBERT's first normalisation, over valid frames only.

The base model's first convolution is followed by a GroupNorm with one group per channel: its
statistics run over time, so zeros that pad a clip to its batch change every frame of the clip.
Here they are taken over the clip's own frames, and the clip comes out as it would alone.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from trainers.models.masking import valid_mask


def masked_group_norm(
    x: Tensor, valid_frames: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> Tensor:
    """Normalise each channel of each clip over the clip's first ``valid_frames`` frames.

    ``x`` is (batch, channels, frames), ``valid_frames`` (batch,) integers >= 1, ``weight`` and
    ``bias`` (channels,). Statistics are two-pass and in float32 whatever the type of ``x``, which
    the result has. Frames beyond the valid ones come out as ``bias``.
    """
    valid = valid_mask(valid_frames, x.shape[2])[:, None, :]
    count = valid_frames[:, None, None].float()
    wide = x.float()
    mean = wide.masked_fill(~valid, 0.0).sum(dim=2, keepdim=True) / count
    centred = (wide - mean).masked_fill(~valid, 0.0)
    variance = centred.square().sum(dim=2, keepdim=True) / count
    scale = (variance + eps).rsqrt() * weight.float()[:, None]
    return (centred * scale + bias.float()[:, None]).to(x.dtype)


class MaskedGroupNorm(nn.GroupNorm):
    """A GroupNorm with one group per channel that can be told how many frames are valid.

    Takes the place of the stock module: the parameters have the same names.
    """

    def forward(self, x: Tensor, valid_frames: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """(batch, channels, frames) -> the same; ``valid_frames`` None: all frames are valid."""
        assert self.num_groups == self.num_channels, "made for one group per channel"
        if valid_frames is None:
            wide = functional.group_norm(
                x.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps
            )
            return wide.to(x.dtype)
        return masked_group_norm(x, valid_frames, self.weight, self.bias, self.eps)
