"""Checks of a recipe that types cannot express: ranges, and fields that must fit each other."""

from __future__ import annotations

import math
import re

from configs.errors import InputError
from configs.models import RegimeConfig
from configs.schema import EmotionRecipe, EngineConfig, MlmRecipe, NliRecipe, Recipe


def check_recipe(recipe: Recipe) -> None:
    """Raise InputError naming the first key whose value cannot work."""
    _at_least(
        1,
        {
            "batching.items": recipe.batching.items,
            "batching.micro_batches": recipe.batching.micro_batches,
            "batching.window": recipe.batching.window,
            "evaluation.items": recipe.evaluation.items,
            "loop.epochs": recipe.loop.epochs,
            "loop.log_every": recipe.loop.log_every,
            "loop.max_steps": recipe.loop.max_steps,
            "evaluation.patience": recipe.evaluation.patience,
            "checkpoint.every_steps": recipe.checkpoint.every_steps,
            "checkpoint.keep": recipe.checkpoint.keep,
        },
    )
    _at_least(
        0,
        {
            "seed": recipe.seed,
            "data.workers": recipe.data.workers,
            "data.augment.noise": recipe.data.augment.noise,
            "data.augment.shift_seconds": recipe.data.augment.shift_seconds,
            "optim.lr": recipe.optim.lr,
            "optim.weight_decay": recipe.optim.weight_decay,
            "optim.clip": recipe.optim.clip,
            "checkpoint.every_minutes": recipe.checkpoint.every_minutes,
        },
    )
    _at_least(0.01, {"engine.timeout_minutes": recipe.engine.timeout_minutes})
    _share({"optim.warmup": recipe.optim.warmup})
    _check_rates(recipe)
    _share({f"optim.betas[{n}]": beta for n, beta in enumerate(recipe.optim.betas)})
    _at_least(0, {"optim.eps": recipe.optim.eps, "batching.budget": recipe.batching.budget})
    for shift in recipe.data.augment.semitones:
        if abs(shift) > 24:
            raise InputError(f"key 'data.augment.semitones' holds {shift}; it must be within 24")
    for key, name in (("recipe", recipe.recipe), ("output.name", recipe.output.name)):
        if name and (name.startswith(".") or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name)):
            raise InputError(
                f"key {key!r} is {name!r}; it names a folder: use letters, digits, '.', '_' and '-'"
            )
    if not recipe.data.shards:
        raise InputError("key 'data.shards' is empty; name a folder made by `sokhan pack`")
    if recipe.batching.kind != "fixed" and recipe.batching.budget <= 0:
        raise InputError(
            f"key 'batching.budget' must be above 0 when batching.kind is {recipe.batching.kind}: the "
            "seconds (audio) or tokens (text) of one micro-batch"
        )
    if (recipe.batching.kind == "packed") != isinstance(recipe, MlmRecipe):
        raise InputError(
            f"key 'batching.kind' is {recipe.batching.kind!r}; packed rows are what task mlm takes, and "
            "only that"
        )
    if recipe.batching.kind == "fixed" and recipe.batching.items < recipe.batching.micro_batches:
        raise InputError(
            f"key 'batching.micro_batches' is {recipe.batching.micro_batches}, more than the "
            f"{recipe.batching.items} items (batching.items) of a global step"
        )
    if not recipe.data.augment.semitones:
        raise InputError("key 'data.augment.semitones' is empty; [0] means no pitch shift")
    if recipe.loss.kind != "cross_entropy" and recipe.data.balance != "none":
        raise InputError(
            f"keys 'loss.kind' {recipe.loss.kind} and 'data.balance' {recipe.data.balance} would both "
            "correct the classes' shares; use one of them"
        )
    if isinstance(recipe, EmotionRecipe):
        _check_hubert(recipe)
    if isinstance(recipe, NliRecipe):
        _share({"model.dropout": recipe.model.dropout})
        _at_least(8, {"model.max_tokens": recipe.model.max_tokens})
        if recipe.data.balance in ("reference", "clean"):
            raise InputError(
                f"key 'data.balance' is {recipe.data.balance}, which changes audio; for task nli it must "
                "be none or sampled"
            )
        _check_regime(recipe.model.regime)
        _check_pruning(recipe)
    if isinstance(recipe, MlmRecipe):
        _check_mlm(recipe)


def check_ranks(recipe: Recipe, ranks: int) -> None:
    """Raise InputError, with the values that work, unless ``ranks`` divides the micro-batches."""
    micro_batches = recipe.batching.micro_batches
    if ranks >= 1 and micro_batches % ranks == 0:
        return
    below = micro_batches - micro_batches % ranks
    near = " or ".join(str(n) for n in (below, below + ranks) if n > 0)
    divisors = [n for n in range(1, micro_batches + 1) if micro_batches % n == 0]
    raise InputError(
        f"batching.micro_batches = {micro_batches} cannot be divided over {ranks} ranks "
        f"({micro_batches} / {ranks} = {micro_batches / ranks:.2f} each); use {near} micro-batches, "
        f"or one of {divisors} ranks"
    )


