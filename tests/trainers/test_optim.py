"""Schedules are pure functions of the step; vectors are not decayed."""

from __future__ import annotations

import pytest
import torch

from configs.schema import OptimConfig
from trainers.optim import build_optimizer, learning_rate, parameter_groups


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_warmup_then_decay(schedule: str) -> None:
    config = OptimConfig(lr=1.0, schedule=schedule, warmup=0.1)  # type: ignore[arg-type]
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([(n + 1) / 10 for n in range(10)])
    assert max(rates) == 1.0
    after = rates[10:]
    if schedule == "constant":
        assert set(after) == {1.0}
    else:
        assert all(a > b for a, b in zip(after, after[1:], strict=False))
        assert 0 < after[-1] < 0.02
        assert after[45] == pytest.approx(0.5, abs=0.02)


def test_decay_spares_vectors() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    groups = parameter_groups(model, 0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert [len(group["params"]) for group in groups] == [1, 3]
    model[0].weight.requires_grad_(False)
    assert len(parameter_groups(model, 0.1)) == 1


def test_one_step_is_torchs_adam() -> None:
    for kind, peer in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)):
        torch.manual_seed(0)
        ours, theirs = torch.nn.Linear(5, 2), torch.nn.Linear(5, 2)
        theirs.load_state_dict(ours.state_dict())
        config = OptimConfig(kind=kind, lr=0.1, betas=(0.8, 0.9))  # type: ignore[arg-type]
        first = build_optimizer(ours, config)
        second = peer(theirs.parameters(), lr=0.1, betas=(0.8, 0.9), weight_decay=0.0)
        for _ in range(3):
            x = torch.randn(7, 5)
            for model, optimizer in ((ours, first), (theirs, second)):
                optimizer.zero_grad()
                model(x).pow(2).sum().backward()
                optimizer.step()
        torch.testing.assert_close(ours.weight, theirs.weight)
