"""Taking attention heads out of a BERT for good: smaller matrices, the same answer as zeroed heads.

transformers has no head pruning of its own any more. A pruned model no longer fits the stock class;
``fill_removed`` gives the weights that do, with zeros where the heads were. Heads are numbered as in
the whole model, however many have gone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from configs.errors import InputError
from trainers.models.bert_classifier import NliModel

Heads = Mapping[int, tuple[int, ...]]

REMOVED_KEY = "sokhan_removed_heads"
"""Key of an export's config.json: the heads whose weights there are zeros, by layer."""


def count_heads(layers: int, heads: int, share: float, gone: int = 0) -> int:
    """How many heads are to go for ``share`` of all ``layers * heads`` to be gone.

    The share is rounded to the nearest whole head; ``gone`` of them have gone before. Raises
    InputError unless one or more go and every layer can keep one.
    """
    total, most = layers * heads, layers * (heads - 1)
    key = "model.regime.heads_share"
    if not 0 < share < 1:
        raise InputError(f"{key}: {share} is not between 0 and 1")
    count = int(share * total + 0.5)
    if not gone < count <= most:
        before = f", and {gone} have gone before" if gone else ""
        raise InputError(
            f"{key}: {share} removes {count} of {total} heads; {gone + 1} to {most} can go, as every"
            f" layer keeps one ({(gone + 1) / total:.3f} to {most / total:.3f}){before}"
        )
    return count - gone


def choose_heads(
    layers: int, heads: int, share: float, seed: int | str, gone: Heads | None = None
) -> dict[int, tuple[int, ...]]:
    """Draw heads until ``share`` of all ``layers * heads`` are gone; every layer keeps at least one.

    A function of its arguments alone. ``gone``: heads that the model lacks already.
    """
    gone = gone or {}
    count = count_heads(layers, heads, share, sum(map(len, gone.values())))
    return draw_heads(layers, heads, count, seed, gone)


def draw_heads(
    layers: int, heads: int, count: int, seed: int | str, gone: Heads
) -> dict[int, tuple[int, ...]]:
    """Draw ``count`` more heads to remove. A larger count with the same seed holds the smaller one."""
    stream = random.Random(seed)  # random() is the same on every Python version, shuffle is not
    order = sorted((stream.random(), layer, head) for layer in range(layers) for head in range(heads))
    return take_heads([(layer, head) for _, layer, head in order], heads, count, gone)


def take_heads(
    order: Sequence[tuple[int, int]], heads: int, count: int, gone: Heads
) -> dict[int, tuple[int, ...]]:
    """The first ``count`` (layer, head) of ``order`` that can go: there still, and not the last of
    their layer."""
    taken: dict[int, list[int]] = {}
    wanted = count
    for layer, head in order:
        before, now = gone.get(layer, ()), taken.get(layer, [])
        if wanted and head not in before and len(before) + len(now) < heads - 1:
            taken[layer] = [*now, head]
            wanted -= 1
    assert not wanted, f"{wanted} of {count} heads cannot go: every layer keeps one"
    return {layer: tuple(sorted(taken[layer])) for layer in sorted(taken)}


def join_heads(first: Heads, second: Heads) -> dict[int, tuple[int, ...]]:
    """The heads of both, by layer."""
    layers = sorted({*first, *second})
    return {n: tuple(sorted({*first.get(n, ()), *second.get(n, ())})) for n in layers}


def check_heads(
    layers: int,
    heads: int,
    given: Mapping[str, Sequence[int]],
    gone: Heads | None = None,
    key: str = "model.regime.heads",
) -> dict[int, tuple[int, ...]]:
    """A list of heads by layer, as a recipe gives it, checked and sorted.

    ``gone``: heads that the model lacks already. Raises InputError naming the key.
    """
    removed: dict[int, tuple[int, ...]] = {}
    for name, listed in given.items():
        at = f"{key}.{name}"
        if not name.isdecimal() or int(name) >= layers:
            raise InputError(f"{at}: no such layer; they are 0 to {layers - 1}")
        bad = [head for head in listed if not 0 <= head < heads]
        if bad:
            raise InputError(f"{at}: no head {bad[0]}; they are 0 to {heads - 1}")
        if len(set(listed)) != len(listed):
            raise InputError(f"{at}: a head is listed twice")
        before = (gone or {}).get(int(name), ())
        again = sorted({*listed} & {*before})
        if again:
            raise InputError(f"{at}: head {again[0]} is gone already from model.pretrained")
        if len(listed) + len(before) == heads:
            raise InputError(f"{at}: all {heads} heads of the layer would go; leave at least one")
        if int(name) in removed:
            raise InputError(f"{at}: the layer is listed twice")
        if listed:
            removed[int(name)] = tuple(sorted(listed))
    if not removed:
        raise InputError(f"{key}: lists no head; give at least one or use heads_share")
    return dict(sorted(removed.items()))


