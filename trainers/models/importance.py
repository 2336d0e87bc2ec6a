"""Which attention heads matter to a BERT, and which go first when heads are removed by that.

The importance of head h is I_h = E_x |d loss(x) / d mask_h|, where mask_h = 1 is a factor on the
head's output: how much the loss of a sample would change with the head, to first order (Michel,
Levy, Neubig 2019, "Are Sixteen Heads Really Better than One?", arXiv 1905.10650). The absolute
value is taken of each sample's own derivative, as those of a batch cancel. Scores are divided by
their norm in each layer, as there, since layers differ in the size of their gradients.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainers.models.bert_classifier import NliModel
from trainers.models.pruning import Heads, heads_left, join_heads, prune_heads, take_heads

Score = Callable[[NliModel], Tensor]
"""A model -> (layers, heads) importance; zeros for heads that are gone."""


def mask_gradients(model: NliModel, inputs: Sequence[Tensor], labels: Tensor) -> Tensor:
    """What each head's mask does to each sample's loss: (batch, layers, heads) float64 on the CPU.

    Entry [x, l, h] is d loss(x) / d mask_h of layer l, zero for heads that are gone. ``inputs`` are
    the model's, ``labels`` (batch,) class numbers; the model must be in evaluation mode. One backward
    pass gives all samples' derivatives, as no sample's loss depends on another: with c the head's
    output before the attention's output projection and g = d loss / d c, the sum over the sample's
    tokens and the head's units of c * g.
    """
    assert not model.training, "dropout would make samples' gradients noise"
    heads = model.config.num_attention_heads
    contexts: list[Tensor] = []

    def keep(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor]:
        context = arguments[0]
        if not context.requires_grad:  # all below it is frozen
            context = context.detach().requires_grad_()
        contexts.append(context)
        return (context,)

    layers: list[Any] = list(model.bert.encoder.layer)
    hooks = [layer.attention.output.dense.register_forward_pre_hook(keep) for layer in layers]
    try:
        with torch.enable_grad():
            loss = nn.functional.cross_entropy(model(*inputs), labels, reduction="sum")
    finally:
        for hook in hooks:
            hook.remove()
    gradients = torch.autograd.grad(loss, contexts)
    found = torch.zeros(len(labels), len(layers), heads, dtype=torch.float64, device=labels.device)
    for number, (context, gradient) in enumerate(zip(contexts, gradients, strict=True)):
        left = heads_left(model, number)
        products = (context.detach().double() * gradient.double()).unflatten(-1, (len(left), -1))
        found[:, number, left] = products.sum((1, 3))
    return found.cpu()


def layer_normalised(sums: Tensor) -> Tensor:
    """(layers, heads) scores, each layer's divided by their Euclidean norm; a layer of zeros stays."""
    norms = sums.norm(dim=1, keepdim=True)
    return sums / torch.where(norms > 0, norms, torch.ones_like(norms))


def least_important(scores: Tensor, count: int, gone: Heads) -> dict[int, tuple[int, ...]]:
    """The ``count`` heads of least score over all layers, besides those that are ``gone``.

    Equal scores go in the order of layers and heads. Every layer keeps at least one head.
    """
    layers, heads = scores.shape
    values = scores.tolist()
    order = sorted((values[n][h], n, h) for n in range(layers) for h in range(heads))
    return take_heads([(layer, head) for _, layer, head in order], heads, count, gone)


def removal_path(
    model: NliModel, score: Score, counts: Sequence[int], at_once: int | None
) -> list[dict[int, tuple[int, ...]]]:
    """For each of ``counts``, in rising order: that many heads to remove from ``model``.

    ``at_once``: after so many heads are cut out the rest is scored anew; None: scored once. What goes
    for one count does not depend on the other counts. The model is not changed.
    """
    state = copy.deepcopy(model)
    scores = score(state)
    gone: dict[int, tuple[int, ...]] = {}
    path = []
    for count in counts:
        while at_once and count - _number(gone) > at_once:
            more = least_important(scores, at_once, state.removed_heads)
            prune_heads(state, more)
            gone = join_heads(gone, more)
            scores = score(state)
        rest = least_important(scores, count - _number(gone), state.removed_heads)
        path.append(join_heads(gone, rest))
    return path


def _number(removed: Heads) -> int:
    return sum(map(len, removed.values()))
