"""The samples that score attention heads, and the heads that a run removes by their importance.

A run chooses its heads once, at its first start, and keeps the choice as heads.json: rounding differs
between devices, and a run must not lose other heads when it goes on elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.errors import InputError
from configs.files import write_json
from configs.models import RegimeConfig
from data_shards.reader import Collate, Request, ShardReader
from data_shards.splits import Split
from trainers.models.bert_classifier import NliModel
from trainers.models.importance import layer_normalised, mask_gradients, removal_path
from trainers.models.pruning import Heads, check_heads, count_heads
from trainers.ranks.world import World
from trainers.task import Batch

CHOICE = "heads.json"
ITEMS = 32
"""Samples of a batch; does not depend on the recipe or the ranks, and so neither do scores."""


@dataclass(frozen=True)
class ScoringSamples:
    """The samples whose losses score the heads."""

    shards: Path
    rows: NDArray[np.int64]
    """Rows of the index, in shard order."""
    collate: Collate

    def batches(self, rank: int = 0, ranks: int = 1) -> Iterator[tuple[int, Batch]]:
        """One rank's share of the batches, each with its number."""
        shards = ShardReader(self.shards)
        for number in range(rank, -(-len(self.rows) // ITEMS), ranks):
            rows = self.rows[number * ITEMS : (number + 1) * ITEMS]
            request = Request(0, number, 0, rows, np.zeros(len(rows), np.int32), True)
            yield number, self.collate(request, [shards.item(int(row)) for row in rows])


def score_heads(model: NliModel, samples: ScoringSamples, device: torch.device, world: World) -> Tensor:
    """(layers, heads) layer-normalised importance, float64; the model is on ``device``.

    A collective call: ranks share the batches, and each gets the same scores, to the bit those of
    one rank.
    """
    model.eval()
    own = []
    for number, batch in samples.batches(world.rank, world.size):
        inputs = [tensor.to(device) for tensor in batch.inputs]
        own.append((number, mask_gradients(model, inputs, batch.labels.to(device)).abs().sum(0)))
    parts = [part for theirs in world.gather(own) for part in theirs]
    in_order = [sums for _, sums in sorted(parts, key=lambda part: part[0])]
    scores = layer_normalised(torch.stack(in_order).sum(0) / len(samples.rows))
    # Rank 0's: processors round differently, and ranks that cut other heads would score other models.
    return world.gather(scores)[0]


def choose_heads_once(
    build: Callable[[], NliModel],
    regime: RegimeConfig,
    samples: ScoringSamples,
    folder: Path,
    world: World,
) -> Heads:
    """The heads that a run's regime removes by importance from the model that ``build`` makes.

    A collective call. They are those that ``folder`` notes; where it notes none, the ranks score the
    heads together and rank 0 notes its choice there. Raises InputError where the share cannot be
    reached, or the note fits another model.
    """
    chosen = world.on_main(lambda: _read(folder, build))
    if chosen is None:
        model = world.main_first(build)
        chosen = world.gather(choose_by_importance(model, regime, samples, world))[0]
        document = {str(layer): list(gone) for layer, gone in chosen.items()}
        world.on_main(lambda: write_json(folder / CHOICE, document))
    return chosen


def choose_by_importance(
    model: NliModel, regime: RegimeConfig, samples: ScoringSamples, world: World
) -> dict[int, tuple[int, ...]]:
    """The heads that regime heads_removed takes from ``model`` as it is now. A collective call, which
    moves the model to the world's device.

    Raises InputError where the share cannot be reached.
    """
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    assert regime.heads_share is not None
    gone = sum(map(len, model.removed_heads.values()))
    count = count_heads(layers, heads, regime.heads_share, gone)
    at_once = round_size(layers * heads, regime.round_share)
    model.to(world.device)  # type: ignore[arg-type]
    path = removal_path(model, lambda m: score_heads(m, samples, world.device, world), [count], at_once)
    return path[0]


def round_size(total: int, round_share: float | None) -> int | None:
    """Heads of one round; at least one. None: all at once."""
    return None if round_share is None else max(1, int(round_share * total + 0.5))


def scoring_samples(
    shards: Path, split: Split, part: str, items: int | None, collate: Collate
) -> ScoringSamples:
    """The first ``items`` samples of a part, in shard order; None: all. InputError if it has none."""
    rows = split.rows(part)[:items]
    if not len(rows):
        raise InputError(f"split {split.name!r}: its {part} part is empty; no sample scores heads")
    return ScoringSamples(shards, rows, collate)


def _read(folder: Path, build: Callable[[], NliModel]) -> Heads | None:
    """The choice noted for such a model; None: there is none yet."""
    path = folder / CHOICE
    if not path.exists():
        return None
    model = build()
    try:
        given = {str(n): [int(head) for head in gone] for n, gone in json.loads(path.read_text()).items()}
        layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
        return check_heads(layers, heads, given, model.removed_heads, key=CHOICE)
    except (ValueError, AttributeError, TypeError, InputError) as error:
        raise InputError(
            f"{CHOICE} of the run fits no such model ({error}); start it anew (--resume never)"
        ) from None
