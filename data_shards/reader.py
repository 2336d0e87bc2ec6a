"""Plan -> decoded, collated micro-batches through torch's DataLoader.

What crosses to a reading process is one request (a few rows of the plan) at a time: workers hold
an open index (memory-mapped) and a few open tars, never the plan or the corpus.
"""

from __future__ import annotations

import atexit
import math
import multiprocessing
import os
import sys
import time
import zlib
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.errors import InputError, MachineFault
from configs.lifetime import end_with_creator, signals_blocked
from configs.schema import AugmentConfig
from data_shards.augment import apply_change, draw_change, pitched_key
from data_shards.index import ShardIndex, key_order, open_index
from data_shards.plan import EpochPlan
from data_shards.sample import TextPair, decode_audio, decode_text

_OPEN_TARS = 32
_LOOK = 5.0
"""Seconds between looks whether a reading process from which a batch is awaited lives."""


@dataclass(frozen=True)
class Item:
    """One decoded entry of a micro-batch."""

    row: int
    label: int
    audio: NDArray[np.float32] | None = None
    """(samples,) at 16 kHz in [-1, 1)."""
    text: TextPair | None = None


@dataclass(frozen=True)
class Request:
    """One micro-batch of the plan, as sent to a reading process."""

    epoch: int
    step: int
    micro_batch: int
    rows: NDArray[np.int64]
    copies: NDArray[np.int32]
    counted: bool


Collate = Callable[[Request, Sequence[Item]], Any]


class RowCollate:
    """A collate that has at hand whatever it needs of a row: nothing is read for it, it is called with
    no items, in the training process."""


class ShardReader:
    """Random access to the payloads of a shard folder. Picklable; opens files where it is used."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._tars: OrderedDict[int, int] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_tars": OrderedDict()}

    @cached_property
    def index(self) -> ShardIndex:
        """The opened index."""
        return open_index(self.root)

    def payload(self, row: int) -> bytes:
        """The bytes of one sample. Raises InputError if they are not what was packed."""
        index = self.index
        shard, size = int(index.shard[row]), int(index.size[row])
        data = os.pread(self._tar(shard), size, int(index.offset[row]))
        if len(data) != size or zlib.crc32(data) != int(index.crc32[row]):
            raise InputError(
                f"{index.shard_path(shard)}: sample {index.key(row)!r} is damaged; pack the corpus again"
            )
        return data

    def item(self, row: int) -> Item:
        """One decoded sample."""
        label = int(self.index.label[row])
        if self.index.manifest.kind == "audio":
            return Item(row, label, audio=decode_audio(self.payload(row)))
        return Item(row, label, text=decode_text(self.payload(row)))

    def row_of(self, key: str) -> int:
        """Row of a key, found by bisection: a table of all keys would be large in every process."""
        index, wanted = self.index, key_order(key)
        row = bisect_left(range(len(index)), wanted, key=lambda row: key_order(index.key(row)))
        if row == len(index) or index.key(row) != key:
            raise InputError(f"{self.root}: has no sample {key!r}; delete that folder to have it made again")
        return row

    def _tar(self, shard: int) -> int:
        if shard in self._tars:
            self._tars.move_to_end(shard)
            return self._tars[shard]
        if len(self._tars) >= _OPEN_TARS:
            os.close(self._tars.popitem(last=False)[1])
        self._tars[shard] = os.open(self.index.shard_path(shard), os.O_RDONLY)
        return self._tars[shard]

    def __del__(self) -> None:
        for descriptor in self._tars.values():
            os.close(descriptor)


@dataclass(frozen=True)
class Augmentation:
    """How changed entries of a plan are made."""

    config: AugmentConfig
    seed: int
    pitched: Path | None
    """Derived shard set with the pitch-shifted clips; None: no clip is pitch-shifted."""
    same_every_epoch: bool = False
    """Draw the changes once, not anew in every epoch."""


class MicroBatches:
    """A map-style dataset: request -> collated micro-batch."""

    def __init__(self, root: Path, collate: Collate, augmentation: Augmentation | None) -> None:
        self.shards = ShardReader(root)
        self.collate = collate
        self.augmentation = augmentation
        pitched = augmentation and augmentation.pitched
        self.pitched = ShardReader(pitched) if pitched else None

    def __getitem__(self, request: Request) -> Any:
        if isinstance(self.collate, RowCollate):
            return self.collate(request, ())  # type: ignore[operator]
        pairs = zip(request.rows.tolist(), request.copies.tolist(), strict=True)
        return self.collate(request, [self._item(row, copy, request.epoch) for row, copy in pairs])

    def _item(self, row: int, copy: int, epoch: int) -> Item:
        if copy == 0:
            return self.shards.item(row)
        assert self.augmentation is not None, "a plan with changed copies needs an augmentation"
        config = self.augmentation.config
        epoch = 0 if self.augmentation.same_every_epoch else epoch
        change = draw_change(config, self.augmentation.seed, epoch, row, copy)
        if change.semitones and self.pitched:
            audio = self.pitched.item(self.pitched.row_of(pitched_key(row, change.semitones))).audio
        else:
            audio = self.shards.item(row).audio
        assert audio is not None, "only audio is changed"
        label = int(self.shards.index.label[row])
        return Item(row, label, audio=apply_change(audio, change, config.noise))


class RankRequests:
    """The requests of one rank for one epoch, in order, from a step on: a DataLoader's sampler."""

    def __init__(self, plan: EpochPlan, epoch: int, rank: int, ranks: int, first_step: int = 0) -> None:
        assert plan.micro_batches % ranks == 0
        self.plan, self.epoch, self.first_step = plan, epoch, first_step
        self.per_rank = plan.micro_batches // ranks
        self.first = rank * self.per_rank

    def __len__(self) -> int:
        return (self.plan.steps - self.first_step) * self.per_rank

    def __iter__(self) -> Iterator[Request]:
        plan = self.plan
        for step in range(self.first_step, plan.steps):
            for m in range(self.first, self.first + self.per_rank):
                n = step * plan.micro_batches + m
                part = slice(int(plan.offsets[n]), int(plan.offsets[n + 1]))
                yield Request(self.epoch, step, m, plan.rows[part], plan.copies[part], bool(plan.counted[n]))


