"""Raw corpus -> shard folder: loads and encodes in parallel, writes in one process.

Samples are ordered by a hash of their keys, so that neighbours in a shard are not neighbours in
the corpus. The order, and with it every byte of the result, does not depend on the number of
processes. Memory holds the list of the corpus, about 100 bytes a sample (their order, then the
columns of the index) and a few chunks of samples.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from array import array
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.errors import InputError
from data_shards.corpora.corpus import Corpus
from data_shards.index import Manifest, key_order, open_index
from data_shards.parallel import cores, encode_in_pool, encode_one
from data_shards.sample import AUDIO_FORMATS, SAMPLE_RATE, AudioFormat, EncodedSample, check_key
from data_shards.writer import choose_samples_per_shard, staging, write_shards

Progress = Callable[[int, int], None]
"""Called with the samples done and the samples there are."""
AUDIO_SHARD_LIMIT = 400
"""400 clips of 30 s are 400 MB: more in one file is clumsy to copy, and to lose."""
CHUNK = {"audio": 8, "text": 64, "prose": 64}
"""Samples that a process takes at a time: small enough to keep memory flat and the end short."""
IN_PROCESS = {"audio": 600, "text": 3000, "prose": 3000}
"""Corpora up to this size are packed without starting processes, unless a number of them is asked
for: some seconds of work, which is what importing torch or hazm costs in each process."""


@dataclass(frozen=True)
class PackSettings:
    """How a corpus is packed."""

    audio_format: AudioFormat = "wav"
    """wav is 16-bit PCM, flac the same samples compressed without loss."""
    processes: int | None = None
    """Packing processes; None: one a core, or none but this one for a small corpus."""
    readers: int = 16
    """Ranks x workers that should find four shards each, where the corpus allows."""
    samples_per_shard: int | None = None
    """Overrides the choice made from ``readers``."""
    overwrite: bool = False
    """Replace an existing shard folder, once the new one is complete."""


@dataclass(frozen=True)
class Layout:
    """Which samples lie in which shard: shard k holds the k-th run of ``samples_per_shard`` of them."""

    order: NDArray[np.int64]
    """(samples,) positions in ``corpus.items``."""
    keys: str
    """SHA-256 over the keys' digests in that order: other samples have another one."""
    samples_per_shard: int
    facts: dict[str, Any]
    """What the index says of how the corpus was packed."""

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return -(-len(self.order) // self.samples_per_shard)


class PackInterrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM came while packing; everything has been cleaned up. One line to print."""


def pack(
    corpus: Corpus,
    out: Path,
    settings: PackSettings | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Pack a corpus into the folder ``out``, which appears when it is complete.

    Raises InputError for the first bad sample (in shard order, so always the same one), for
    duplicate keys and for a packing process that was killed, and PackInterrupted on SIGINT or
    SIGTERM; in each case nothing is left behind and an older ``out`` is as it was. Processes are
    spawned: a script that calls this needs the usual ``if __name__ == "__main__"``.
    """
    settings = settings or PackSettings()
    layout = lay_out(corpus, settings)
    with interruptible(out), staging(Path(out), settings.overwrite) as partial:
        return write_range(
            corpus,
            settings,
            layout,
            range(layout.shards),
            partial,
            layout.facts,
            corpus.notes,
            progress,
        )


def lay_out(corpus: Corpus, settings: PackSettings) -> Layout:
    """Decide what goes where. Raises InputError as ``shard_order`` does, and on wrong settings."""
    _check_settings(settings)
    order, keys = _ordered(corpus)
    if settings.samples_per_shard is not None:
        samples_per_shard = settings.samples_per_shard
    else:
        samples_per_shard = choose_samples_per_shard(len(order), settings.readers)
        if corpus.kind == "audio":
            samples_per_shard = min(samples_per_shard, AUDIO_SHARD_LIMIT)
    facts: dict[str, Any] = {**corpus.settings, "samples_per_shard": samples_per_shard}
    if corpus.kind == "audio":
        facts["audio_format"] = settings.audio_format
    return Layout(order, keys, samples_per_shard, facts)


def write_range(
    corpus: Corpus,
    settings: PackSettings,
    layout: Layout,
    shards: range,
    out: Path,
    facts: dict[str, Any],
    notes: dict[str, int],
    progress: Progress | None,
) -> Manifest:
    """Encode the samples of consecutive shards and write these, with an index of their own that
    says ``facts`` and ``notes``, into the existing, empty folder ``out``."""
    size = layout.samples_per_shard
    order = layout.order[shards.start * size : shards.stop * size]
    encoded = _encode(corpus, order, settings)
    try:
        return write_shards(
            _counted(encoded, len(order), progress),
            out,
            corpus=corpus.name,
            kind=corpus.kind,
            synthetic=corpus.synthetic,
            samples_per_shard=size,
            settings=facts,
            notes=notes,
            first_shard=shards.start,
        )
    finally:
        encoded.close()  # ends the processes at once when writing failed


def shard_order(corpus: Corpus) -> NDArray[np.int64]:
    """(samples,) positions in ``corpus.items`` in the order of their keys' BLAKE2b digests.

    Raises InputError on an empty corpus, a key that shards cannot hold, or one that occurs twice.
    """
    return _ordered(corpus)[0]


def _ordered(corpus: Corpus) -> tuple[NDArray[np.int64], str]:
    """``shard_order``, and the SHA-256 over the keys' digests in that order."""
    halves = (array("Q"), array("Q"))
    for item in corpus.items:
        digest = key_order(check_key(corpus.key(item)))
        halves[0].append(int.from_bytes(digest[:8]))
        halves[1].append(int.from_bytes(digest[8:]))
    if not halves[0]:
        raise InputError(f"corpus {corpus.name}: no samples found")
    high, low = (np.frombuffer(half, np.uint64) for half in halves)
    order = np.lexsort((low, high))
    # Keys that occur twice are neighbours now. The first one that repeats an earlier one is told.
    after, before = order[1:], order[:-1]
    repeats = after[(high[after] == high[before]) & (low[after] == low[before])]
    if len(repeats):
        key = corpus.key(corpus.items[int(repeats.min())])
        raise InputError(f"corpus {corpus.name}: the key {key!r} occurs twice; keys must be unique")
    keys = hashlib.sha256(high[order].data)
    keys.update(low[order].data)
    return order.astype(np.int64, copy=False), keys.hexdigest()


def summarise(out: Path, seconds: float) -> str:
    """What was packed, for people: size, time and rate, labels, and what was changed on the way."""
    index = open_index(out)
    manifest = index.manifest
    size = sum(shard.bytes for shard in manifest.shards) / 1e6
    synthetic = "synthetic " if manifest.synthetic else ""
    hours = f" ({index.length.sum(dtype=np.int64) / SAMPLE_RATE / 3600:.2f} h)"
    lines = [
        f"{manifest.corpus}: {len(index)} {synthetic}{manifest.kind} samples"
        f"{hours if manifest.kind == 'audio' else ''} in {len(manifest.shards)} shards, "
        f"{size:.1f} MB, {seconds:.1f} s ({len(index) / max(seconds, 1e-9):.0f} samples/s)"
    ]
    counts = np.bincount(index.label, minlength=len(manifest.labels))
    pairs = zip(manifest.labels, counts.tolist(), strict=True)
    lines.append("labels: " + ", ".join(f"{label} {count}" for label, count in pairs))
    if manifest.speakers:
        lines.append(f"speakers: {len(manifest.speakers)}")
    lines += [f"note: {note}: {count}" for note, count in sorted(manifest.notes.items())]
    return "\n".join(lines)


def _check_settings(settings: PackSettings) -> None:
    if settings.audio_format not in AUDIO_FORMATS:
        raise InputError(f"audio format {settings.audio_format!r}: must be {' or '.join(AUDIO_FORMATS)}")
    for name in ("processes", "readers", "samples_per_shard"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise InputError(f"{name.replace('_', ' ')} is {value}; it must be at least 1")


def _encode(
    corpus: Corpus, order: NDArray[np.int64], settings: PackSettings
) -> Generator[EncodedSample, None, None]:
    """All samples, encoded, in order; a generator whose close() ends what it started."""
    chunk = CHUNK[corpus.kind]
    small = len(order) <= IN_PROCESS[corpus.kind]
    processes = settings.processes or (1 if small else cores())
    processes = min(processes, -(-len(order) // chunk))
    items = (corpus.items[int(n)] for n in order)
    if processes == 1:
        for item in items:
            yield encode_one(corpus.load, corpus.key, item, settings.audio_format)
    else:
        yield from encode_in_pool(corpus.load, corpus.key, items, settings.audio_format, processes, chunk)


def _counted(
    samples: Iterator[EncodedSample], total: int, progress: Progress | None
) -> Iterator[EncodedSample]:
    for done, sample in enumerate(samples, 1):
        yield sample
        if progress is not None:
            progress(done, total)


@contextmanager
def interruptible(out: Path) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into PackInterrupted; ignore more while cleaning up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers can be set in the main thread only; the caller's stay in charge
        return
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stop(number: int, frame: object) -> None:
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        raise PackInterrupted(
            f"interrupted by {signal.Signals(number).name}; nothing was written to {os.fspath(out)}"
        )

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
