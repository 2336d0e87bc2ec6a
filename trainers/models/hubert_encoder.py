"""HuBERT's encoder over padded clips, each clip as it would be alone.

The first layer's GroupNorm, attention and whatever pools the frames see valid frames only.
Convolutions need no such care: a valid frame looks at valid samples only.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import HubertConfig as HubertArchitecture
from transformers import HubertModel
from transformers.models.hubert.modeling_hubert import HubertGroupNormConvLayer

from trainers.models.masked_norm import MaskedGroupNorm
from trainers.models.masking import attention_mask_for, draw_time_mask, valid_mask

Lengths = TypeVar("Lengths", int, NDArray[np.int64], Tensor)


def frames_of(samples: Lengths, architecture: HubertArchitecture) -> Lengths:
    """Frames that the convolutions make of ``samples`` (a number, array or tensor of numbers).

    Clips shorter than one frame (400 samples) count as one: the model pads them with zeros.
    """
    count = _at_least(samples, receptive_field(architecture))
    for kernel, stride in zip(architecture.conv_kernel, architecture.conv_stride, strict=True):
        count = (count - kernel) // stride + 1
    return count


def receptive_field(architecture: HubertArchitecture) -> int:
    """Samples that one frame looks at, 400 for every published HuBERT."""
    field, hop = 1, 1
    for kernel, stride in zip(architecture.conv_kernel, architecture.conv_stride, strict=True):
        field += (kernel - 1) * hop
        hop *= stride
    return field


def normalise_clip(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """(samples,) -> zero mean, unit variance, as transformers' Wav2Vec2FeatureExtractor has it.

    To be applied before padding, where ``EmotionModel.do_normalize`` says so.
    """
    centred = audio - audio.mean()
    return (centred / np.sqrt(audio.var() + 1e-7)).astype(np.float32)


class MaskedGroupNormConvLayer(HubertGroupNormConvLayer):
    """The stock first layer, convolution, GroupNorm, GELU, that can be told the valid frames."""

    def __init__(self, architecture: HubertArchitecture) -> None:
        super().__init__(architecture, layer_id=0)
        stock = self.layer_norm
        self.layer_norm = MaskedGroupNorm(stock.num_groups, stock.num_channels, eps=stock.eps)

    def forward(self, audio: Tensor, valid_frames: Tensor | None = None) -> Tensor:
        """(batch, 1, samples) -> (batch, channels, frames); None: all frames are valid."""
        return self.activation(self.layer_norm(self.conv(audio), valid_frames))


class PaddedHubert(HubertModel):
    """transformers' HubertModel, same parameters, with a forward that knows each clip's length.

    All work goes through the forward of submodules that own their parameters, as ZeRO-3 needs.
    """

    freeze_conv = False
    """Whether the convolutions stay as they are."""
    frozen_layers: int | None = None
    """Layers, counted from the input, that stay as they are with all that lies below them; None: at
    most the convolutions do."""

    def forward(  # type: ignore[override]
        self, audio: Tensor, lengths: Tensor | None, all_layers: bool = False
    ) -> tuple[list[Tensor], Tensor | None]:
        """(batch, samples) -> hidden states, each (batch, frames, width), and the valid frames.

        ``lengths`` are (batch,) valid samples, best on the CPU as they are read there; None: all
        samples are valid. ``all_layers`` gives the input of the first layer and every layer's
        output, else the last output (normalised, in models that normalise there). The valid frames
        are (batch, frames) bool, None: all.
        """
        below_trains = self.frozen_layers is None
        # Without gradients activations are dropped as they go; the stack's are most of the memory.
        with _gradients(below_trains and not self.freeze_conv):
            features = self._convolve(audio, lengths)
        valid = None
        if lengths is not None:
            frames = frames_of(lengths, self.config).to(audio.device, non_blocking=True)
            valid = valid_mask(frames, features.shape[2])
        with _gradients(below_trains):
            hidden = self.feature_projection(features.transpose(1, 2))
            hidden = self._add_positions(self._mask_spans(hidden, lengths), valid)
        return self._encode(hidden, valid, all_layers), valid

    def _convolve(self, audio: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, samples) -> (batch, channels, frames)."""
        layers: list[Any] = list(self.feature_extractor.conv_layers)
        first, rest = layers[0], layers[1:]
        hidden = audio[:, None].to(first.conv.weight.dtype)
        if isinstance(first, MaskedGroupNormConvLayer) and lengths is not None:
            kernel, stride = self.config.conv_kernel[0], self.config.conv_stride[0]
            hidden = first(hidden, (lengths - kernel) // stride + 1)
        else:
            hidden = first(hidden)
        for layer in rest:
            hidden = layer(hidden)
        return hidden

    def _mask_spans(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """Replace random spans of frames by the learnt embedding (SpecAugment), in training."""
        config = self.config
        if not self.training or config.mask_time_prob <= 0:
            return hidden
        clips, total, _ = hidden.shape
        frames = [total] * clips if lengths is None else frames_of(lengths, config).tolist()
        spans = torch.from_numpy(
            draw_time_mask(
                frames,
                total,
                config.mask_time_prob,
                config.mask_time_length,
                config.mask_time_min_masks,
            )
        )
        spans = spans.to(hidden.device, non_blocking=True)
        return torch.where(spans[:, :, None], self.masked_spec_embed.to(hidden.dtype), hidden)

    def _add_positions(self, hidden: Tensor, valid: Tensor | None) -> Tensor:
        """Positions by convolution, as the stock encoders do: the input of the first layer."""
        encoder = self.encoder
        if valid is not None:  # zeros, as beyond the ends of a clip alone
            hidden = hidden.masked_fill(~valid[:, :, None], 0.0)
        hidden = hidden + encoder.pos_conv_embed(hidden)
        if not self.config.do_stable_layer_norm:
            hidden = encoder.layer_norm(hidden)
        return encoder.dropout(hidden)

    def _encode(self, hidden: Tensor, valid: Tensor | None, all_layers: bool) -> list[Tensor]:
        """The transformer's layers. LayerDrop is off where all of them are asked for."""
        config, encoder = self.config, self.encoder
        mask = attention_mask_for(valid, hidden.dtype, config._attn_implementation)
        drop = config.layerdrop if self.training and not all_layers else 0.0
        states = [hidden]
        for number, layer in enumerate(encoder.layers):
            if drop > 0 and torch.rand(()) < drop:
                continue
            with _gradients(number >= (self.frozen_layers or 0)):
                hidden = layer(hidden, attention_mask=mask)
            states.append(hidden)
        if all_layers:
            return states
        return [encoder.layer_norm(hidden) if config.do_stable_layer_norm else hidden]


def _gradients(wanted: bool) -> AbstractContextManager[None]:
    """Without gradients where they are not wanted; else as it is outside."""
    return nullcontext() if wanted else torch.no_grad()


def _at_least(samples: Lengths, least: int) -> Lengths:
    if isinstance(samples, Tensor):
        return samples.clamp(min=least)
    if isinstance(samples, np.ndarray):
        return np.maximum(samples, least)
    return max(samples, least)