def check_kind(recipe: Recipe, kind: str) -> None:
    """Raise InputError unless the shards hold what the recipe's task reads."""
    task, kinds = {
        EmotionRecipe: ("emotion", ("audio",)),
        NliRecipe: ("nli", ("text",)),
        MlmRecipe: ("mlm", ("prose", "text")),
    }[type(recipe)]
    if kind not in kinds:
        raise InputError(
            f"{recipe.data.shards}: holds {kind}, but recipe {recipe.recipe!r} (task {task}) reads "
            f"{' or '.join(kinds)}; name other shards with --data.shards, or take another recipe"
        )


def zero_stage(engine: EngineConfig) -> int:
    """The stage that DeepSpeed is given: at least 1 for bf16 and fp16. At ZeRO 0 it would keep no
    fp32 weights beside bf16 ones, and updates below bf16's 8 bits would be rounded away; fp16's
    would be where a checkpoint cannot get at them."""
    return max(engine.zero, 1) if engine.precision in ("bf16", "fp16") else engine.zero


def _check_hubert(recipe: EmotionRecipe) -> None:
    model = recipe.model
    _share(
        {
            "model.dropout": model.dropout,
            "model.layerdrop": model.layerdrop,
            "model.mask_time_prob": model.mask_time_prob,
        }
    )
    _at_least(0.1, {"model.max_seconds": model.max_seconds})
    if (model.trains == "last") != (model.last_layers is not None):
        raise InputError(
            "key 'model.last_layers' says how many layers train when model.trains is last, and only then"
        )
    _at_least(1, {"model.last_layers": model.last_layers})
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
        raise InputError(
            "key 'model.layerdrop' must be 0 with model.head weighted: it needs all layers"
        )
    if model.layerdrop and model.cache:
        raise InputError(
            "key 'model.layerdrop' must be 0 with model.cache: features are of all layers"
        )
    if model.layerdrop and zero_stage(recipe.engine):
        raise InputError(
            "key 'model.layerdrop' must be 0 with engine.zero above 0 or bf16: ranks differ in layers"
        )


def _check_rates(recipe: Recipe) -> None:
    optim = recipe.optim
    _at_least(0, {"optim.head_lr": optim.head_lr, "loss.strength": recipe.loss.strength})
    if optim.head_lr is not None and optim.lr == 0:
        raise InputError(
            "key 'optim.lr' is 0, of which no optim.head_lr is a multiple; to train the head alone, "
            "freeze what lies below it (model.trains head, or a regime)"
        )
    if not 0 < optim.layer_decay <= 1:
        raise InputError(
            f"key 'optim.layer_decay' is {optim.layer_decay}; it must be above 0 and at most 1"
        )


def _check_regime(regime: RegimeConfig) -> None:
    """What can be said of a regime without a model; the rest is said where it is applied."""
    if regime.choose == "importance" and (
        regime.kind != "heads_removed" or regime.heads_share is None
    ):
        raise InputError(
            "key 'model.regime.choose' is importance, which needs regime heads_removed with heads_share"
        )
    _share_above_zero({"model.regime.round_share": regime.round_share})
    _at_least(1, {"model.regime.score_items": regime.score_items})


def _check_pruning(recipe: NliRecipe) -> None:
    pruning, regime = recipe.analysis.pruning, recipe.model.regime
    for share in pruning.shares:
        _share_above_zero({"analysis.pruning.shares": share})
    _at_least(1, {"analysis.pruning.score_items": pruning.score_items})
    _at_least(1, {"analysis.pruning.draws": pruning.draws})
    _share_above_zero({"analysis.pruning.round_share": pruning.round_share})
    if pruning.shares and regime.kind == "heads_removed":
        raise InputError(
            "key 'analysis.pruning.shares' counts the heads of a whole model; regime heads_removed has "
            "removed some already"
        )


def _check_mlm(recipe: MlmRecipe) -> None:
    model = recipe.model
    _share({"model.dropout": model.dropout})
    _share_above_zero({"model.mask_share": model.mask_share})
    _at_least(1, {"model.layers": model.layers})
    for key, value in (("layers", model.layers), ("deviation", model.deviation)):
        if value is not None and model.pretrained:
            raise InputError(
                f"key 'model.{key}' is for fresh models; with model.pretrained leave it out"
            )
    _share_above_zero({"model.deviation": model.deviation})
    _at_least(8, {"model.max_tokens": model.max_tokens})
    if recipe.batching.budget < model.max_tokens:
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


def _share_above_zero(values: dict[str, float | None]) -> None:
    for key, value in values.items():
        if value is not None and not 0 < value < 1:
            raise InputError(f"key {key!r} is {value}; it must be above 0 and below 1")


def _at_least(least: float, values: dict[str, float | int | None]) -> None:
    for key, value in values.items():
        if value is not None and not least <= value < math.inf:
            raise InputError(f"key {key!r} is {value}; it must be finite and at least {least}")


def _share(values: dict[str, float]) -> None:
    for key, value in values.items():
        if not 0 <= value < 1:
            raise InputError(f"key {key!r} is {value}; it must be at least 0 and below 1")
