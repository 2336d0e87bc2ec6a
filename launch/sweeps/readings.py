"""What a training reads, planned as it would be, from the shards' index alone: no torch, no tokenizer.
Tokens are taken from the words that the index counts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from configs.schema import BatchingConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from data_shards.index import ShardIndex
    from data_shards.plan import EpochPlan

FRAMES = 50
"""HuBERT's frames a second of audio."""
_RATE = 16_000
_TOKENS_A_WORD, _MARKS = 1.3, 3
"""Word pieces of Persian words, about, and the marks around a pair."""


@dataclass(frozen=True)
class Reading:
    """An epoch, or a part to evaluate."""

    steps: int
    micro_batches: int
    items: int
    units: float
    """Padded tokens or frames."""
    squares: float
    """Tokens or frames times those of the same item, for attention."""


@lru_cache(maxsize=256)
def train_reading(
    shards: str, split: str, balance: str, batching: BatchingConfig, longest: float, kind: str
) -> Reading:
    """One epoch of training, planned as it would be."""
    from data_shards.index import open_index
    from data_shards.plan import Batching, plan_epoch, select_entries
    from data_shards.splits import load_split

    index = open_index(Path(shards))
    rows = load_split(index, split).rows("train")
    # What is drawn for each epoch has as many rows as the part itself.
    repeats = balance if balance in ("reference", "clean") else "none"
    entries = select_entries(rows, index.label[rows], repeats, 0)  # type: ignore[arg-type]
    lengths = _lengths(index, longest, kind)
    cut = Batching(
        batching.micro_batches,
        items=batching.items if batching.kind == "fixed" else None,
        budget=int(batching.budget * (FRAMES if kind == "audio" else 1)),
        packed=batching.kind == "packed",
        window=batching.window,
    )
    plan = plan_epoch(entries, lengths, index.shard, seed=0, epoch=1, batching=cut)
    return _reading(plan, lengths, packed=batching.kind == "packed")


@lru_cache(maxsize=256)
def part_reading(shards: str, split: str, part: str, items: int, longest: float, kind: str) -> Reading:
    """One evaluation of a part, its items sorted by length."""
    import numpy as np

    from data_shards.index import open_index
    from data_shards.plan import Entries, plan_evaluation
    from data_shards.splits import load_split

    index = open_index(Path(shards))
    rows = load_split(index, split).rows(part)
    lengths = _lengths(index, longest, kind)
    entries = Entries(rows, np.zeros(len(rows), np.int32))
    return _reading(plan_evaluation(entries, lengths, items=items, micro_batches=1), lengths)


def _lengths(index: ShardIndex, longest: float, kind: str) -> NDArray[np.int64]:
    """(samples,) frames or, about, tokens."""
    import numpy as np

    if kind == "audio":
        return np.ceil(np.minimum(index.length / _RATE, longest) * FRAMES).astype(np.int64)
    return np.minimum(index.length * _TOKENS_A_WORD + _MARKS, longest).astype(np.int64)


def _reading(plan: EpochPlan, lengths: NDArray[np.int64], packed: bool = False) -> Reading:
    """Every item of a micro-batch is as long as the longest; packed ones are not padded."""
    import numpy as np

    own = lengths[plan.rows].astype(np.float64)
    if packed:
        return Reading(plan.steps, len(plan.counted), len(own), own.sum(), (own**2).sum())
    sizes = np.diff(plan.offsets)
    longest = np.maximum.reduceat(own, plan.offsets[:-1]) if len(sizes) else own
    units = sizes * longest
    squares = float((units * longest).sum())
    return Reading(plan.steps, len(sizes), len(own), float(units.sum()), squares)
