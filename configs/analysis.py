"""What is measured on a trained model after its evaluation, besides scores: a section of each recipe.

Every analysis is off unless a recipe asks for it; each writes one file into the run's eval folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Probed = Literal["off", "start", "end"]


@dataclass(frozen=True)
class PruningAnalysis:
    """Heads removed from the trained model, without training it again: eval/pruning.json."""

    shares: tuple[float, ...] = ()
    """Shares of all heads to remove, by importance and at random; empty: no such analysis."""
    draws: int = 5
    """Random removals at each share."""
    score_on: Literal["train", "validation"] = "train"
    """Part whose samples score the heads."""
    score_items: int | None = 2000
    """Samples that score, the first of the part in shard order; null: all."""
    round_share: float | None = None
    """Share of all heads removed before the rest is scored anew; null: scored once."""


@dataclass(frozen=True)
class NliAnalysis:
    """What is measured on a BERT classifier."""

    pruning: PruningAnalysis = field(default_factory=PruningAnalysis)
    probes: Probed = "off"
    """Linear classifiers on every layer's features, of the model before training (start) or of the
    trained one (end): eval/probes.json."""


@dataclass(frozen=True)
class EmotionAnalysis:
    """What is measured on a HuBERT classifier."""

    noise: bool = False
    """Score the test part once more with every clip changed as `data.augment` says, which shows a
    model that has learnt noise as a sign of a class: eval/noise.json."""
    probes: Probed = "off"
    """Linear classifiers on every layer's features, of the model before training (start) or of the
    trained one (end): eval/probes.json."""
