"""Optimizer, its groups of parameters, and the learning-rate schedule, a pure function of the step."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import nn

from configs.schema import OptimConfig
from trainers.models.hubert import EmotionModel


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """The base rate of global step ``step`` (0 is the first) of ``steps``."""
    warmup = math.ceil(config.warmup * steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    left = (steps - step) / max(1, steps - warmup)
    if config.schedule == "linear":
        return config.lr * left
    return config.lr * 0.5 * (1 + math.cos(math.pi * (1 - left)))


def rate_scales(model: nn.Module, config: OptimConfig) -> dict[str, float]:
    """By name, what each parameter's learning rate is as a multiple of the base rate.

    The topmost encoder layer has 1, each one below ``layer_decay`` times that of the one above, and
    what lies below the first layer once more: embeddings, convolutions, feature projection,
    positions (discriminative fine-tuning, Howard and Ruder 2018, arXiv 1801.06146). What is neither,
    so BERT's pooler and classifier and HuBERT's head, has ``head_lr`` over ``lr``.
    """
    layers = {name: _layer_of(name, model) for name, _ in model.named_parameters()}
    top = max((layer for layer in layers.values() if layer is not None), default=0)
    head = 1.0 if config.head_lr is None else config.head_lr / config.lr
    return {
        name: head if layer is None else config.layer_decay ** (top - layer) for name, layer in layers.items()
    }


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Trainable parameters, in groups of one rate each; ``lr_scale`` is its multiple of the base.

    Vectors (biases, normalisation weights) are not decayed. Groups stand in the order of rising
    rates, the decayed one of each rate first; parameters in the model's order.
    """
    scales = rate_scales(model, config)
    members: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members.setdefault((scales[name], parameter.ndim <= 1), []).append(parameter)
    return [
        {
            "params": members[scale, vector],
            "weight_decay": 0.0 if vector else config.weight_decay,
            "lr_scale": scale,
        }
        for scale, vector in sorted(members)
    ]


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """torch's own Adam or AdamW in its fused form: DeepSpeed's needs a compiler at run time."""
    kind = torch.optim.Adam if config.kind == "adam" else torch.optim.AdamW
    groups = parameter_groups(model, config)
    return kind(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def set_rate(optimizer: Any, rate: float) -> None:
    """Give every group its multiple of the base rate. ``optimizer`` may be DeepSpeed's."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def _layer_of(name: str, model: nn.Module) -> int | None:
    """A parameter's encoder layer, counted from 1; 0: below the first; None: above the encoder."""
    found = re.match(r"(?:bert\.encoder\.layer|hubert\.encoder\.layers)\.(\d+)\.", name)
    if found:
        return int(found[1]) + 1
    if name.startswith("hubert.encoder.layer_norm.") and isinstance(model, EmotionModel):
        # Behind the last layer in models that normalise there, before the first in the others.
        return len(model.hubert.encoder.layers) if model.architecture.do_stable_layer_norm else 0
    return 0 if name.startswith(("bert.", "hubert.")) and ".pooler." not in name else None