class _Caught:
    """Hands an InputError over as a value: DataLoader would bury its line in a traceback."""

    def __init__(self, dataset: MicroBatches) -> None:
        self.dataset = dataset

    def __getitem__(self, request: Request) -> Any:
        try:
            return self.dataset[request]
        except InputError as error:
            return error


def open_loader(
    dataset: MicroBatches,
    requests: RankRequests,
    workers: int,
    pin: bool,
    patience: float = math.inf,
) -> Iterator[Any]:
    """Iterate over the micro-batches of a rank.

    Workers come from a fork server: a process forked after gloo or CUDA is up can deadlock. It
    imports what they need once, so that each starts in milliseconds, and they start now, not with
    the first batch. Raises InputError for a damaged sample, when its batch is
    due, and for a worker that was killed; MachineFault if a batch has not come within ``patience``
    seconds.
    """
    from torch.utils.data import DataLoader

    if isinstance(dataset.collate, RowCollate):
        workers = 0
    context = multiprocessing.get_context("forkserver") if workers else None
    if context is not None:
        context.set_forkserver_preload([type(dataset.collate).__module__])
        _start_fork_server()
    loader: Any = DataLoader(
        _Caught(dataset),  # type: ignore[arg-type]
        sampler=requests,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        pin_memory=pin,
        multiprocessing_context=context,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_prepare_worker if workers else None,
        # Not `patience`: whether a process has died is looked at when this has passed, no sooner.
        timeout=_LOOK if workers else 0.0,
    )
    return _raising(_patient(iter(loader), patience))


def _start_fork_server() -> None:
    """Start it, and so all workers, such that a signal to every process of a job leaves them at work
    until this process has saved."""
    _end_workers_at_exit()
    with signals_blocked():
        resource_tracker.ensure_running()
    with signals_blocked():  # once more: starting the tracker lifts the block of some signals
        forkserver.ensure_running()


@cache
def _end_workers_at_exit() -> None:
    def end_workers() -> None:
        # multiprocessing would send SIGTERM, which they hold back, and wait for ever.
        for process in multiprocessing.active_children():
            if isinstance(process, ForkServerProcess):
                process.kill()

    atexit.register(end_workers)


def _prepare_worker(worker: int) -> None:
    # torch has a worker watch its parent, which is the fork server; that lives as long as a worker.
    end_with_creator()
    sys.excepthook = _tell


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A rank that is killed while it takes a batch leaves the thread that hands it over without a
    listener; the launcher says who was killed, and a traceback of that thread would only hide it."""
    if not isinstance(error, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)


def _patient(batches: Iterator[Any], patience: float) -> Iterator[Any]:
    """Wait for each batch for ``patience`` seconds, in turns: after one, torch can be asked again."""
    asked = time.monotonic()
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader timed out" not in str(error):
                raise
            if time.monotonic() - asked > patience:
                raise MachineFault(
                    f"no batch has come for {patience / 60:g} min: a reading process hangs; does the "
                    "file system with the shards answer?"
                ) from None
            continue
        yield batch
        asked = time.monotonic()


def _raising(batches: Iterator[Any]) -> Iterator[Any]:
    try:
        for batch in batches:
            if isinstance(batch, InputError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise InputError(
            "a reading process was killed, most likely for lack of memory or of space in /dev/shm; "
            "use fewer with --data.workers"
        ) from None
