"""HuBERT for speech emotion: built fresh or from published weights, with a head.

With ``padding: exact`` a clip's logits do not depend on what it is batched with;
``padding: stock`` does what transformers does without an attention mask.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers import HubertConfig as HubertArchitecture

from configs.errors import InputError
from configs.models import HubertConfig, HubertSize
from configs.sizes import HUBERT_SIZES
from trainers.models.heads import Head, build_head
from trainers.models.hubert_encoder import (
    MaskedGroupNormConvLayer,
    PaddedHubert,
    frames_of,
    normalise_clip,
    receptive_field,
)
from trainers.models.source import (
    load_weights,
    quiet_transformers,
    read_config,
    resolve_model,
    seeded,
)

__all__ = ["EmotionModel", "build_emotion_model", "frames_of", "normalise_clip"]

SIZES: dict[HubertSize, dict[str, Any]] = {
    "tiny": {
        **HUBERT_SIZES["tiny"].architecture,
        # Narrow where the frame rate is high: that is where the time goes.
        "conv_dim": (16, 16, 32, 32, 32, 64, 64),
        "num_conv_pos_embeddings": 32,
        "num_conv_pos_embedding_groups": 4,
        # About 1/sqrt(width); the stock 0.02 is for width 768.
        "initializer_range": 0.12,
    },
    "base": {**HUBERT_SIZES["base"].architecture},
    "large": {
        **HUBERT_SIZES["large"].architecture,
        "feat_extract_norm": "layer",
        "conv_bias": True,
        "do_stable_layer_norm": True,
    },
}


class EmotionModel(nn.Module):
    """HuBERT and a head. Parameters: ``hubert.*`` as in transformers, and ``head.*``."""

    def __init__(
        self,
        hubert: PaddedHubert,
        head: Head,
        settings: HubertConfig,
        labels: Sequence[str],
        do_normalize: bool,
    ) -> None:
        super().__init__()
        self.hubert = hubert
        self.head = head
        self.settings = settings
        self.labels = tuple(labels)
        self.do_normalize = do_normalize
        """Whether the source's clips are normalised (``normalise_clip``) before the model."""

    @property
    def architecture(self) -> HubertArchitecture:
        """transformers' configuration of the encoder."""
        return self.hubert.config

    def forward(self, audio: Tensor, lengths: Tensor) -> Tensor:
        """(batch, samples) audio padded with zeros, (batch,) valid samples -> (batch, classes).

        Logits are float32. ``lengths`` belong on the CPU: they are read there, and a batch of one
        length then runs without masks.
        """
        shortest = receptive_field(self.architecture)
        if audio.shape[1] < shortest:
            audio = functional.pad(audio, (0, shortest - audio.shape[1]))
        valid_samples: Tensor | None = None
        if self.settings.padding == "exact":
            valid_samples = lengths.clamp(min=shortest)
            same = valid_samples.device.type == "cpu" and bool((valid_samples == audio.shape[1]).all())
            valid_samples = None if same else valid_samples
        states, valid = self.hubert(audio, valid_samples, self.head.needs_all_layers)
        return self.head(states, valid).float()

    def enable_activation_checkpointing(self) -> None:
        """Recompute the encoder's activations in the backward pass instead of keeping them."""
        self.hubert.gradient_checkpointing_enable({"use_reentrant": False})


def build_emotion_model(config: HubertConfig, labels: Sequence[str], seed: int) -> EmotionModel:
    """Build the classifier that ``config`` describes, for ``labels`` in the order of the logits.

    The encoder is the published one or fresh, the head is always new; all new weights are a
    function of ``seed``. Raises InputError where the pre-trained model is missing or does not fit.
    """
    _check(config, labels)
    folder = resolve_model(config.pretrained, config.revision) if config.pretrained else None
    architecture = read_config(folder, "hubert") if folder else HubertArchitecture(**SIZES[config.size])
    apply_settings(architecture, config)
    with seeded(seed):
        if folder is None:
            with quiet_transformers():
                hubert = PaddedHubert(architecture)
        else:
            hubert, _ = load_weights(
                PaddedHubert, folder, architecture, lambda name: name == "masked_spec_embed"
            )
        return assemble(hubert, config, labels, read_do_normalize(folder))


