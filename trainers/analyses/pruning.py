"""How a trained BERT stands the loss of attention heads: scores, size and time over the removed share.

For each share heads are removed by importance (``trainers.models.importance``) and, for comparison,
at random several times; nothing is trained again. The heads are cut out, and what is cut out is
checked once against the same heads masked in the whole model.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from configs.analysis import PruningAnalysis
from configs.schema import NliRecipe
from trainers.analyses.latency import device_name, forward_timing
from trainers.data import RunData
from trainers.evaluate import predict
from trainers.models.bert_classifier import NliModel
from trainers.models.importance import removal_path
from trainers.models.pruning import Heads, draw_heads, heads_left, prune_heads
from trainers.tasks.head_choice import ScoringSamples, round_size, score_heads, scoring_samples


def pruning_curve(data: RunData, model: NliModel, watch: Callable[[], None] | None = None) -> dict[str, Any]:
    """What eval/pruning.json holds. A collective call with the trained model, in evaluation mode.

    Scores are those of the test part, ``validation_accuracy`` of the validation part; milliseconds
    are the median time of one forward pass in fp32, as the model is given, those of smaller models by
    their ratio to the whole one's, with which they are timed by turns. A share that would leave
    a layer without heads removes as many as can go. The model is left as it was. ``watch`` is called on
    all ranks before each step of an evaluation.
    """
    recipe = data.recipe
    assert isinstance(recipe, NliRecipe)
    settings, world = recipe.analysis.pruning, data.world
    # Each evaluation is short: starting reading processes for it would take longer.
    data = dataclasses.replace(
        data, recipe=dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, workers=0))
    )
    samples = scoring_samples(
        data.shards, data.split, settings.score_on, settings.score_items, data.task.collate
    )

    def score(scored: NliModel) -> Tensor:
        return score_heads(scored, samples, world.device, world)

    timing = forward_timing(data, model)
    importance = score(model)
    total = importance.numel()
    counts = {share: _count(model, share, total) for share in sorted(settings.shares)}
    at_once = round_size(total, settings.round_share)
    paths = removal_path(model, score, list(counts.values()), at_once)
    chosen = dict(zip(counts, paths, strict=True))
    difference = _masked_difference(data, model, samples, paths[-1])
    points: list[dict[str, Any]] = []
    milliseconds = timing.measure(model)
    for share, count in counts.items():
        about: dict[str, Any] = {"share": share, "choice": "importance", "draw": None}
        pruned = _pruned(model, chosen[share])
        taken = timing.measure_beside(pruned, model, milliseconds)
        points.append({**about, **_scores(data, pruned, watch), "milliseconds": taken})
        for draw in range(settings.draws):
            pruned = _pruned(model, _drawn(model, count, f"{recipe.seed} {draw}"))
            about = {"share": share, "choice": "random", "draw": draw}
            points.append({**about, **_scores(data, pruned, watch), "milliseconds": None})
    return {
        "heads": total,
        **_scoring(settings, len(samples.rows)),
        "importance": importance.tolist(),
        "whole": {**_scores(data, model, watch), "milliseconds": milliseconds},
        "points": points,
        "masked_difference": difference,
        "device": world.gather(device_name(world.device))[0],
        "latency": timing.describe(),
    }


@contextmanager
def masked_heads(model: NliModel, masked: Heads) -> Iterator[None]:
    """Within the block the heads' outputs are multiplied by zero, and nothing is cut out."""
    hooks = []
    layers: list[Any] = list(model.bert.encoder.layer)
    for number, heads in masked.items():
        left = heads_left(model, number)
        mask = torch.tensor([float(head not in heads) for head in left])

        def apply(_: nn.Module, arguments: tuple[Tensor, ...], mask: Tensor = mask) -> Tensor:
            context = arguments[0]
            parts = context.unflatten(-1, (len(mask), -1)) * mask.to(context)[:, None]
            return parts.flatten(-2)

        hooks.append(layers[number].attention.output.dense.register_forward_pre_hook(apply))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _count(model: NliModel, share: float, total: int) -> int:
    """Heads to remove for a share of all to be gone, as far as every layer keeps one."""
    gone = sum(map(len, model.removed_heads.values()))
    wanted = min(int(share * total + 0.5), total - model.config.num_hidden_layers)
    return max(0, wanted - gone)


def _drawn(model: NliModel, count: int, seed: str) -> Heads:
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    return draw_heads(layers, heads, count, seed, model.removed_heads)


def _pruned(model: NliModel, removed: Heads) -> NliModel:
    """A copy without these heads."""
    smaller = copy.deepcopy(model)
    prune_heads(smaller, removed)
    return smaller


def _scores(data: RunData, model: NliModel, watch: Callable[[], None] | None) -> dict[str, Any]:
    """A model's scores and size, and which heads it lacks."""
    labels = data.task.labels
    test = predict(model, data, "test", watch).metrics(labels)
    validation = predict(model, data, "validation", watch).metrics(labels)
    model.eval()  # evaluation leaves a model in training mode
    return {
        "removed": sum(map(len, model.removed_heads.values())),
        "accuracy": test.accuracy,
        "macro_f1": test.macro_f1,
        "loss": test.loss,
        "validation_accuracy": validation.accuracy,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "heads": {str(layer): list(gone) for layer, gone in sorted(model.removed_heads.items())},
    }


def _scoring(settings: PruningAnalysis, items: int) -> dict[str, Any]:
    return {
        "score_on": settings.score_on,
        "score_items": items,
        "round_share": settings.round_share,
    }


def _masked_difference(data: RunData, model: NliModel, samples: ScoringSamples, removed: Heads) -> float:
    """Largest difference between the logits of masked and of cut-out heads, on one real batch.

    An AssertionError says that they are not the same model.
    """
    _, batch = next(samples.batches())
    inputs = [tensor.to(data.world.device) for tensor in batch.inputs]
    with torch.no_grad():
        with masked_heads(model, removed):
            masked = model(*inputs)
        cut = _pruned(model, removed)(*inputs)
    torch.testing.assert_close(cut, masked, rtol=1e-3, atol=1e-3)
    return float(data.world.gather(float((cut - masked).abs().max()))[0])
