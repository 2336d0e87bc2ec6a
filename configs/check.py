"""Checks of a recipe that types cannot express: ranges, and fields that must fit each other. Those of
the models are in ``configs/check_models.py``."""

from __future__ import annotations

import re

from configs.check_models import check_bert, check_hubert, check_mlm
from configs.errors import InputError
from configs.ranges import at_least, share
from configs.schema import EmotionRecipe, EngineConfig, MlmRecipe, NliRecipe, Recipe


def check_recipe(recipe: Recipe) -> None:
    """Raise InputError naming the first key whose value cannot work."""
    _check_numbers(recipe)
    _check_rates(recipe)
    _check_names(recipe)
    _check_data(recipe)
    _check_batching(recipe)
    if isinstance(recipe, EmotionRecipe):
        check_hubert(recipe)
        _check_layerdrop(recipe)
    if isinstance(recipe, NliRecipe):
        check_bert(recipe)
    if isinstance(recipe, MlmRecipe):
        check_mlm(recipe)


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
    if kind == "prose" and isinstance(recipe, MlmRecipe) and recipe.model.next_sentence:
        raise InputError(
            f"{recipe.data.shards}: holds prose, where no text has a second one; model.next_sentence "
            "needs shards of pairs"
        )


def zero_stage(engine: EngineConfig) -> int:
    """The stage that DeepSpeed is given: at least 1 for bf16 and fp16. At ZeRO 0 it would keep no
    fp32 weights beside bf16 ones, and updates below bf16's 8 bits would be rounded away; fp16's
    would be where a checkpoint cannot get at them."""
    return max(engine.zero, 1) if engine.precision in ("bf16", "fp16") else engine.zero


def _check_numbers(recipe: Recipe) -> None:
    at_least(
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
    at_least(
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
    at_least(0.01, {"engine.timeout_minutes": recipe.engine.timeout_minutes})
    share({"optim.warmup": recipe.optim.warmup})
    share({f"optim.betas[{n}]": beta for n, beta in enumerate(recipe.optim.betas)})
    at_least(0, {"optim.eps": recipe.optim.eps, "batching.budget": recipe.batching.budget})


def _check_rates(recipe: Recipe) -> None:
    optim = recipe.optim
    at_least(0, {"optim.head_lr": optim.head_lr, "loss.strength": recipe.loss.strength})
    if optim.head_lr is not None and optim.lr == 0:
        raise InputError(
            "key 'optim.lr' is 0, of which no optim.head_lr is a multiple; to train the head alone, "
            "freeze what lies below it (model.trains head, or a regime)"
        )
    if not 0 < optim.layer_decay <= 1:
        raise InputError(f"key 'optim.layer_decay' is {optim.layer_decay}; it must be above 0 and at most 1")


def _check_names(recipe: Recipe) -> None:
    for key, name in (("recipe", recipe.recipe), ("output.name", recipe.output.name)):
        if name and (name.startswith(".") or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name)):
            raise InputError(
                f"key {key!r} is {name!r}; it names a folder: use letters, digits, '.', '_' and '-'"
            )


def _check_data(recipe: Recipe) -> None:
    if not recipe.data.shards:
        raise InputError("key 'data.shards' is empty; name a folder made by `sokhan pack`")
    if not recipe.data.augment.semitones:
        raise InputError("key 'data.augment.semitones' is empty; [0] means no pitch shift")
    for shift in recipe.data.augment.semitones:
        if abs(shift) > 24:
            raise InputError(f"key 'data.augment.semitones' holds {shift}; it must be within 24")
    if recipe.loss.kind != "cross_entropy" and recipe.data.balance != "none":
        raise InputError(
            f"keys 'loss.kind' {recipe.loss.kind} and 'data.balance' {recipe.data.balance} would both "
            "correct the classes' shares; use one of them"
        )


def _check_batching(recipe: Recipe) -> None:
    if recipe.batching.kind != "fixed" and recipe.batching.budget <= 0:
        raise InputError(
            f"key 'batching.budget' must be above 0 when batching.kind is {recipe.batching.kind}: the "
            "seconds (audio) or tokens (text) of one micro-batch"
        )
    if (recipe.batching.kind == "packed") != _takes_packed(recipe):
        raise InputError(
            f"key 'batching.kind' is {recipe.batching.kind!r}; packed rows are what task mlm takes without "
            "model.next_sentence, and only that"
        )
    if recipe.batching.kind == "fixed" and recipe.batching.items < recipe.batching.micro_batches:
        raise InputError(
            f"key 'batching.micro_batches' is {recipe.batching.micro_batches}, more than the "
            f"{recipe.batching.items} items (batching.items) of a global step"
        )


def _takes_packed(recipe: Recipe) -> bool:
    return isinstance(recipe, MlmRecipe) and not recipe.model.next_sentence


def _check_layerdrop(recipe: EmotionRecipe) -> None:
    if recipe.model.layerdrop and zero_stage(recipe.engine):
        raise InputError(
            "key 'model.layerdrop' must be 0 with engine.zero above 0 or bf16: ranks differ in layers"
        )
