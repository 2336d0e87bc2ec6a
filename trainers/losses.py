"""What training minimises for each sample of a classification task."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from configs.errors import InputError
from configs.schema import LossConfig


class ClassLoss:
    """Cross entropy a sample, against class imbalance in training if the recipe says so.

    class_weights: a sample of a class with n of N training rows weighs (N / (classes * n)) **
    strength, scaled so that the mean weight over the training rows is 1.
    logit_adjusted: strength * log(n / N) is added to the class's logit in training (Menon et al.
    2021, "Long-tail learning via logit adjustment", arXiv 2007.07314, their equation 10).
    """

    def __init__(self, config: LossConfig, counts: NDArray[np.int64]) -> None:
        """``counts``: (classes,) training rows of each class, before balancing. Raises InputError
        where one has none, unless the loss is the plain one."""
        self.config = config
        if config.kind != "cross_entropy" and not counts.all():
            raise InputError(
                f"loss.kind: {config.kind} needs rows of every class in the training part; use "
                "cross_entropy or another split"
            )
        shares = torch.from_numpy(counts / counts.sum())
        weights = (1 / (len(counts) * shares.clamp(min=1e-12))) ** config.strength
        self._weights = (weights / (weights * shares).sum()).float()
        self._shift = (config.strength * shares.clamp(min=1e-12).log()).float()

    def __call__(self, logits: Tensor, labels: Tensor, training: bool) -> Tensor:
        """(batch, classes) logits, (batch,) labels -> (batch,) losses in float32. The plain cross
        entropy unless ``training``."""
        logits = logits.float()
        if not training or self.config.kind == "cross_entropy":
            return functional.cross_entropy(logits, labels, reduction="none")
        if self.config.kind == "logit_adjusted":
            shifted = logits + self._on(logits, self._shift)
            return functional.cross_entropy(shifted, labels, reduction="none")
        weights = self._on(logits, self._weights)
        return functional.cross_entropy(logits, labels, weight=weights, reduction="none")

    @staticmethod
    def _on(logits: Tensor, values: Tensor) -> Tensor:
        return values.to(logits.device, non_blocking=True)


def is_training(model: Any) -> bool:
    """Whether a module, or the engine around it, is in training mode."""
    module = model if isinstance(model, nn.Module) else model.module
    return bool(module.training)