def prune_heads(model: NliModel, removed: Heads) -> None:
    """Cut the heads out of the model's matrices, in place, and note them on the model."""
    for number, gone in removed.items():
        attention: Any = model.bert.encoder.layer[number].attention
        inner = attention.self
        left = heads_left(model, number)
        assert {*gone} < {*left}, f"layer {number} has heads {left}; {gone} cannot all go"
        places = [place for place, head in enumerate(left) if head in gone]
        kept = _kept_units(len(left), inner.attention_head_size, places)
        for name in ("query", "key", "value"):
            setattr(inner, name, _slice(getattr(inner, name), kept, dim=0))
        attention.output.dense = _slice(attention.output.dense, kept, dim=1)
        inner.num_attention_heads -= len(gone)
        inner.all_head_size = len(kept)
    model.removed_heads = join_heads(model.removed_heads, removed)


def prune_exported(model: NliModel) -> None:
    """Cut out of a model that was loaded from an export the heads that are zeros there.

    Raises InputError where its config.json does not fit its weights.
    """
    given = getattr(model.config, REMOVED_KEY, None)
    if not given:
        return
    key, heads = f"model.pretrained: config.json, {REMOVED_KEY}", model.config.num_attention_heads
    try:
        listed = {layer: tuple(map(int, gone)) for layer, gone in given.items()}
    except (AttributeError, TypeError, ValueError):
        raise InputError(f"{key} is not heads by layer; delete the key to load all heads") from None
    removed = check_heads(model.config.num_hidden_layers, heads, listed, key=key)
    size = model.config.hidden_size // heads
    layers: list[Any] = list(model.bert.encoder.layer)
    for number, gone in removed.items():
        columns = layers[number].attention.output.dense.weight.detach().unflatten(1, (heads, size))
        if columns[:, list(gone)].any():
            raise InputError(
                f"{key}: the weights of layer {number} hold heads that it calls removed; delete the"
                " key to load them"
            )
    prune_heads(model, removed)


def heads_left(model: NliModel, layer: int) -> list[int]:
    """Numbers of the heads that a layer still has."""
    gone = model.removed_heads.get(layer, ())
    return [head for head in range(model.config.num_attention_heads) if head not in gone]


def fill_removed(
    weights: Mapping[str, Tensor], removed: Heads, heads: int, head_size: int
) -> dict[str, Tensor]:
    """A pruned model's weights as the stock class takes them: zeros in place of removed heads.

    A head whose columns of the attention's output matrix are zero adds nothing, whatever it
    attends to, so the logits are the same. ``heads`` and ``head_size`` are the whole model's.
    """
    filled = dict(weights)
    for number, gone in removed.items():
        kept = _kept_units(heads, head_size, gone)
        prefix = f"bert.encoder.layer.{number}.attention."
        for name in ("self.query", "self.key", "self.value"):
            for part in ("weight", "bias"):
                key = f"{prefix}{name}.{part}"
                filled[key] = _spread(weights[key], kept, heads * head_size, dim=0)
        key = f"{prefix}output.dense.weight"
        filled[key] = _spread(weights[key], kept, heads * head_size, dim=1)
    return filled


def _kept_units(heads: int, head_size: int, gone: Sequence[int]) -> Tensor:
    """Positions, in the concatenated heads, of the heads that stay."""
    units = torch.arange(heads * head_size).view(heads, head_size)
    return units[[head for head in range(heads) if head not in set(gone)]].flatten()


def _slice(linear: nn.Linear, kept: Tensor, dim: int) -> nn.Linear:
    """A linear layer of the ``kept`` outputs (dim 0) or inputs (dim 1) of another."""
    kept = kept.to(linear.weight.device)
    weight = linear.weight.detach().index_select(dim, kept)
    smaller = nn.utils.skip_init(
        nn.Linear, weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype
    )
    bias = linear.bias.detach()
    with torch.no_grad():
        smaller.weight.copy_(weight)
        smaller.bias.copy_(bias.index_select(0, kept) if dim == 0 else bias)
    return smaller


def _spread(tensor: Tensor, kept: Tensor, size: int, dim: int) -> Tensor:
    """The inverse of slicing: ``size`` entries along ``dim``, zero where they were not kept."""
    shape = list(tensor.shape)
    shape[dim] = size
    return tensor.new_zeros(shape).index_copy_(dim, kept.to(tensor.device), tensor)
