"""How long a BERT's forward pass takes: the median over one full batch, timed on rank 0.

Smaller models are timed by turns with the whole one: what else a machine does at the time, and how
warm it runs, slows both alike, and so their ratio holds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from configs.schema import NliRecipe
from trainers.data import RunData
from trainers.models.bert_classifier import NliModel
from trainers.ranks.world import World

_CPU_ITEMS = 8
"""Pairs of the timed batch on a CPU, where an evaluation batch would take minutes."""
_WARM_UP, _LEAST, _MOST = 2, 5, 30
_SECONDS = 3.0
"""Repeats are as many as the first model does in this time, within the bounds above."""


@dataclass(frozen=True)
class ForwardTiming:
    """The same batch for all models to compare."""

    inputs: tuple[Tensor, ...]
    """Token ids, attention mask, token types: (items, max_tokens) without padding."""
    repeats: int
    world: World

    def measure(self, model: NliModel) -> float:
        """Median milliseconds of a forward pass, the same on every rank. A collective call: the other
        ranks wait. The model is left in evaluation mode."""

        def timed() -> float:
            (seconds,) = _seconds([model], self.inputs, self.repeats)
            return 1000 * median(seconds)

        return round(self.world.on_main(timed), 4)

    def measure_beside(self, model: NliModel, whole: NliModel, milliseconds: float) -> float:
        """``milliseconds``, those of the whole model, times the median ratio of the two models' forward
        passes, which are made by turns. The rest is as in ``measure``."""

        def timed() -> float:
            pairs = zip(*_seconds([model, whole], self.inputs, self.repeats), strict=True)
            return milliseconds * median(own / other for own, other in pairs)

        return round(self.world.on_main(timed), 4)

    def describe(self) -> dict[str, int | str]:
        """What is timed, for a table's caption."""
        batch, tokens = self.inputs[0].shape
        return {"batch": batch, "tokens": tokens, "repeats": self.repeats, "precision": "fp32"}


def forward_timing(data: RunData, model: NliModel) -> ForwardTiming:
    """A batch of ``evaluation.items`` (on a CPU: at most 8) pairs of ``max_tokens`` random tokens, and
    how often it is run, judged by ``model``. A collective call."""
    recipe, world = data.recipe, data.world
    assert isinstance(recipe, NliRecipe)
    items = recipe.evaluation.items
    items = items if world.device.type == "cuda" else min(items, _CPU_ITEMS)
    generator = torch.Generator().manual_seed(0)
    shape = (items, recipe.model.max_tokens)
    ids = torch.randint(model.config.vocab_size, shape, generator=generator).to(world.device)
    inputs = (ids, torch.ones_like(ids), torch.zeros_like(ids))

    def repeats() -> int:
        ((once,),) = _seconds([model], inputs, 1)
        return max(_LEAST, min(_MOST, int(_SECONDS / max(once, 1e-6))))

    return ForwardTiming(inputs, world.on_main(repeats), world)


def _seconds(models: Sequence[NliModel], inputs: tuple[Tensor, ...], repeats: int) -> list[list[float]]:
    """Seconds of each of some forward passes of each model, made by turns, after some that are not
    counted."""
    device = inputs[0].device
    seconds: list[list[float]] = [[] for _ in models]
    with torch.no_grad():
        for turn in range(_WARM_UP + repeats):
            # Forth and back, so that none gains by its place.
            for model, own in [*zip(models, seconds, strict=True)][:: -1 if turn % 2 else 1]:
                model.eval()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                begun = time.perf_counter()
                model(*inputs)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                own.append(time.perf_counter() - begun)
    return [own[_WARM_UP:] for own in seconds]


def device_name(device: torch.device) -> str:
    """What the forward passes ran on, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} thread(s)"
