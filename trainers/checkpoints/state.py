"""Where a training stands: with the weights and the optimizer, all that is needed to go on.

No state of a random generator is among it: every step seeds them from the recipe's seed, the epoch,
the step and the micro-batch, so they follow from where training stands.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Best:
    """The best validation so far. Higher is better: a loss is kept with its sign changed."""

    epoch: int
    step: int
    metric: str
    value: float
    tag: str
    """Name of the checkpoint with its weights."""


@dataclass(frozen=True)
class TrainingState:
    """Where a training stands between two global steps."""

    epoch: int = 1
    """Counted from 1."""
    steps_in_epoch: int = 0
    """Global steps of this epoch that are done."""
    step: int = 0
    """Global steps of all epochs that are done."""
    evaluated: bool = False
    """The epoch is over and has been validated."""
    best: Best | None = None
    sums: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Loss, correct predictions and items of the epoch so far."""
    seconds: float = 0.0
    """Spent until here, in all starts of the run."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(document: dict[str, Any]) -> TrainingState:
        """The inverse."""
        best = document["best"]
        values = {
            **document,
            "sums": tuple(document["sums"]),
            "best": Best(**best) if best else None,
        }
        return TrainingState(**values)
