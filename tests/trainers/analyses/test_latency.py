"""A smaller model's time does not depend on what else the machine did meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.ranks import RankPool
from trainers.analyses import latency
from trainers.ranks.world import World

Ranks = Callable[[int], RankPool]


class Clock:
    """A machine that is busier with every forward pass, and four times as busy from the 20th on."""

    def __init__(self) -> None:
        self.now, self.passes = 0.0, 0

    def perf_counter(self) -> float:
        return self.now


class Costly(nn.Module):
    """Takes ``seconds`` on an idle machine."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def forward(self, _: Tensor) -> None:
        load = 1 + 0.002 * self.clock.passes + (3 if self.clock.passes >= 20 else 0)
        self.clock.now += load * self.seconds
        self.clock.passes += 1


def measured(world: World) -> tuple[float, list[float]]:
    """Milliseconds of a whole model and of three smaller ones, on that machine."""
    clock = Clock()
    models: list[Any] = [Costly(clock, seconds) for seconds in (0.02, 0.016, 0.01, 0.004)]
    timing = latency.ForwardTiming((torch.zeros(1),), 7, world)
    kept, latency.time = latency.time, SimpleNamespace(perf_counter=clock.perf_counter)
    try:
        whole = timing.measure(models[0])
        return whole, [timing.measure_beside(model, models[0], whole) for model in models[1:]]
    finally:
        latency.time = kept


def test_ratios_hold_on_a_busy_machine(ranks: Ranks) -> None:
    for whole, smaller in ranks(2).run(measured):
        assert whole == pytest.approx(20, rel=0.05)
        ratios = [one / whole for one in smaller]
        assert ratios == pytest.approx([0.8, 0.5, 0.2], rel=0.01)
