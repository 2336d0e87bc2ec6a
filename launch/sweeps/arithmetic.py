"""What a training computes, by arithmetic: steps and floating-point operations.

A transformer layer of width h takes 24 h^2 operations a token forward, and 4 h a token for each token
attended to (12 h^2 weights, two operations each; Kaplan et al. 2020, arXiv 2001.08361). Backward takes
as much for the weights, and as much again for what lies below.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from configs.errors import InputError
from configs.load import AnyRecipe
from configs.models import HubertConfig, RegimeConfig
from configs.schema import EmotionRecipe, MlmRecipe, NliRecipe
from configs.sizes import BERT_SIZES, HUBERT_SIZES
from launch.sweeps.evaluations import passes_besides
from launch.sweeps.readings import FRAMES, Reading, part_reading, train_reading

_CONVOLUTIONS = {"tiny": 1.1e7, "base": 4.91e9, "large": 4.91e9}
"""Operations a second of audio, forward."""


@dataclass(frozen=True)
class Work:
    """What one training consists of."""

    steps: int
    """Global steps."""
    passes: float
    """Micro-batches that go through the model, forward ones counted as a third."""
    flop: float
    """Floating-point operations, padding included."""


@dataclass(frozen=True)
class Encoder:
    """The size of an encoder."""

    layers: int
    width: int


BASE = Encoder(12, 768)
"""What most published models have."""


def work_of(recipe: AnyRecipe, encoder: Encoder) -> Work | None:
    """What a training computes; None where its shards are not there."""
    data, longest, kind = recipe.data, _longest(recipe), _kind(recipe)
    items = recipe.evaluation.items
    try:
        train = train_reading(data.shards, data.split, data.balance, recipe.batching, longest, kind)
        parts = {
            part: part_reading(data.shards, data.split, part, items, longest, kind)
            for part in ("train", "validation", "test")
        }
    except (InputError, OSError, ValueError):
        return None
    epochs: float = recipe.loop.epochs
    steps = train.steps * recipe.loop.epochs
    if recipe.loop.max_steps is not None and recipe.loop.max_steps < steps:
        epochs, steps = epochs * recipe.loop.max_steps / steps, recipe.loop.max_steps
    flop = epochs * _share_of_forward(recipe, encoder) * _forward(recipe, encoder, train)
    trained: float = train.micro_batches
    if isinstance(recipe, EmotionRecipe) and recipe.model.cache:
        trained /= 10  # a head alone has few kernels to start
    passes = epochs * trained
    counts = {part: reading.items for part, reading in parts.items()}
    for part, times in passes_besides(recipe, epochs, counts).items():
        flop += times * _forward(recipe, encoder, parts[part])
        passes += times * parts[part].micro_batches / 3
    return Work(steps, passes, flop)


def encoder_of(recipe: AnyRecipe) -> Encoder | None:
    """The encoder's size: a fresh one's, a local folder's, or, of a model that is not here, what its
    name says: base, or large. None where it says neither."""
    model = recipe.model
    if model.pretrained is None:
        if isinstance(recipe, EmotionRecipe):
            size = HUBERT_SIZES[recipe.model.size]
        else:
            size = BERT_SIZES[recipe.model.size]
        own = recipe.model.layers if isinstance(recipe, MlmRecipe) else None
        return Encoder(own or size.layers, size.width)
    try:
        text = (Path(model.pretrained).expanduser() / "config.json").read_text(encoding="utf-8")
        document = json.loads(text)
        return Encoder(int(document["num_hidden_layers"]), int(document["hidden_size"]))
    except (OSError, ValueError, KeyError, TypeError):
        return _size_in_name(model.pretrained)


def _size_in_name(pretrained: str) -> Encoder | None:
    """What published models are called after."""
    for word, encoder in (("large", Encoder(24, 1024)), ("base", BASE)):
        if word in pretrained.lower():
            return encoder
    return None


def is_here(pretrained: str) -> bool:
    """Whether an encoder is a folder, or in the hub's cache on this machine."""
    from huggingface_hub.constants import HF_HUB_CACHE

    cached = Path(HF_HUB_CACHE) / f"models--{pretrained.replace('/', '--')}"
    return Path(pretrained).expanduser().exists() or cached.exists()


def _forward(recipe: AnyRecipe, encoder: Encoder, reading: Reading) -> float:
    """Operations of one pass over what is read, through all layers that there are."""
    layers: float = encoder.layers
    regime = recipe.model.regime if isinstance(recipe, NliRecipe) else RegimeConfig()
    if regime.kind == "intermediate" and regime.layers:
        layers = min(layers, regime.layers)
    linear = 24 * encoder.width**2 * reading.units
    attention = 4 * encoder.width * reading.squares
    if regime.kind == "heads_removed":  # a third of a layer's weights are those of its heads
        kept = 1 - (regime.heads_share or 0)
        linear, attention = linear * (2 + kept) / 3, attention * kept
    return layers * (linear + attention) + _convolutions(recipe) * reading.units / FRAMES


def _convolutions(recipe: AnyRecipe) -> float:
    """Operations a second of audio; 0 for text."""
    if not isinstance(recipe, EmotionRecipe):
        return 0.0
    return _CONVOLUTIONS["base" if recipe.model.pretrained else recipe.model.size]


def _share_of_forward(recipe: AnyRecipe, encoder: Encoder) -> float:
    """A training step's cost over that of its forward pass: 3 where everything trains, less where
    layers stay as they are."""
    if isinstance(recipe, EmotionRecipe):
        return _share_of_hubert(recipe.model, encoder)
    regime = recipe.model.regime if isinstance(recipe, NliRecipe) else RegimeConfig()
    if regime.kind == "freeze_first":
        frozen = min(regime.layers or 0, encoder.layers)
        return 3 - 2 * frozen / encoder.layers
    if regime.kind == "embeddings_last":  # gradients go down to the embeddings, through frozen layers
        return 2 + 1 / encoder.layers
    return 3.0


def _share_of_hubert(model: HubertConfig, encoder: Encoder) -> float:
    layer = 24 * encoder.width**2 * FRAMES
    convolutions = _CONVOLUTIONS["base" if model.pretrained else model.size]
    trained: int = {"all": encoder.layers, "last": model.last_layers or 0, "head": 0}[model.trains]
    whole = encoder.layers * layer + convolutions
    if model.cache:  # its outputs are read; making them once costs less than evaluating train does
        return 0.01
    backward = 2.0 * trained * layer
    if model.trains == "all" and not model.freeze_conv:
        backward += 2 * convolutions
    return 1 + backward / whole


def _kind(recipe: AnyRecipe) -> str:
    return "audio" if isinstance(recipe, EmotionRecipe) else "text"


def _longest(recipe: AnyRecipe) -> float:
    """Seconds or tokens that an item is cut to."""
    if isinstance(recipe, EmotionRecipe):
        return recipe.model.max_seconds
    return recipe.model.max_tokens if isinstance(recipe, NliRecipe) else 1e9