def apply_settings(architecture: HubertArchitecture, config: HubertConfig) -> None:
    """Write the recipe's dropout, LayerDrop and SpecAugment into transformers' configuration."""
    for name in ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout"):
        setattr(architecture, name, config.dropout)
    architecture.final_dropout = config.dropout
    architecture.layerdrop = config.layerdrop
    architecture.apply_spec_augment = config.specaugment
    architecture.mask_time_prob = config.mask_time_prob if config.specaugment else 0.0
    architecture.mask_feature_prob = 0.0


def assemble(
    hubert: PaddedHubert, config: HubertConfig, labels: Sequence[str], do_normalize: bool
) -> EmotionModel:
    """Put a fresh head on an encoder, make its first layer mask-aware, freeze what is to be."""
    architecture = hubert.config
    if architecture.feat_extract_norm == "group":
        layers = hubert.feature_extractor.conv_layers
        first = MaskedGroupNormConvLayer(architecture)
        first.load_state_dict(layers[0].state_dict())
        layers[0] = first
    _freeze(hubert, config)
    head = build_head(
        config.head,
        layers=architecture.num_hidden_layers,
        width=architecture.hidden_size,
        projection=architecture.classifier_proj_size,
        classes=len(labels),
        dropout=config.dropout,
    )
    return EmotionModel(hubert.train(), head, config, labels, do_normalize)


def _freeze(hubert: PaddedHubert, config: HubertConfig) -> None:
    """Leave trainable what the recipe says. Frozen layers stay in training mode: their dropout and
    LayerDrop, and SpecAugment, still work, as in BERT's regimes."""
    encoder, layers = hubert.encoder, len(hubert.encoder.layers)
    if config.trains == "all":
        hubert.freeze_conv = config.freeze_conv
        hubert.feature_extractor.requires_grad_(not config.freeze_conv)
    else:
        last = 0
        if config.trains == "last":
            assert config.last_layers is not None, "the recipe is checked"
            last = config.last_layers
            if not 1 <= last <= layers:
                raise InputError(
                    f"model.last_layers: {last} is not in 1..{layers}, for a model of {layers} layers"
                )
        hubert.frozen_layers = layers - last
        hubert.requires_grad_(False)
        encoder.layers[layers - last :].requires_grad_(True)
        encoder.layer_norm.requires_grad_(last > 0 and hubert.config.do_stable_layer_norm)
    if config.head == "weighted" and hubert.config.do_stable_layer_norm:
        # The head reads the layers' own outputs: the last normalisation feeds nothing.
        encoder.layer_norm.requires_grad_(False)


def read_do_normalize(folder: Path | None) -> bool:
    """Whether the source's feature extractor normalises clips; true where it does not say."""
    path = folder / "preprocessor_config.json" if folder else None
    if path is None or not path.is_file():
        return True
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("do_normalize", True))
    except (ValueError, AttributeError) as error:
        raise InputError(f"model.pretrained: {path} is not a JSON object") from error


def _check(config: HubertConfig, labels: Sequence[str]) -> None:
    if len(labels) < 2:
        raise InputError(f"labels: a classifier needs two or more, the shards have {len(labels)}")
    if config.head == "weighted" and config.layerdrop > 0:
        raise InputError(
            "model.layerdrop: the weighted head needs every layer; set it to 0 or take another head"
        )
    for name in ("dropout", "layerdrop", "mask_time_prob"):
        value = dataclasses.asdict(config)[name]
        if not 0 <= value < 1:
            raise InputError(f"model.{name}: {value} is not in [0, 1)")
