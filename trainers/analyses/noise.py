"""The noise shortcut, measured: the test part as it is, and with every clip changed.

With ``data.balance: reference`` every clip of a minority class is changed in training (noise, a
circular shift), so that noise itself says "not the majority". A model that has learnt this predicts
the majority class less often when the same test clips come with noise. See
``data_shards.plan.select_entries``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import nn

from data_shards.plan import Entries
from data_shards.reader import Augmentation
from trainers.data import RunData
from trainers.evaluate import Predictions, predict
from trainers.tasks.cached_emotion import with_encoder


@dataclass(frozen=True)
class ChangedData(RunData):
    """A run's data whose evaluations read every clip changed once, as ``data.augment`` says.

    No pitch is shifted: such copies exist for the training part's minority classes alone.
    """

    def evaluated_entries(self, part: str) -> Entries:
        """The part's rows, each the first changed version of itself."""
        rows = self.split.rows(part).astype(np.int64)
        return Entries(rows, np.ones(len(rows), np.int32))

    @cached_property
    def augmentation(self) -> Augmentation:
        """Noise and shift, drawn from the recipe's seed."""
        config = replace(self.recipe.data.augment, semitones=(0,))
        return Augmentation(config, self.recipe.seed, pitched=None, same_every_epoch=True)


def noised_scores(data: RunData, model: nn.Module, watch: Callable[[], None] | None = None) -> dict[str, Any]:
    """Scores of the test part as it is ("clean") and with every clip changed ("noised"), and the share
    of predictions that differ. A collective call; the same on all ranks.

    ``model`` is what ``data.task.build_model`` makes, in evaluation mode on the world's device.
    """
    data, model = with_encoder(data, model)
    changed = ChangedData(data.recipe, data.index, data.split, data.task, data.world)
    clean, noised = (predict(model, each, "test", watch) for each in (data, changed))
    model.eval()
    assert (clean.rows == noised.rows).all(), "both plans hold the same rows in the same order"
    augment = changed.augmentation.config
    differ = clean.logits.argmax(1) != noised.logits.argmax(1)
    return {
        "clean": _scores(clean, data.task.labels),
        "noised": _scores(noised, data.task.labels),
        "changed": float(differ.mean()),
        "augment": {
            "noise": augment.noise,
            "shift_seconds": augment.shift_seconds,
            "semitones": [0],
            "changes": f"Every clip was given Gaussian noise of deviation {augment.noise:g} (full scale is "
            f"1) and a circular shift of up to {augment.shift_seconds:g} s, and no pitch shift",
        },
    }


def _scores(predictions: Predictions, labels: tuple[str, ...]) -> dict[str, Any]:
    metrics = predictions.metrics(labels)
    counts = np.bincount(predictions.logits.argmax(1), minlength=len(labels))
    shares = (counts / counts.sum()).tolist()
    # A class that the part lacks can be neither recalled nor missed: a 0 would lower means over folds.
    recalls = zip(labels, metrics.recall, metrics.support, strict=True)
    return {
        "accuracy": metrics.accuracy,
        "uar": metrics.uar,
        "macro_f1": metrics.macro_f1,
        "recall": {label: recall for label, recall, items in recalls if items},
        "predicted_share": dict(zip(labels, shares, strict=True)),
    }
