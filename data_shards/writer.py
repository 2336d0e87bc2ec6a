"""Encoded samples -> WebDataset tar shards with an index, written beside the target and renamed.

Everything lands in ``<out>.packing`` and becomes ``<out>`` in one rename, so an interrupted or
failed run leaves what was there before. Tars carry no times or owners: packing twice gives the
same bytes.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.files import put_in_place, settle
from data_shards.columns import GrowingColumns
from data_shards.index import MANIFEST, Kind, Manifest, ShardFile, digest_of, write_index
from data_shards.sample import EncodedSample


@contextmanager
def staging(out: Path, overwrite: bool) -> Iterator[Path]:
    """A folder that replaces ``out`` when the block ends well and vanishes when it does not."""
    check_free(out, overwrite)
    partial = out.with_name(out.name + ".packing")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        put_in_place(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_free(out: Path, overwrite: bool) -> None:
    """Raise InputError if ``out`` is there and may not be replaced. Shards that a packing had set aside
    when it was killed are put back first."""
    if old := settle(out):
        print(f"{out}: put back from {old.name}, a packing was killed in replacing it", file=sys.stderr)
    if out.exists():
        if not overwrite:
            raise InputError(f"{out}: exists already; pack elsewhere with --out or add --overwrite")
        if any(out.iterdir()) and not (out / MANIFEST).exists():
            raise InputError(f"{out}: not a packed corpus, so --overwrite will not replace it")


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
    notes: Mapping[str, int] | None = None,
    first_shard: int = 0,
) -> Manifest:
    """Write shards, numbered from ``first_shard``, and index into the existing, empty folder ``out``.

    Holds one sample and the growing index columns (about 60 bytes a sample and its key). ``notes``
    are facts on the corpus as a whole; what the samples themselves note is counted and added.
    Raises InputError on a key that occurs twice (once all is written) or an empty corpus.
    """
    columns = GrowingColumns()
    shards: list[ShardFile] = []
    for number, part in enumerate(_parts(samples, samples_per_shard), first_shard):
        path = out / f"{corpus}-{number:06d}.tar"
        names = write_tar(path, _noted(part, columns, number))
        columns.place(payload_offsets(path, names))
        shards.append(ShardFile(path.name, len(names), path.stat().st_size, sha256_of(path)))
    if not shards:
        raise InputError(f"corpus {corpus}: no samples found")
    arrays, values = columns.finish()
    counts = Counter(notes or {})
    counts.update(columns.notes)
    manifest = Manifest(
        corpus=corpus,
        kind=kind,
        synthetic=synthetic,
        payload=columns.payload,
        samples=len(columns),
        labels=values.pop("label"),
        speakers=values.pop("speaker"),
        groups={name.removeprefix("group-"): v for name, v in values.items()},
        shards=tuple(shards),
        settings=settings,
        notes=dict(sorted(counts.items())),
        digest=digest_of(arrays),
    )
    write_index(out, manifest, arrays)
    return manifest


def write_tar(path: Path, samples: Iterable[EncodedSample]) -> list[str]:
    """Write one deterministic WebDataset shard; return the names of its payload members."""
    import webdataset

    names: list[str] = []
    with (
        path.open("wb") as stream,
        webdataset.TarWriter(
            stream, user="", group="", mode=0o644, encoder=False, mtime=0, format="PAX_FORMAT"
        ) as writer,
    ):
        for sample in samples:
            writer.write({"__key__": sample.key, **sample.members})
            names.append(f"{sample.key}.{next(iter(sample.members))}")
    return names


def payload_offsets(path: Path, names: list[str]) -> list[int]:
    """Read the finished tar back and return where each of the named members' contents start."""
    with tarfile.open(path, "r:") as tar:
        starts = {member.name: member.offset_data for member in tar}
    return [starts[name] for name in names]


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _parts(samples: Iterable[EncodedSample], size: int) -> Iterator[Iterator[EncodedSample]]:
    """Runs of ``size`` samples, each to be used up before the next; none is held."""
    rest = iter(samples)
    for first in rest:
        yield chain([first], islice(rest, size - 1))


def _noted(samples: Iterable[EncodedSample], columns: GrowingColumns, shard: int) -> Iterator[EncodedSample]:
    for sample in samples:
        columns.add(shard, sample)
        yield sample
