"""Optimizer and learning-rate schedule. The schedule is a pure function of the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from configs.schema import OptimConfig


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """The rate of global step ``step`` (0 is the first) of ``steps``."""
    warmup = math.ceil(config.warmup * steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    left = (steps - step) / max(1, steps - warmup)
    if config.schedule == "linear":
        return config.lr * left
    return config.lr * 0.5 * (1 + math.cos(math.pi * (1 - left)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters; vectors (biases, normalisation weights) are not decayed."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """torch's own Adam or AdamW in its fused form: DeepSpeed's needs a compiler at run time."""
    kind = torch.optim.Adam if config.kind == "adam" else torch.optim.AdamW
    groups = parameter_groups(model, config.weight_decay)
    return kind(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
