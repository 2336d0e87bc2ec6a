"""The data side of a run: which entries each part has, their plans, and loaders for one rank."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.errors import InputError
from configs.schema import Recipe
from data_shards.derive import make_pitched
from data_shards.index import ShardIndex, open_index
from data_shards.plan import (
    Batching,
    Entries,
    EpochPlan,
    plan_epoch,
    plan_evaluation,
    select_entries,
)
from data_shards.reader import Augmentation, MicroBatches, RankRequests, open_loader
from data_shards.splits import (
    PARTS,
    Split,
    check_classes,
    label_counts,
    speaker_counts,
    speaker_overlap,
    table_digest,
)
from data_shards.staging import forget
from trainers.ranks.staging import stage
from trainers.ranks.world import World
from trainers.task import Batch, Task

_PATIENCE = 300.0
"""Seconds that a batch may take in any case: what reading processes import can lie on a slow file system."""


@dataclass(frozen=True)
class RunData:
    """One corpus, split and task as seen by one rank."""

    recipe: Recipe
    index: ShardIndex
    split: Split
    task: Task
    world: World
    _plans: dict[int, EpochPlan] = field(default_factory=dict, repr=False, compare=False)
    """The last training plan that was made, by its epoch: it is asked for several times."""

    def check(self) -> None:
        """Raise InputError where training cannot work: an untaught class, too few samples."""
        check_classes(self.index, self.split, ("train",))
        for part in PARTS:
            if len(self.entries(part)) == 0:
                raise InputError(f"split {self.split.name!r}: its {part} part is empty")
        plan = self.training_plan(1).digest()
        if len(set(self.world.gather((self.index.manifest.digest, plan)))) > 1:
            raise InputError(
                f"{self.index.root}: not the same shards on all ranks; copy them anew to every node"
            )
        samples = len(self.entries("train"))
        if samples < self.world.size:
            raise InputError(
                f"{self.index.root}: {samples} training samples are fewer than {self.world.size} ranks; "
                f"use at most {samples} ranks"
            )
        _ = self.shards, self.augmentation  # made now, not when the first batch is due

    @cached_property
    def augmentation(self) -> Augmentation | None:
        """How changed entries are made; the pitch-shifted clips are made now if they are missing."""
        data = self.recipe.data
        if data.balance in ("none", "sampled"):
            return None
        pitched = self.world.main_first(lambda: make_pitched(self.index, self.split, data.augment))
        if pitched and data.stage:
            pitched = stage(open_index(pitched), data.stage, self.world)
        # The reference report made its changed rows once, before training.
        once = data.balance == "reference"
        return Augmentation(data.augment, self.recipe.seed, pitched, same_every_epoch=once)

    @cached_property
    def shards(self) -> Path:
        """Where batches are read: the shards themselves, or this node's copy, made now if need be.
        Splits, derived sets and token counts stay with the shards, for all nodes."""
        folder = self.recipe.data.stage
        return stage(self.index, folder, self.world) if folder else self.index.root

    @cached_property
    def lengths(self) -> NDArray[np.int32]:
        """(samples,) in frames or tokens."""
        return self.task.lengths()

    def entries(self, part: str, epoch: int = 1) -> Entries:
        """What a part consists of: train is balanced as the recipe says, the others are as they are.

        ``epoch`` matters to balance ``sampled`` alone, and there to which rows are drawn, not to how
        many.
        """
        rows = self.split.rows(part)
        labels = np.asarray(self.index.label)[rows]
        balance = self.recipe.data.balance if part == "train" else "none"
        return select_entries(rows, labels, balance, self.recipe.seed, epoch)

    def training_plan(self, epoch: int) -> EpochPlan:
        """The plan of an epoch, counted from 1."""
        if epoch not in self._plans:
            self._plans.clear()  # a big corpus has room for one
            self._plans[epoch] = self._make_plan(epoch)
        return self._plans[epoch]

    def _make_plan(self, epoch: int) -> EpochPlan:
        batching = self.recipe.batching
        budget = int(batching.budget * self.task.per_unit)
        cut = Batching(
            batching.micro_batches,
            items=batching.items if batching.kind == "fixed" else None,
            budget=budget,
            packed=batching.kind == "packed",
            window=batching.window,
        )
        entries = self.entries("train", epoch)
        return plan_epoch(
            entries,
            self.lengths,
            self.index.shard,
            seed=self.recipe.seed,
            epoch=epoch,
            batching=cut,
        )

    def evaluated_entries(self, part: str) -> Entries:
        """What an evaluation of a part reads: its entries; of a sampled train part, which has other
        entries in every epoch, every row."""
        if self.recipe.data.balance == "sampled":
            rows = self.split.rows(part).astype(np.int64)
            return Entries(rows, np.zeros(len(rows), np.int32))
        return self.entries(part)

    def evaluation_plan(self, part: str) -> EpochPlan:
        """Every entry that an evaluation of a part reads, once."""
        evaluation = self.recipe.evaluation
        lengths = self.lengths if evaluation.sort_by_length else None
        return plan_evaluation(
            self.evaluated_entries(part),
            lengths,
            items=evaluation.items,
            micro_batches=self.recipe.batching.micro_batches,
        )

    def total_steps(self) -> int:
        """Global steps of the whole run: the horizon of the learning-rate schedule."""
        limit = self.recipe.loop.max_steps
        return min(self.planned_steps, limit) if limit else self.planned_steps

    @cached_property
    def planned_steps(self) -> int:
        """Global steps of all epochs."""
        epochs, recipe = self.recipe.loop.epochs, self.recipe
        one_window = len(self.entries("train")) <= recipe.batching.window
        same_lengths = recipe.batching.kind == "buckets" and recipe.data.balance != "sampled"
        if one_window and (recipe.batching.kind == "fixed" or same_lengths):
            # It is cut at the same places whatever its order.
            return epochs * self.training_plan(1).steps
        return sum(self.training_plan(epoch).steps for epoch in range(1, epochs + 1))

    def batches(self, plan: EpochPlan, epoch: int, first_step: int = 0) -> Iterator[list[Batch]]:
        """This rank's micro-batches, one list a global step."""
        world = self.world
        dataset = MicroBatches(self.shards, self.task.collate, self.augmentation)
        requests = RankRequests(plan, epoch, world.rank, world.size, first_step)
        # A process more than there are micro-batches would only cost its start.
        workers = min(self.recipe.data.workers, len(requests))
        # Before the other ranks give this one up; alone, nobody would.
        patience = max(_PATIENCE, 0.9 * world.timeout.total_seconds())
        pin = world.device.type == "cuda"
        loader = open_loader(dataset, requests, workers, pin, patience)
        copies = [dataset.shards.root, dataset.pitched.root if dataset.pitched else None]
        return _grouped(self._doubting_copies(loader, copies), requests.per_rank)

    def _doubting_copies(self, batches: Iterator[Batch], copies: list[Path | None]) -> Iterator[Batch]:
        """A copy that cannot be read is compared with the shards at the next start."""
        try:
            yield from batches
        except InputError as error:
            if not self.recipe.data.stage:
                raise
            for folder in filter(None, copies):
                forget(folder)
            raise InputError(f"{error} (a copy of data.stage, which the next start mends)") from None

    def digests(self) -> dict[str, str]:
        """Of the corpus and of what each part of the split holds: a run can go on only with the same."""
        digests = {"corpus": self.index.manifest.digest}
        for part in PARTS:
            entries = self.entries(part)
            columns = entries.rows.astype("<i8"), entries.copies.astype("<i4")
            sha = hashlib.sha256(b"".join(column.tobytes() for column in columns))
            digests[part] = sha.hexdigest()[:16]
        return digests

    def describe(self) -> dict[str, Any]:
        """What ``data.json`` says."""
        counts = {}
        for part in PARTS:
            of_label = label_counts(self.index, self.split, part).tolist()
            counts[part] = dict(zip(self.index.manifest.labels, of_label, strict=True))
        manifest = self.index.manifest
        return {
            "corpus": manifest.corpus,
            "synthetic": manifest.synthetic,
            "kind": manifest.kind,
            "shards": str(self.index.root),
            "digest": manifest.digest,
            "split": self.split.name,
            "split_digest": table_digest(self.index.root, self.split.name),
            "protocol": self.split.protocol,
            "counts": counts,
            "train_entries": len(self.entries("train")),
            "speaker_overlap": speaker_overlap(self.index, self.split),
            "speakers": speaker_counts(self.index, self.split),
            "plan_digest": self.training_plan(1).digest(),
        }


def _grouped(batches: Iterator[Batch], size: int) -> Iterator[list[Batch]]:
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
