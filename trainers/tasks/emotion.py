"""Speech emotion: HuBERT over clips of audio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.schema import EmotionRecipe
from data_shards.index import ShardIndex
from data_shards.reader import Item, Request
from data_shards.sample import SAMPLE_RATE
from data_shards.splits import Split, label_counts
from trainers.exports.card import CardFacts
from trainers.exports.reading import reading_of
from trainers.losses import ClassLoss, is_training
from trainers.models.freezing import ParameterReport, check_emotion, report_of
from trainers.models.hubert import (
    EmotionModel,
    build_emotion_model,
    normalise_clip,
    read_do_normalize,
)
from trainers.models.source import resolve_model
from trainers.task import Batch, StepOutput

HOP = 320
"""Samples of one HuBERT frame (20 ms)."""


@dataclass(frozen=True)
class EmotionCollate:
    """Clips -> (batch, samples) padded with zeros and (batch,) lengths."""

    max_samples: int
    do_normalize: bool

    def __call__(self, request: Request, items: Sequence[Item]) -> Batch:
        clips = [self._clip(item) for item in items]
        lengths = torch.tensor([len(clip) for clip in clips])
        audio = torch.zeros(len(clips), int(lengths.max()))
        for row, clip in zip(audio, clips, strict=True):
            row[: len(clip)] = torch.from_numpy(clip)
        labels = torch.tensor([item.label for item in items])
        valid, padded = float(lengths.sum()) / SAMPLE_RATE, audio.numel() / SAMPLE_RATE
        return Batch(request, (audio, lengths), labels, valid, padded)

    def _clip(self, item: Item) -> NDArray[np.float32]:
        assert item.audio is not None
        clip = item.audio[: self.max_samples]
        return normalise_clip(clip) if self.do_normalize else clip


class EmotionTask:
    """Implements ``trainers.task.Task``."""

    unit = "audio seconds"
    per_unit = SAMPLE_RATE / HOP

    def __init__(self, recipe: EmotionRecipe, index: ShardIndex, split: Split) -> None:
        self.recipe = recipe
        self.index = index
        self.labels = index.manifest.labels
        self.loss = ClassLoss(recipe.loss, label_counts(index, split, "train"))
        model = recipe.model
        source = resolve_model(model.pretrained, model.revision) if model.pretrained else None
        max_samples = int(model.max_seconds * SAMPLE_RATE)
        self.collate = EmotionCollate(max_samples, read_do_normalize(source))

    def lengths(self) -> NDArray[np.int32]:
        """(samples,) frames of 20 ms."""
        samples = np.minimum(self.index.length, self.collate.max_samples)
        return (-(-samples // HOP)).astype(np.int32)

    def build_model(self) -> EmotionModel:
        """A fresh head on a fresh or published encoder."""
        model = build_emotion_model(self.recipe.model, self.labels, self.recipe.seed)
        if self.recipe.engine.activation_checkpointing:
            model.enable_activation_checkpointing()
        return model

    def parameters(self, model: nn.Module) -> ParameterReport:
        """Which parameters train."""
        assert isinstance(model, EmotionModel)
        check_emotion(model)
        return report_of(model)

    def step(self, model: Any, batch: Batch, device: torch.device) -> StepOutput:
        """Cross entropy a clip. Lengths stay on the host, where the model reads them."""
        audio, lengths = batch.inputs
        logits: Tensor = model(audio.to(device, non_blocking=True), lengths)
        labels = batch.labels.to(device, non_blocking=True)
        losses = self.loss(logits, labels, is_training(model))
        return StepOutput.of_classes(losses, logits, labels)

    def export(self, state: dict[str, Tensor], folder: Path, card: CardFacts) -> None:
        """``folder`` becomes a transformers model with its feature extractor."""
        from trainers.exports.classifier import export_emotion

        reading = reading_of(self.recipe, self.index)
        export_emotion(self.build_model(), state, folder, card, reading)
