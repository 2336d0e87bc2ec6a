"""(index, split, lengths, seed, epoch, batching) -> which samples each micro-batch of an epoch holds.

Pure NumPy, no I/O, no torch: every rank computes the same plan and reads only its part of it.
Random numbers come from raw PCG64 output and stable sorts alone, because NumPy's own shuffles and
default sort may order differently between versions and processors, and ranks would silently part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import Balance

Rows = NDArray[np.int64]
Copies = NDArray[np.int32]


@dataclass(frozen=True)
class Entries:
    """What an epoch consists of, before it is ordered."""

    rows: Rows
    """(entries,) rows of the index."""
    copies: Copies
    """(entries,) 0: the sample as it is; n >= 1: its n-th changed version."""

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Batching:
    """How a plan cuts entries into steps, in the unit of the given lengths."""

    micro_batches: int
    """Micro-batches of a global step (M)."""
    items: int | None = None
    """Entries of a global step; None: micro-batches of similar length under `budget`."""
    budget: int = 0
    """Padded length that a micro-batch may hold; a longer entry is alone in its own."""
    packed: bool = False
    """Entries are laid one behind the other, in random order: the budget is their sum."""
    window: int = 1_000_000
    """Entries shuffled together."""


@dataclass(frozen=True)
class EpochPlan:
    """The micro-batches of all global steps of an epoch, as flat arrays (CSR)."""

    rows: Rows
    copies: Copies
    offsets: NDArray[np.int64]
    """(steps * M + 1,) micro-batch m of step s is entries offsets[s*M+m] : offsets[s*M+m+1]."""
    counted: NDArray[np.bool_]
    """(steps * M,) False: a filler that repeats an entry, so that every micro-batch has one; its
    loss and predictions do not count."""
    micro_batches: int

    @property
    def steps(self) -> int:
        """Global steps."""
        return len(self.counted) // self.micro_batches

    def items(self, step: int) -> int:
        """Entries of a global step, fillers not counted."""
        m = self.micro_batches
        sizes = np.diff(self.offsets[step * m : (step + 1) * m + 1])
        return int(sizes[self.counted[step * m : (step + 1) * m]].sum())

    def digest(self) -> str:
        """SHA-256 of the plan: equal on every rank, NumPy version and processor."""
        state = hashlib.sha256(str(self.micro_batches).encode())
        for array in (self.rows, self.copies, self.offsets, self.counted):
            state.update(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
        return state.hexdigest()


def random_keys(n: int, *seed: int) -> NDArray[np.uint64]:
    """(n,) raw 64-bit random numbers that depend on ``seed`` alone."""
    generator: Any = np.random.PCG64(np.random.SeedSequence(list(seed)))
    return np.asarray(generator.random_raw(n), np.uint64).reshape(n)


def permutation(n: int, *seed: int) -> Rows:
    """A random order of 0..n-1 that depends on ``seed`` alone."""
    return np.argsort(random_keys(n, *seed), kind="stable").astype(np.int64)


def select_entries(rows: Rows, labels: NDArray[Any], balance: Balance, seed: int, epoch: int = 1) -> Entries:
    """The entries of an epoch: ``rows`` (labels beside them), balanced to the majority's count.

    A class of n rows beside a majority of N gets every row N // n times and N % n rows, drawn by
    ``seed``, once more. ``reference`` marks every entry of a minority class as changed, originals
    included; ``clean`` only the copies. ``sampled`` keeps the number of rows and draws anew in every
    ``epoch``; to the others an epoch is like any other.
    """
    if balance == "none" or len(rows) == 0:
        return Entries(rows.astype(np.int64), np.zeros(len(rows), np.int32))
    if balance == "sampled":
        return _sampled(rows, labels, seed, epoch)
    classes, counts = np.unique(labels, return_counts=True)
    majority = int(counts.max())
    first = 1 if balance == "reference" else 0
    out_rows, out_copies = [], []
    for label, count in zip(classes.tolist(), counts.tolist(), strict=True):
        members = rows[labels == label].astype(np.int64)
        if count == majority:
            out_rows.append(members)
            out_copies.append(np.zeros(count, np.int32))
            continue
        repeats = np.full(count, majority // count, np.int64)
        repeats[permutation(count, seed, 1, label)[: majority % count]] += 1
        out_rows.append(np.repeat(members, repeats))
        starts = np.repeat(np.cumsum(repeats) - repeats, repeats)
        out_copies.append((np.arange(majority) - starts + first).astype(np.int32))
    return Entries(np.concatenate(out_rows), np.concatenate(out_copies))


def _sampled(rows: Rows, labels: NDArray[Any], seed: int, epoch: int) -> Entries:
    """As many unchanged entries as rows, the classes' numbers at most one apart.

    Which classes get one more is drawn by (``seed``, ``epoch``), and so is which rows of a class stand
    for it: all of them as often as they fit in, the rest without repeats.
    """
    classes, counts = np.unique(labels, return_counts=True)
    wanted = np.full(len(classes), len(rows) // len(classes), np.int64)
    wanted[permutation(len(classes), seed, epoch, 8)[: len(rows) % len(classes)]] += 1
    drawn = []
    for label, count, number in zip(classes.tolist(), counts.tolist(), wanted.tolist(), strict=True):
        repeats = np.full(count, number // count, np.int64)
        repeats[permutation(count, seed, epoch, 9, label)[: number % count]] += 1
        drawn.append(np.repeat(rows[labels == label].astype(np.int64), repeats))
    return Entries(np.concatenate(drawn), np.zeros(len(rows), np.int32))


def plan_epoch(
    entries: Entries,
    lengths: NDArray[Any],
    shards: NDArray[Any],
    *,
    seed: int,
    epoch: int,
    batching: Batching,
) -> EpochPlan:
    """Order and cut one training epoch.

    ``lengths`` and ``shards`` are whole columns of the index, looked up by row. Every entry occurs
    exactly once among the counted micro-batches. A corpus beyond the window is dealt, shard by
    shard, to M lanes; micro-batch m draws from lane m, so that a node reads its shards in order.
    """
    m = batching.micro_batches
    if len(entries) <= batching.window:
        order = permutation(len(entries), seed, epoch, 2)
        pieces = _cut(order, entries, lengths, batching, m, seed, epoch, 0)
        steps = [pieces[n : n + m] for n in range(0, len(pieces), m)]
    else:
        steps = _lanes(entries, lengths, shards, batching, seed, epoch)
    return _assemble(entries, [_exactly(m, step) for step in steps], m)


def plan_evaluation(
    entries: Entries, lengths: NDArray[Any] | None, *, items: int, micro_batches: int
) -> EpochPlan:
    """Every entry once, ``items`` a micro-batch, longest first if ``lengths`` are given.

    Micro-batches are the same whatever ``micro_batches`` is; the last step is filled up.
    """
    order = np.arange(len(entries), dtype=np.int64)
    if lengths is not None:
        order = np.argsort(-np.asarray(lengths)[entries.rows].astype(np.int64), kind="stable")
    pieces = [order[n : n + items] for n in range(0, len(order), items)]
    steps = [pieces[n : n + micro_batches] for n in range(0, len(pieces), micro_batches)]
    return _assemble(entries, steps, micro_batches)


def _cut(
    order: Rows,
    entries: Entries,
    lengths: NDArray[Any],
    batching: Batching,
    per_step: int,
    *seed: int,
) -> list[Rows]:
    """Cut one shuffled window into micro-batches, ``per_step`` of them a step."""
    if batching.items is not None:
        share = batching.items * per_step // batching.micro_batches
        steps = [order[n : n + share] for n in range(0, len(order), share)]
        return [piece for step in steps for piece in _exactly(per_step, [step])]
    if batching.packed:
        return _packed(order, np.asarray(lengths)[entries.rows[order]], batching.budget)
    size = quantise(np.asarray(lengths)[entries.rows[order]])
    by_length = order[np.argsort(size, kind="stable")]
    pieces = _under_budget(by_length, np.sort(size, kind="stable"), batching.budget)
    return [pieces[n] for n in permutation(len(pieces), *seed, 3)]


def quantise(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Round lengths up to one of 16 values an octave: near-equal lengths mix in buckets."""
    lengths = np.maximum(np.asarray(lengths, np.int64), 1)
    octave = np.zeros(len(lengths), np.int64)
    for bit in range(1, 40):
        octave += lengths >= (1 << bit)
    unit = np.int64(1) << np.maximum(octave - 4, 0)
    return (lengths + unit - 1) // unit * unit


