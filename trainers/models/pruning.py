"""Taking attention heads out of a BERT for good: smaller matrices, the same answer as zeroed heads.

transformers has no head pruning of its own any more. A pruned model no longer fits the stock class;
``fill_removed`` gives the weights that do, with zeros where the heads were.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from configs.errors import InputError
from trainers.models.bert import NliModel

Heads = Mapping[int, tuple[int, ...]]


def choose_heads(layers: int, heads: int, share: float, seed: int) -> dict[int, tuple[int, ...]]:
    """Draw ``share`` of all ``layers * heads`` heads to remove; every layer keeps at least one.

    The count is rounded to the nearest whole head. A function of its arguments alone.
    """
    total, most = layers * heads, layers * (heads - 1)
    key = "model.regime.heads_share"
    if not 0 < share < 1:
        raise InputError(f"{key}: {share} is not between 0 and 1")
    count = int(share * total + 0.5)
    if not 1 <= count <= most:
        raise InputError(
            f"{key}: {share} removes {count} of {total} heads; 1 to {most} can go, as every layer"
            f" keeps one ({1 / total:.3f} to {most / total:.3f})"
        )
    stream = random.Random(seed)  # random() is the same on every Python version, shuffle is not
    order = sorted(
        (stream.random(), layer, head) for layer in range(layers) for head in range(heads)
    )
    removed: dict[int, list[int]] = {layer: [] for layer in range(layers)}
    for _, layer, head in order:
        if count and len(removed[layer]) < heads - 1:
            removed[layer].append(head)
            count -= 1
    return {layer: tuple(sorted(gone)) for layer, gone in removed.items() if gone}


def check_heads(
    layers: int, heads: int, given: Mapping[str, Sequence[int]]
) -> dict[int, tuple[int, ...]]:
    """A recipe's list of heads by layer, checked and sorted. Raises InputError naming the key."""
    removed: dict[int, tuple[int, ...]] = {}
    for name, gone in given.items():
        key = f"model.regime.heads.{name}"
        if not name.isdecimal() or int(name) >= layers:
            raise InputError(f"{key}: no such layer; they are 0 to {layers - 1}")
        bad = [head for head in gone if not 0 <= head < heads]
        if bad:
            raise InputError(f"{key}: no head {bad[0]}; they are 0 to {heads - 1}")
        if len(set(gone)) != len(gone):
            raise InputError(f"{key}: a head is listed twice")
        if len(gone) == heads:
            raise InputError(f"{key}: all {heads} heads of the layer would go; leave at least one")
        if int(name) in removed:
            raise InputError(f"{key}: the layer is listed twice")
        if gone:
            removed[int(name)] = tuple(sorted(gone))
    if not removed:
        raise InputError("model.regime.heads: lists no head; give at least one or use heads_share")
    return dict(sorted(removed.items()))


def prune_heads(model: NliModel, removed: Heads) -> None:
    """Cut the heads out of the whole model's matrices, in place, and note them on the model."""
    assert not model.removed_heads, "heads are numbered in the whole model: prune it once"
    for number, gone in removed.items():
        attention: Any = model.bert.encoder.layer[number].attention
        inner = attention.self
        kept = _kept_units(inner.num_attention_heads, inner.attention_head_size, gone)
        for name in ("query", "key", "value"):
            setattr(inner, name, _slice(getattr(inner, name), kept, dim=0))
        attention.output.dense = _slice(attention.output.dense, kept, dim=1)
        inner.num_attention_heads -= len(gone)
        inner.all_head_size = len(kept)
    model.removed_heads = dict(removed)


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
