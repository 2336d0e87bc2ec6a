"""Encoded samples -> WebDataset tar shards with an index, written beside the target and renamed.

Everything lands in ``<out>.packing`` and becomes ``<out>`` in one rename, so an interrupted or
failed run leaves what was there before. Tars carry no times or owners: packing twice gives the
same bytes.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import InputError
from data_shards.index import MANIFEST, Kind, Manifest, ShardFile, columns_of, write_index
from data_shards.sample import EncodedSample


@dataclass
class _Shard:
    """The tar being written, with what the index will say of its samples."""

    path: Path
    samples: list[EncodedSample] = field(default_factory=list)


@contextmanager
def staging(out: Path, overwrite: bool) -> Iterator[Path]:
    """A folder that replaces ``out`` when the block ends well and vanishes when it does not."""
    if out.exists():
        if not overwrite:
            raise InputError(f"{out}: exists already; pack elsewhere with --out or add --overwrite")
        if any(out.iterdir()) and not (out / MANIFEST).exists():
            raise InputError(f"{out}: not a packed corpus, so --overwrite will not replace it")
    partial = out.with_name(out.name + ".packing")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if out.exists():
            old = out.with_name(out.name + ".replaced")
            shutil.rmtree(old, ignore_errors=True)
            out.rename(old)
            partial.rename(out)
            shutil.rmtree(old)
        else:
            partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def choose_samples_per_shard(samples: int, readers: int) -> int:
    """Samples a shard so that ``readers`` (ranks x workers) get four shards each where possible.

    Never below 4 samples (a tar's padding would dominate) nor above 1000.
    """
    return max(4, min(1000, samples // (4 * readers)))


def write_shards(
    samples: Iterable[EncodedSample],
    out: Path,
    *,
    corpus: str,
    kind: Kind,
    synthetic: bool,
    samples_per_shard: int,
    settings: dict[str, Any],
) -> Manifest:
    """Write shards and index into the existing, empty folder ``out``. Holds one shard's samples.

    Raises InputError on a duplicate key or an empty corpus.
    """
    rows = _Rows()
    shards: list[ShardFile] = []
    for number, batch in enumerate(_batches(samples, samples_per_shard)):
        path = out / f"{corpus}-{number:06d}.tar"
        write_tar(path, batch)
        rows.add(number, batch, payload_offsets(path, batch))
        data = path.stat().st_size
        shards.append(ShardFile(path.name, len(batch), data, sha256_of(path)))
    if not shards:
        raise InputError(f"corpus {corpus}: no samples found")
    return rows.finish(out, corpus, kind, synthetic, tuple(shards), settings)


def write_tar(path: Path, samples: list[EncodedSample]) -> None:
    """One deterministic WebDataset shard."""
    import webdataset

    with path.open("wb") as stream:
        writer = webdataset.TarWriter(
            stream, user="", group="", mode=0o644, encoder=False, mtime=0, format="PAX_FORMAT"
        )
        for sample in samples:
            writer.write({"__key__": sample.key, **sample.members})
        writer.close()


def payload_offsets(path: Path, samples: list[EncodedSample]) -> list[int]:
    """Read the finished tar back and return where each sample's payload starts in it."""
    with tarfile.open(path, "r:") as tar:
        starts = {member.name: member.offset_data for member in tar}
    return [starts[f"{s.key}.{next(iter(s.members))}"] for s in samples]


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _batches(samples: Iterable[EncodedSample], size: int) -> Iterator[list[EncodedSample]]:
    batch: list[EncodedSample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class _Rows:
    """Collects the index columns while shards are written: a few dozen bytes a sample."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.seen: set[str] = set()
        self.numbers: list[tuple[int, int, int, int, int]] = []
        self.labels: list[str] = []
        self.speakers: list[str] = []
        self.groups: list[dict[str, str]] = []
        self.notes: Counter[str] = Counter()
        self.payload = ""

    def add(self, shard: int, samples: list[EncodedSample], offsets: list[int]) -> None:
        for sample, offset in zip(samples, offsets, strict=True):
            if sample.key in self.seen:
                raise InputError(f"sample key {sample.key!r} occurs twice; keys must be unique")
            self.seen.add(sample.key)
            self.keys.append(sample.key)
            self.payload, payload = next(iter(sample.members.items()))
            self.numbers.append((shard, offset, len(payload), zlib.crc32(payload), sample.length))
            self.labels.append(sample.label)
            self.speakers.append(sample.speaker)
            self.groups.append(sample.groups)
            self.notes.update(sample.notes)

    def finish(
        self, out: Path, corpus: str, kind: Kind, synthetic: bool,
        shards: tuple[ShardFile, ...], settings: dict[str, Any],
    ) -> Manifest:  # fmt: skip
        table = np.array(self.numbers, np.int64)
        labels = sorted(set(self.labels))
        speakers = sorted(set(self.speakers) - {""})
        names = sorted({name for groups in self.groups for name in groups})
        values = {n: sorted({groups.get(n, "") for groups in self.groups}) for n in names}
        columns: dict[str, np.ndarray] = {
            "shard": table[:, 0].astype(np.int32),
            "offset": table[:, 1],
            "size": table[:, 2].astype(np.int32),
            "crc32": table[:, 3].astype(np.uint32),
            "length": table[:, 4].astype(np.int32),
            "label": codes(self.labels, labels, np.int16),
            "speaker": codes(self.speakers, speakers, np.int32),
        }
        for name in names:
            column = [groups.get(name, "") for groups in self.groups]
            columns[f"group-{name}"] = codes(column, values[name], np.int16)
        columns, digest = columns_of(self.keys, columns)
        manifest = Manifest(
            corpus=corpus, kind=kind, synthetic=synthetic, payload=self.payload,
            samples=len(self.keys), labels=tuple(labels), speakers=tuple(speakers),
            groups={n: tuple(v) for n, v in values.items()}, shards=shards, settings=settings,
            notes=dict(sorted(self.notes.items())), digest=digest,
        )  # fmt: skip
        write_index(out, manifest, columns)
        return manifest


def codes(values: list[str], vocabulary: list[str], dtype: Any) -> np.ndarray:
    """Positions of ``values`` in ``vocabulary``; -1 for one that is not there."""
    position = {value: n for n, value in enumerate(vocabulary)}
    return np.array([position.get(value, -1) for value in values], dtype)
