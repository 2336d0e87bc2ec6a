"""Speech emotion with a frozen HuBERT whose features are computed once: only the head trains.

Batches are rows of one memory-mapped array; audio is decoded once, if at all. Plans are those of the
same recipe without ``model.cache``: an item counts with the length of its clip. What differs is that
the encoder has neither dropout nor SpecAugment in training.
"""

from __future__ import annotations

import copy
import dataclasses
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
from data_shards.reader import Item, Request, RowCollate
from data_shards.sample import SAMPLE_RATE
from data_shards.splits import Split
from trainers.data import RunData
from trainers.exports.card import CardFacts
from trainers.losses import is_training
from trainers.models.freezing import ParameterReport
from trainers.models.hubert import EmotionModel
from trainers.ranks.world import World
from trainers.task import Batch, StepOutput
from trainers.tasks.emotion import EmotionTask
from trainers.tasks.features import Features, kept_features


class HeadOnFeatures(nn.Module):
    """A head that is given pooled features. Parameters have the names of the whole model's."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        """(batch, layers, width), or (batch, 1, width) of the last layer -> (batch, classes) float32."""
        dtype = next(self.parameters()).dtype
        # The mean over a clip's frames, as a clip of one frame: its mean is itself.
        states = [state[:, None] for state in features.to(dtype).unbind(1)]
        logits: Tensor = self.head(states, None)
        return logits.float()


@dataclass(frozen=True)
class FeatureCollate(RowCollate):
    """Rows -> (batch, layers, width) features."""

    features: Features
    labels: NDArray[np.integer[Any]]
    """(samples,) class numbers."""
    samples: NDArray[np.int32]
    """(samples,) length of each clip as it was read."""

    def __call__(self, request: Request, items: Sequence[Item]) -> Batch:
        features = torch.from_numpy(self.features[request.rows])
        labels = torch.from_numpy(self.labels[request.rows].astype(np.int64))
        seconds = float(self.samples[request.rows].sum(dtype=np.int64)) / SAMPLE_RATE
        return Batch(request, (features,), labels, seconds, seconds)


class CachedEmotionTask:
    """Implements ``trainers.task.Task``. ``audio`` is the task of the whole model."""

    unit = EmotionTask.unit
    per_unit = EmotionTask.per_unit

    def __init__(self, recipe: EmotionRecipe, index: ShardIndex, split: Split, world: World) -> None:
        """A collective call: features are computed here unless they lie beside the shards."""
        self.audio = EmotionTask(recipe, index, split)
        self.labels = self.audio.labels
        model = self.audio.build_model()
        self._report = self.audio.parameters(model)
        data = RunData(recipe, index, split, self.audio, world)
        top = not model.head.needs_all_layers
        features = kept_features(data, model.to(world.device), top=top)
        self._head = model.head.cpu()
        samples = np.minimum(np.asarray(index.length), self.audio.collate.max_samples)
        self.collate = FeatureCollate(features, np.asarray(index.label), samples)

    def lengths(self) -> NDArray[np.int32]:
        """(samples,) frames of each clip: batches are those of a training that reads audio."""
        return self.audio.lengths()

    def build_model(self) -> HeadOnFeatures:
        """The fresh head, the same as the whole model's."""
        return HeadOnFeatures(copy.deepcopy(self._head).train())

    def parameters(self, model: nn.Module) -> ParameterReport:
        """Which of the whole model's parameters train: the head's."""
        names = tuple(name for name, p in model.named_parameters() if p.requires_grad)
        assert names == self._report.trainable, "the head trains, all of it and nothing else"
        return self._report

    def step(self, model: Any, batch: Batch, device: torch.device) -> StepOutput:
        """Loss of each clip."""
        (features,) = batch.inputs
        logits: Tensor = model(features.to(device, non_blocking=True))
        labels = batch.labels.to(device, non_blocking=True)
        losses = self.audio.loss(logits, labels, is_training(model))
        return StepOutput.of_classes(losses, logits, labels)

    def export(self, state: dict[str, Tensor], folder: Path, card: CardFacts) -> None:
        """``folder`` becomes the whole classifier, encoder and trained head."""
        whole = self.audio.build_model().state_dict()
        self.audio.export({**whole, **state}, folder, card)

    def whole(self, model: HeadOnFeatures) -> EmotionModel:
        """The whole classifier with this head, on its device, in evaluation mode."""
        whole = self.audio.build_model()
        whole.head.load_state_dict(model.head.state_dict())
        return whole.to(next(model.parameters()).device).eval()


def with_encoder(data: RunData, model: Any) -> tuple[RunData, Any]:
    """The same run with audio and a whole model, where its features were cached; else as given."""
    if not isinstance(data.task, CachedEmotionTask):
        return data, model
    return dataclasses.replace(data, task=data.task.audio), data.task.whole(model)
