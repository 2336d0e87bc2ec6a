"""Checks of a recipe's model section, and of what must fit it: one function for each task."""

from __future__ import annotations

from configs.errors import InputError
from configs.models import RegimeConfig
from configs.ranges import at_least, share, share_above_zero
from configs.schema import EmotionRecipe, MlmRecipe, NliRecipe

_RANDOM = RegimeConfig()
"""Heads are drawn at random: nothing is set of how they are scored."""


def check_hubert(recipe: EmotionRecipe) -> None:
    """Raise InputError naming the first key of an emotion recipe whose value cannot work."""
    model = recipe.model
    share(
        {
            "model.dropout": model.dropout,
            "model.layerdrop": model.layerdrop,
            "model.mask_time_prob": model.mask_time_prob,
        }
    )
    at_least(0.1, {"model.max_seconds": model.max_seconds})
    if (model.trains == "last") != (model.last_layers is not None):
        raise InputError(
            "key 'model.last_layers' says how many layers train when model.trains is last, and only then"
        )
    at_least(1, {"model.last_layers": model.last_layers})
    if model.cache and (model.trains != "head" or model.head == "attentive"):
        raise InputError(
            "key 'model.cache' keeps pooled features of a frozen encoder: it needs model.trains head and a "
            "head other than attentive"
        )
    if model.cache and model.padding != "exact":
        raise InputError(
            "key 'model.cache' needs model.padding exact: a clip's features must not depend on its batch"
        )
    if model.cache and recipe.data.balance in ("reference", "clean"):
        raise InputError(
            "key 'model.cache' keeps features of the clips as they are; data.balance must be none or sampled"
        )
    if model.layerdrop and model.head == "weighted":
        raise InputError("key 'model.layerdrop' must be 0 with model.head weighted: it needs all layers")
    if model.layerdrop and model.cache:
        raise InputError("key 'model.layerdrop' must be 0 with model.cache: features are of all layers")


def check_bert(recipe: NliRecipe) -> None:
    """Raise InputError naming the first key of an inference recipe whose value cannot work."""
    share({"model.dropout": recipe.model.dropout})
    at_least(8, {"model.max_tokens": recipe.model.max_tokens})
    if recipe.data.balance in ("reference", "clean"):
        raise InputError(
            f"key 'data.balance' is {recipe.data.balance}, which changes audio; for task nli it must "
            "be none or sampled"
        )
    _check_regime(recipe.model.regime)
    _check_pruning(recipe)


def check_mlm(recipe: MlmRecipe) -> None:
    """Raise InputError naming the first key of a language model's recipe whose value cannot work."""
    model = recipe.model
    share({"model.dropout": model.dropout})
    share_above_zero({"model.mask_share": model.mask_share})
    at_least(1, {"model.layers": model.layers})
    for key, value in (("layers", model.layers), ("deviation", model.deviation)):
        if value is not None and model.pretrained:
            raise InputError(f"key 'model.{key}' is for fresh models; with model.pretrained leave it out")
    share_above_zero({"model.deviation": model.deviation})
    at_least(8, {"model.max_tokens": model.max_tokens})
    if model.shared_tokens and not model.next_sentence:
        raise InputError(
            "key 'model.shared_tokens' is about rows of one pair: it needs model.next_sentence true"
        )
    if recipe.batching.kind == "packed" and recipe.batching.budget < model.max_tokens:
        raise InputError(
            f"key 'batching.budget' is {recipe.batching.budget:g} tokens, less than one row of "
            f"model.max_tokens ({model.max_tokens})"
        )
    if recipe.data.balance != "none":
        raise InputError("key 'data.balance' is about classes; for task mlm it must be none")
    if recipe.loss.kind != "cross_entropy":
        raise InputError("key 'loss.kind' is about classes; for task mlm it must be cross_entropy")
    if recipe.evaluation.metric not in ("loss", "accuracy"):
        raise InputError(
            f"key 'evaluation.metric' is {recipe.evaluation.metric}; for task mlm it is loss or accuracy"
        )
    if recipe.optim.head_lr is not None or recipe.optim.layer_decay != 1:
        raise InputError(
            "keys 'optim.head_lr' and 'optim.layer_decay' are for fine-tuning; task mlm has one rate"
        )


def _check_regime(regime: RegimeConfig) -> None:
    """What can be said of a regime without a model; the rest is said where it is applied."""
    if regime.choose == "importance" and (regime.kind != "heads_removed" or regime.heads_share is None):
        raise InputError(
            "key 'model.regime.choose' is importance, which needs regime heads_removed with heads_share"
        )
    share_above_zero({"model.regime.round_share": regime.round_share})
    at_least(1, {"model.regime.score_items": regime.score_items})
    if regime.choose == "importance":
        return
    for key in ("score_on", "score_items", "round_share"):
        if getattr(regime, key) != getattr(_RANDOM, key):
            raise InputError(
                f"key 'model.regime.{key}' is about heads that importance chooses; set "
                "model.regime.choose importance, or leave it out"
            )


def _check_pruning(recipe: NliRecipe) -> None:
    pruning, regime = recipe.analysis.pruning, recipe.model.regime
    for removed in pruning.shares:
        share_above_zero({"analysis.pruning.shares": removed})
    at_least(1, {"analysis.pruning.score_items": pruning.score_items})
    at_least(1, {"analysis.pruning.draws": pruning.draws})
    share_above_zero({"analysis.pruning.round_share": pruning.round_share})
    if pruning.shares and regime.kind == "heads_removed":
        raise InputError(
            "key 'analysis.pruning.shares' counts the heads of a whole model; regime heads_removed has "
            "removed some already"
        )
