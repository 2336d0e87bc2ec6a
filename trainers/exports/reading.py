"""How a training read its samples: what a model folder must say besides the model, so that whatever
is applied to later is read in the same way."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.schema import EmotionRecipe, NliRecipe, Precision
from data_shards.index import ShardIndex
from data_shards.text import TextSteps, described_in, steps_of


@dataclass(frozen=True)
class Reading:
    """What the settings of a model do not say."""

    precision: Precision = "fp32"
    """In which the model was evaluated."""
    text: Mapping[str, Any] | None = None
    """The steps of the texts' processing and hazm's version (``data_shards.text.describe``); None: audio,
    or not known."""

    def as_dict(self) -> dict[str, Any]:
        """For sokhan.json."""
        text = None if self.text is None else dict(self.text)
        return {"precision": self.precision, "text_steps": text}

    def steps(self, settings: Mapping[str, Any], path: Path) -> TextSteps:
        """The steps that inputs of a model with these settings go through. Raises InputError naming
        ``path``, which should say them and does not."""
        if settings.get("text") != "processed":  # audio, or texts as they were
            return TextSteps(False, False, False)
        try:
            return steps_of(self.text or {})
        except KeyError:
            raise InputError(
                f"{path}: does not say how the texts were processed that the model was trained on; "
                "write the model anew with `sokhan export RUN --out FOLDER`"
            ) from None


def reading_of(recipe: EmotionRecipe | NliRecipe, index: ShardIndex) -> Reading:
    """How the run of a recipe reads its shards."""
    return Reading(recipe.engine.precision, described_in(index.manifest.settings))


def read_reading(about: Mapping[str, Any]) -> Reading:
    """From sokhan.json. Older exports say nothing: fp32 then, and no steps."""
    precision = about.get("precision", "fp32")
    text = about.get("text_steps")
    known = typing.get_args(Precision)
    return Reading(precision if precision in known else "fp32", text if isinstance(text, dict) else None)