def _under_budget(order: Rows, size: NDArray[np.int64], budget: int) -> list[Rows]:
    """Cut rising sizes greedily so that (entries x longest) stays within the budget."""
    pieces, start, total = [], 0, len(order)
    while start < total:
        count = max(1, min(total - start, budget // int(size[start])))
        while count > 1 and count * int(size[start + count - 1]) > budget:
            count = max(1, min(count - 1, budget // int(size[start + count - 1])))
        pieces.append(order[start : start + count])
        start += count
    return pieces


def _packed(order: Rows, size: NDArray[Any], budget: int) -> list[Rows]:
    """Cut an order greedily so that the entries' sizes sum up to the budget at most."""
    ends = np.cumsum(size, dtype=np.int64)
    pieces, start, before = [], 0, 0
    while start < len(order):
        stop = max(start + 1, int(np.searchsorted(ends, before + budget, side="right")))
        pieces.append(order[start:stop])
        start, before = stop, int(ends[stop - 1])
    return pieces


def _lanes(
    entries: Entries, lengths: NDArray[Any], shards: NDArray[Any], batching: Batching, seed: int, epoch: int
) -> list[list[Rows]]:
    """Steps of a corpus that does not fit the window."""
    m = batching.micro_batches
    lanes = [
        _lane(order, entries, lengths, batching, lane, seed, epoch)
        for lane, order in enumerate(_deal(np.asarray(shards)[entries.rows], m, seed, epoch))
    ]
    common = min(len(lane) for lane in lanes)
    steps = [[lane[n] for lane in lanes] for n in range(common)]
    # What longer lanes have left is dealt anew over all of them.
    rest = [piece for lane in lanes for piece in lane[common:]]
    if rest:
        left = np.concatenate(rest)
        left = left[permutation(len(left), seed, epoch, 4)]
        pieces = _cut(left, entries, lengths, batching, m, seed, epoch, m)
        steps += [pieces[n : n + m] for n in range(0, len(pieces), m)]
    return steps


def _deal(shard: NDArray[Any], lanes: int, seed: int, epoch: int) -> Iterator[Rows]:
    """Deal whole shards, in random order, to the lane that has least; entries in shard order."""
    numbers, counts = np.unique(shard, return_counts=True)
    order = permutation(len(numbers), seed, epoch, 5)
    loads = [0] * lanes
    lane_of = np.zeros(len(numbers), np.int64)
    for n in order.tolist():
        lane = loads.index(min(loads))
        lane_of[n] = lane
        loads[lane] += int(counts[n])
    place = np.empty(len(numbers), np.int64)
    place[order] = np.arange(len(numbers))
    position = np.searchsorted(numbers, shard)
    entry_lane, entry_place = lane_of[position], place[position]
    by_place = np.argsort(entry_place, kind="stable")
    for lane in range(lanes):
        yield by_place[entry_lane[by_place] == lane]


def _lane(
    order: Rows, entries: Entries, lengths: NDArray[Any], batching: Batching, lane: int, seed: int, epoch: int
) -> list[Rows]:
    """Micro-batches of one lane, window by window."""
    window = max(1, batching.window // batching.micro_batches)
    share = 1
    if batching.items is not None:
        m = batching.micro_batches
        share = batching.items * (lane + 1) // m - batching.items * lane // m
        window = max(window // share, 1) * share
    pieces: list[Rows] = []
    for start in range(0, len(order), window):
        part = order[start : start + window]
        part = part[permutation(len(part), seed, epoch, 6, lane, start)]
        if batching.items is not None:
            pieces += [part[n : n + share] for n in range(0, len(part), share)]
        else:
            pieces += _cut(part, entries, lengths, batching, 1, seed, epoch, lane, start)
    return pieces


def _exactly(count: int, pieces: list[Rows]) -> list[Rows]:
    """Halve the largest pieces until there are ``count``, or nothing is left to halve."""
    if len(pieces) == 1:
        return [part for part in np.array_split(pieces[0], count) if len(part)]
    pieces = list(pieces)
    while len(pieces) < count:
        sizes = [len(piece) for piece in pieces]
        largest = sizes.index(max(sizes))
        if sizes[largest] == 1:
            break
        pieces[largest : largest + 1] = np.array_split(pieces[largest], 2)
    return pieces


def _assemble(entries: Entries, steps: list[list[Rows]], micro_batches: int) -> EpochPlan:
    """Lay the steps out flat, filling short ones with zero-weight micro-batches."""
    pieces: list[Rows] = []
    counted: list[bool] = []
    for step in steps:
        missing = micro_batches - len(step)
        pieces += [*step, *([step[0][:1]] * missing)]
        counted += [True] * len(step) + [False] * missing
    order = np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
    offsets = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum([len(piece) for piece in pieces], out=offsets[1:])
    return EpochPlan(
        entries.rows[order],
        entries.copies[order],
        offsets,
        np.array(counted, np.bool_),
        micro_batches,
    )
