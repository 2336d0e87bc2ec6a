"""Plans: every entry its planned count, equal steps, a function of their arguments alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.plan import (
    Batching,
    Entries,
    EpochPlan,
    permutation,
    plan_epoch,
    plan_evaluation,
    quantise,
    select_entries,
)
from data_shards.reader import RankRequests
from tests.data_shards.plan_digests import DIGESTS, compute


def make_entries(n: int) -> Entries:
    return Entries(np.arange(n, dtype=np.int64) * 3, np.zeros(n, np.int32))


def counted_entries(plan: EpochPlan) -> list[tuple[int, int]]:
    """(row, copy) of everything that counts, sorted."""
    parts = [
        slice(a, b)
        for a, b, counted in zip(plan.offsets, plan.offsets[1:], plan.counted, strict=False)
        if counted
    ]
    return sorted(
        (int(row), int(copy))
        for part in parts
        for row, copy in zip(plan.rows[part], plan.copies[part], strict=True)
    )


plans = st.fixed_dictionaries(
    {
        "n": st.integers(1, 300),
        "micro_batches": st.integers(1, 6),
        "items": st.one_of(st.none(), st.integers(1, 40)),
        "budget": st.integers(1, 4000),
        "window": st.integers(1, 400),
        "shard_size": st.integers(1, 50),
        "seed": st.integers(0, 5),
        "epoch": st.integers(1, 3),
    }
)


def build(case: dict[str, int | None]) -> tuple[EpochPlan, Entries, np.ndarray]:
    n, m, items = case["n"], case["micro_batches"], case["items"]
    assert n is not None and m is not None
    entries = make_entries(n)
    lengths = np.zeros(3 * n, np.int32)
    lengths[entries.rows] = 1 + (np.arange(n) * 7919) % 997
    shards = np.repeat(np.arange(3 * n), case["shard_size"])[: 3 * n]
    batching = Batching(
        m,
        items=None if items is None else max(items, m),
        budget=int(case["budget"] or 1),
        window=int(case["window"] or 1),
    )
    seed, epoch = int(case["seed"] or 0), int(case["epoch"] or 1)
    plan = plan_epoch(entries, lengths, shards, seed=seed, epoch=epoch, batching=batching)
    return plan, entries, lengths


@given(plans)
@settings(max_examples=150, deadline=None)
def test_every_entry_is_planned_once_in_whole_steps(case: dict[str, int | None]) -> None:
    plan, entries, _ = build(case)
    expected = sorted(zip(entries.rows.tolist(), entries.copies.tolist(), strict=True))
    assert counted_entries(plan) == expected
    assert len(plan.counted) == plan.steps * plan.micro_batches
    assert (np.diff(plan.offsets) >= 1).all()
    assert sum(plan.items(step) for step in range(plan.steps)) == len(entries)
    assert all(plan.items(step) > 0 for step in range(plan.steps))


@given(plans)
@settings(max_examples=50, deadline=None)
def test_a_plan_is_determined_by_its_arguments(case: dict[str, int | None]) -> None:
    assert build(case)[0].digest() == build(case)[0].digest()


@given(plans)
@settings(max_examples=60, deadline=None)
def test_buckets_stay_under_their_budget(case: dict[str, int | None]) -> None:
    case["items"] = None
    plan, _, lengths = build(case)
    for a, b in zip(plan.offsets, plan.offsets[1:], strict=False):
        size = lengths[plan.rows[a:b]]
        assert len(size) == 1 or len(size) * size.max() <= (case["budget"] or 1)


@given(plans, st.sampled_from([1, 2, 3, 4, 6]))
@settings(max_examples=60, deadline=None)
def test_ranks_share_the_same_global_steps(case: dict[str, int | None], ranks: int) -> None:
    case["micro_batches"] = 12
    plan, _, _ = build(case)
    whole = [(r.step, r.micro_batch, r.rows.tolist()) for r in RankRequests(plan, 1, 0, 1)]
    parts = [RankRequests(plan, 1, rank, ranks) for rank in range(ranks)]
    assert len({len(part) for part in parts}) == 1
    shared = sorted((r.step, r.micro_batch, r.rows.tolist()) for part in parts for r in part)
    assert shared == whole
    assert all(len(list(part)) == len(part) for part in parts)


def test_epochs_and_seeds_differ() -> None:
    case = dict(n=100, micro_batches=2, items=10, budget=1, window=400, shard_size=5, seed=0, epoch=1)
    first = build(case)[0].digest()
    assert first != build({**case, "epoch": 2})[0].digest()
    assert first != build({**case, "seed": 1})[0].digest()


def test_lanes_read_their_shards_in_order() -> None:
    n, m, window = 4000, 4, 400
    entries = Entries(np.arange(n, dtype=np.int64), np.zeros(n, np.int32))
    shards = np.arange(n) // 50
    batching = Batching(m, items=16, window=window)
    plan = plan_epoch(entries, np.ones(n, int), shards, seed=0, epoch=1, batching=batching)
    for lane in range(m):
        seen = [
            int(s)
            for step in range(plan.steps - 20)  # the rest is dealt anew at the end
            for s in shards[plan.rows[plan.offsets[step * m + lane] : plan.offsets[step * m + lane + 1]]]
        ]
        order = list(dict.fromkeys(seen))
        # A shard that has been left for more than a window is never visited again.
        last = {shard: max(i for i, s in enumerate(seen) if s == shard) for shard in order}
        first = {shard: seen.index(shard) for shard in order}
        assert all(last[shard] - first[shard] <= window // m + 50 for shard in order)


def test_balancing_counts_and_marks() -> None:
    labels = np.array([0] * 10 + [1] * 4 + [2] * 3)
    rows = np.arange(100, 117)
    for balance, first in (("reference", 1), ("clean", 0)):
        entries = select_entries(rows, labels, balance, seed=3)  # type: ignore[arg-type]
        of_label = labels[entries.rows - 100]
        assert np.bincount(of_label).tolist() == [10, 10, 10]
        assert (entries.copies[of_label == 0] == 0).all()
        minority = entries.copies[of_label != 0]
        assert minority.min() == first
        per_row = np.bincount(entries.rows - 100)
        assert set(per_row[10:14]) == {2, 3} and set(per_row[14:]) == {3, 4}
        pairs = set(zip(entries.rows.tolist(), entries.copies.tolist(), strict=True))
        assert len(pairs) == len(entries)
    plain = select_entries(rows, labels, "none", seed=3)
    assert len(plain) == 17 and not plain.copies.any()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=7), st.integers(0, 5), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_sampling_draws_classes_equally_often(sizes: list[int], seed: int, epoch: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.arange(len(labels)) * 3 + 5
    entries = select_entries(rows, labels, "sampled", seed, epoch)
    assert len(entries) == len(rows) and not entries.copies.any()
    times = np.bincount((entries.rows - 5) // 3, minlength=len(rows))
    assert set(entries.rows.tolist()) <= set(rows.tolist())
    of_class = [times[labels == label] for label in range(len(sizes))]
    counts = [int(part.sum()) for part in of_class]
    assert max(counts) - min(counts) <= 1
    # No row is drawn again before all of its class have been.
    assert all(part.max() - part.min() <= 1 for part in of_class)


def test_sampling_draws_anew_in_every_epoch() -> None:
    labels = np.repeat([4, 7, 9], [50, 20, 11])
    rows = np.arange(81)

    def drawn(seed: int, epoch: int) -> list[int]:
        return select_entries(rows, labels, "sampled", seed, epoch).rows.tolist()

    assert drawn(0, 1) == drawn(0, 1)
    assert len({tuple(drawn(seed, epoch)) for seed in (0, 1) for epoch in (1, 2, 3)}) == 6
    seen = {row for epoch in range(1, 9) for row in drawn(0, epoch)}
    assert seen == set(range(81)), "every row has its turn"
    for balance in ("none", "reference", "clean"):
        epochs = [select_entries(rows, labels, balance, 0, epoch) for epoch in (1, 2)]  # type: ignore[arg-type]
        assert epochs[0].rows.tolist() == epochs[1].rows.tolist()


def test_the_reference_report_trains_on_2538_rows() -> None:
    labels = np.repeat(np.arange(6), [423, 15, 81, 411, 180, 90])
    entries = select_entries(np.arange(1200), labels, "reference", seed=0)
    assert len(entries) == 2538
    assert (entries.copies == 0).sum() == 423


@given(st.integers(1, 200), st.integers(1, 30), st.integers(1, 5), st.booleans())
@settings(max_examples=50, deadline=None)
def test_evaluation_sees_every_entry_once(n: int, items: int, m: int, by_length: bool) -> None:
    entries = make_entries(n)
    lengths = (np.arange(3 * n) * 31) % 101 if by_length else None
    plan = plan_evaluation(entries, lengths, items=items, micro_batches=m)
    expected = sorted(zip(entries.rows.tolist(), entries.copies.tolist(), strict=True))
    assert counted_entries(plan) == expected
    alone = plan_evaluation(entries, lengths, items=items, micro_batches=1)
    pieces = [
        plan.rows[a:b].tolist()
        for a, b, c in zip(plan.offsets, plan.offsets[1:], plan.counted, strict=False)
        if c
    ]
    whole = [alone.rows[a:b].tolist() for a, b in zip(alone.offsets, alone.offsets[1:], strict=False)]
    assert pieces == whole


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=200))
def test_quantised_lengths_are_close_and_ordered(values: list[int]) -> None:
    lengths = np.array(values)
    rounded = quantise(lengths)
    assert (rounded >= np.maximum(lengths, 1)).all()
    assert (rounded <= np.maximum(lengths, 1) * (1 + 1 / 16)).all()
    order = np.argsort(lengths, kind="stable")
    assert (np.diff(rounded[order]) >= 0).all()


def test_buckets_pad_little_on_lengths_like_speech() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    lengths = np.clip(np.exp(rng.standard_normal(3000) * 0.75 + 5.05), 20, 1650).astype(int)
    entries = Entries(np.arange(3000), np.zeros(3000, np.int32))

    def padding(batching: Batching) -> float:
        plan = plan_epoch(entries, lengths, np.zeros(3000), seed=0, epoch=1, batching=batching)
        pieces = [lengths[plan.rows[a:b]] for a, b in zip(plan.offsets, plan.offsets[1:], strict=False)]
        return float(1 - sum(p.sum() for p in pieces) / sum(p.max() * len(p) for p in pieces))

    assert padding(Batching(1, budget=4000)) < 0.06 < 0.4 < padding(Batching(1, items=16))


def test_permutation_is_one() -> None:
    assert sorted(permutation(1000, 1, 2).tolist()) == list(range(1000))
    assert permutation(1000, 1, 2).tolist() != permutation(1000, 2, 1).tolist()


@pytest.mark.parametrize("name", sorted(DIGESTS))
def test_stored_digests(name: str) -> None:
    """Also run under NumPy 2 by ``make numpy2``: ranks with different NumPys agree."""
    assert compute(name) == DIGESTS[name]
