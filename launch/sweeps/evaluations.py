"""How often a training passes over its parts besides its own steps: evaluations, analyses, scores of heads.

A backward pass that only asks for the gradients of heads' outputs counts as one more forward pass. That
models without some heads are faster is left out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

from configs.load import AnyRecipe
from configs.schema import EmotionRecipe, MlmRecipe, NliRecipe


def passes_besides(recipe: AnyRecipe, epochs: float, items: Mapping[str, int]) -> dict[str, float]:
    """Part -> forward passes over the whole of it. ``items`` are how many each part has."""
    found: dict[str, float] = defaultdict(float)
    found["validation"] = epochs + 1
    found["test"] = 1 + (epochs if recipe.evaluation.test_each_epoch else 0)
    found["train"] = float(recipe.evaluation.train)
    if not isinstance(recipe, MlmRecipe) and recipe.analysis.probes != "off":
        for part in ("train", "validation", "test"):
            found[part] += 1
    if isinstance(recipe, EmotionRecipe) and recipe.analysis.noise:
        found["test"] += 2  # as it is, and changed
    if isinstance(recipe, NliRecipe):
        _add_pruning(found, recipe, items)
        _add_choice(found, recipe, items)
    return found


def _add_pruning(found: dict[str, float], recipe: NliRecipe, items: Mapping[str, int]) -> None:
    """The curve of eval/pruning.json: a point is scored on validation and test."""
    pruning = recipe.analysis.pruning
    if not pruning.shares:
        return
    points = 1 + len(pruning.shares) * (1 + pruning.draws)  # the whole model, too
    found["test"] += points
    found["validation"] += points
    scorings = 2 + _rounds(max(pruning.shares), pruning.round_share)
    share = _share(pruning.score_items, items[pruning.score_on])
    found[pruning.score_on] += 2 * scorings * share


def _add_choice(found: dict[str, float], recipe: NliRecipe, items: Mapping[str, int]) -> None:
    """Heads that a regime removes by importance are scored before training."""
    regime = recipe.model.regime
    if regime.choose == "importance" and regime.heads_share is not None:
        scorings = 1 + _rounds(regime.heads_share, regime.round_share)
        share = _share(regime.score_items, items[regime.score_on])
        found[regime.score_on] += 2 * scorings * share


def _rounds(removed: float, round_share: float | None) -> int:
    """How often heads are scored anew until that share of them is gone."""
    return 0 if round_share is None else max(0, math.ceil(removed / round_share - 1e-9) - 1)


def _share(scored: int | None, items: int) -> float:
    """The share of a part that scores heads."""
    return 1.0 if scored is None or items < 1 else min(1.0, scored / items)
