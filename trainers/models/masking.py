"""What is valid in a padded batch: masks, the mean over valid frames, SpecAugment's spans."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def valid_mask(counts: Tensor, total: int) -> Tensor:
    """(batch,) counts of valid positions -> (batch, total) bool, true where a position is valid."""
    return torch.arange(total, device=counts.device)[None, :] < counts[:, None]


def masked_mean(states: Tensor, valid: Tensor | None) -> Tensor:
    """Mean over valid frames, in float32: (batch, frames, width) -> (batch, width) as ``states``.

    ``valid`` is (batch, frames) bool with at least one true frame a row; None: all frames count.
    """
    wide = states.float()
    if valid is None:
        return wide.mean(dim=1).to(states.dtype)
    total = wide.masked_fill(~valid[:, :, None], 0.0).sum(dim=1)
    return (total / valid.sum(dim=1, keepdim=True)).to(states.dtype)


def attention_mask_for(valid: Tensor | None, dtype: torch.dtype, implementation: str | None) -> Tensor | None:
    """Turn a (batch, frames) bool mask of valid keys into what an attention implementation takes.

    transformers' own mask builder asks the device whether anything is padded, which stops the host
    at every step; this one does not. sdpa: bool, true = attend; eager: added to the scores; flash:
    the two-dimensional mask.
    """
    if valid is None:
        return None
    if implementation is not None and "flash" in implementation:
        return valid
    frames = valid.shape[1]
    keys = valid[:, None, None, :].expand(-1, 1, frames, -1)
    if implementation == "sdpa":
        return keys
    if implementation == "eager":
        return torch.zeros_like(keys, dtype=dtype).masked_fill(~keys, torch.finfo(dtype).min)
    raise AssertionError(f"no mask for attention implementation {implementation!r}")


def draw_time_mask(
    frames: Sequence[int], total: int, share: float, span: int, least: int
) -> NDArray[np.bool_]:
    """SpecAugment's spans along time (arXiv 1904.08779), drawn from NumPy's global generator.

    ``frames`` are the valid frames of each clip, ``total`` the padded ones. A clip gets
    ``share * frames / span`` spans of ``span`` frames, rounded at random with one draw for the
    batch, at least ``least``, starting at different frames; a clip shorter than a span gets none.
    Draws are those of transformers' Wav2Vec2 family. Returns (clips, total) bool.
    """
    mask = np.zeros((len(frames), total), dtype=bool)
    rounding = float(np.random.rand(1)[0])
    for row, valid in enumerate(frames):
        starts = valid - span + 1
        if starts < 1:
            continue
        spans = max(int(share * valid / span + rounding), least)
        spans = min(spans, valid // span, starts)
        for start in np.random.choice(np.arange(starts), spans, replace=False):
            mask[row, start : start + span] = True
    return mask
