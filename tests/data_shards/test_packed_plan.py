"""Packed plans: entries in random order, each once, as many a micro-batch as the budget holds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.plan import Batching, Entries, EpochPlan, plan_epoch


def plan(lengths: np.ndarray, budget: int, m: int, window: int, epoch: int = 1) -> EpochPlan:
    entries = Entries(np.arange(len(lengths), dtype=np.int64), np.zeros(len(lengths), np.int32))
    batching = Batching(m, budget=budget, packed=True, window=window)
    shards = np.arange(len(lengths)) // 20
    return plan_epoch(entries, lengths, shards, seed=3, epoch=epoch, batching=batching)


def micro_batches(made: EpochPlan) -> list[np.ndarray]:
    bounds = zip(made.offsets, made.offsets[1:], made.counted, strict=False)
    return [made.rows[start:stop] for start, stop, counted in bounds if counted]


@given(
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=200),
    budget=st.integers(1, 600),
    m=st.integers(1, 4),
    window=st.integers(1, 300),
)
@settings(max_examples=150, deadline=None)
def test_every_entry_once_within_the_budget(lengths: list[int], budget: int, m: int, window: int) -> None:
    size = np.array(lengths)
    made = plan(size, budget, m, window)
    pieces = micro_batches(made)
    assert sorted(np.concatenate(pieces).tolist()) == list(range(len(lengths)))
    assert all(len(piece) == 1 or size[piece].sum() <= budget for piece in pieces)
    assert len(made.counted) % m == 0


def test_micro_batches_are_full_and_mixed() -> None:
    size = np.random.default_rng(1).integers(5, 60, 3000)
    pieces = micro_batches(plan(size, 1000, 2, 10**6))
    filled = [int(size[piece].sum()) for piece in pieces]
    assert sum(filled) / (1000 * len(filled)) > 0.96
    # Long and short texts stand beside each other, in another order in each epoch.
    assert all(np.ptp(size[piece]) > 20 for piece in pieces[:-1])
    other = micro_batches(plan(size, 1000, 2, 10**6, epoch=2))
    assert not np.array_equal(pieces[0], other[0])
