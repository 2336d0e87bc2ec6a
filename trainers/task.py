"""What a trainer needs to know of a task. The trainer owns time, the task owns mathematics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data_shards.reader import Collate, Request
from trainers.exports.card import CardFacts
from trainers.models.freezing import ParameterReport


@dataclass
class Batch:
    """One collated micro-batch. Mutable only so that the DataLoader can pin its tensors."""

    request: Request
    inputs: tuple[Tensor, ...]
    """What the model is called with; each starts with the batch dimension."""
    labels: Tensor
    """(items,) class numbers: one a sample, or one a token to predict."""
    valid: float
    """Audio seconds or tokens that are not padding."""
    padded: float
    """The same with padding."""

    def pin_memory(self) -> Batch:
        """For the DataLoader: page-locked copies, which go to a GPU without waiting."""
        self.inputs = tuple(t.pin_memory() for t in self.inputs)
        self.labels = self.labels.pin_memory()
        return self

    @property
    def items(self) -> int:
        """Items that the loss sums over: none in a filler."""
        return len(self.labels) if self.request.counted else 0


@dataclass(frozen=True)
class StepOutput:
    """What a micro-batch gave."""

    losses: Tensor
    """(items,) one loss an item, with gradient when training."""
    correct: Tensor
    """(items,) whether the likeliest class is the label's."""
    logits: Tensor | None = None
    """(items, classes) fp32, detached; None where classes are too many to keep them."""
    pairs: Tensor | None = None
    """(items, 2 or 4) fp32, detached: of the pair that a predicted token stands in, the loss of telling
    whether its texts belong together, and 1 where that was told rightly; where it is asked, too, the mean
    loss of telling which of its tokens stand in both, and the share told rightly. None without pairs."""

    @staticmethod
    def of_classes(losses: Tensor, logits: Tensor, labels: Tensor) -> StepOutput:
        """Of a classifier of few classes; all three on one device."""
        logits = logits.detach().float()
        return StepOutput(losses, logits.argmax(1) == labels, logits)


class Task(Protocol):
    """A model, its batches and its loss. The tasks are in `tasks/`: `emotion.py`, `cached_emotion.py`,
    `nli.py`, `mlm.py` and `pair_mlm.py`."""

    labels: tuple[str, ...]
    """Names of the classes; empty where the items are tokens."""
    unit: str
    """What throughput counts: "audio seconds" or "tokens"."""
    per_unit: float
    """Plan lengths (frames, tokens) that make one unit."""

    @property
    def collate(self) -> Collate:
        """(request, items) -> Batch; sent to the reading processes."""

    def lengths(self) -> NDArray[np.int32]:
        """(samples,) length of each row of the index in frames or tokens, cut where the task cuts."""

    def build_model(self) -> nn.Module:
        """The model with its trainable parameters set, the same on every rank."""

    def parameters(self, model: nn.Module) -> ParameterReport:
        """Which parameters train; raises if they are not those that the recipe names."""

    def step(self, model: Any, batch: Batch, device: torch.device) -> StepOutput:
        """Forward pass and loss. ``model`` is called like the module that ``build_model`` made."""

    def export(self, state: dict[str, Tensor], folder: Path, card: CardFacts) -> None:
        """Write the trained model as a folder that transformers reads."""
