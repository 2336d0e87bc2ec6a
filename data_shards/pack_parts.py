"""Packing split over jobs: parts of whole shards, each packed by itself, then joined into one folder.

A part is a run of consecutive shards with an index of their own, in ``<folder>/part-NNNN``; which
samples they hold follows from the list of the corpus alone, so parts know nothing of each other.
Joining them gives the very bytes that ``pack`` writes: the shards as they are, and the columns one
after the other, categories numbered anew over all parts.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from configs.errors import InputError
from data_shards.corpora.corpus import Corpus
from data_shards.index import Manifest, ShardIndex, digest_of, open_index, write_index
from data_shards.join_columns import join_columns
from data_shards.pack import Layout, PackSettings, Progress, interruptible, lay_out, write_range
from data_shards.parallel import cores
from data_shards.part_checks import check_contents, check_identity, damaged, identity, open_part
from data_shards.writer import check_free, staging


@dataclass(frozen=True)
class PackedPart:
    """What there is of one part."""

    part: int
    parts: int
    samples: int
    shards: int
    """0 where there are more parts than shards: such a part has no folder."""
    anew: bool
    """False where it was found complete."""


def parts_folder(out: Path) -> Path:
    """Where the parts of ``out`` are kept until they are joined."""
    return out.with_name(out.name + ".parts")


def part_path(folder: Path, part: int) -> Path:
    """Folder of one part; parts are counted from 1."""
    return folder / f"part-{part:04d}"


def shards_of(part: int, parts: int, shards: int) -> range:
    """The consecutive shards that fall to a part, as even as can be."""
    return range((part - 1) * shards // parts, part * shards // parts)


def pack_part(
    corpus: Corpus,
    settings: PackSettings,
    part: int,
    parts: int,
    folder: Path,
    progress: Progress | None = None,
) -> PackedPart:
    """Pack part ``part`` (1 to ``parts``) of a corpus, unless it is there, whole and of the same
    corpus and settings; a damaged one is packed again.

    Where another process packs it, this one waits for it. Raises InputError as ``pack`` does, and
    for a part that was packed otherwise.
    """
    if not 1 <= part <= parts:
        raise InputError(f"part {part} of {parts}: parts are counted from 1")
    layout = lay_out(corpus, settings)
    shards = shards_of(part, parts, layout.shards)
    if not shards:
        return PackedPart(part, parts, 0, 0, anew=False)
    path = part_path(folder, part)
    with interruptible(path), _held(path):
        manifest = _complete(path, corpus, layout, part, parts, settings.processes or cores())
        anew = manifest is None
        if manifest is None:
            with staging(path, overwrite=True) as partial:
                manifest = write_range(
                    corpus,
                    settings,
                    layout,
                    shards,
                    partial,
                    identity(layout, part, parts),
                    {},
                    progress,
                )
    return PackedPart(part, parts, manifest.samples, len(manifest.shards), anew)


def missing_parts(corpus: Corpus, settings: PackSettings, parts: int, folder: Path) -> tuple[list[int], int]:
    """The parts that still have to be packed, judged by their indices and sizes, and how many parts
    there are: not more than shards. Raises InputError for a part that was packed otherwise."""
    layout = lay_out(corpus, settings)
    parts = min(parts, layout.shards)
    missing: list[int] = []
    for part in range(1, parts + 1):
        try:
            index = open_index(part_path(folder, part))
        except InputError:
            missing.append(part)
        else:
            check_identity(index, corpus, layout, part, parts)
    return missing, parts


def merge_parts(
    corpus: Corpus,
    settings: PackSettings,
    folder: Path,
    out: Path,
    progress: Progress | None = None,
) -> Manifest:
    """Join all parts in ``folder`` into ``out``, which is then what ``pack`` would have made.

    The parts are read once, to check them, and removed when ``out`` is there. ``progress`` is told
    of checked shards. Raises InputError for a part that is missing, damaged or was packed
    otherwise; the others stay.
    """
    check_free(out, settings.overwrite)
    _find_parts(folder)  # before anything is made there
    layout = lay_out(corpus, settings)
    with interruptible(out), _held(folder / "part-all"):
        parts = _open_parts(corpus, layout, folder)
        check_contents(parts, settings.processes or cores(), progress)
        with staging(out, settings.overwrite) as partial:
            for part in parts:
                for shard in part.manifest.shards:
                    _link(part.root / shard.name, partial / shard.name)
            manifest = _join(corpus, layout, parts, partial)
        # Gone only now: linked, not moved, so that nothing is lost with an interrupted merge.
        for path in folder.glob("part-*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with suppress(OSError):
            folder.rmdir()  # unless it holds what is not ours
    return manifest


def _join(corpus: Corpus, layout: Layout, parts: Sequence[ShardIndex], out: Path) -> Manifest:
    """Write the index of all parts together."""
    columns, values = join_columns(parts)
    notes = Counter(corpus.notes)
    for part in parts:
        notes.update(part.manifest.notes)
    manifest = Manifest(
        corpus=corpus.name,
        kind=corpus.kind,
        synthetic=corpus.synthetic,
        payload=parts[-1].manifest.payload,
        samples=sum(map(len, parts)),
        labels=values.pop("label"),
        speakers=values.pop("speaker"),
        groups={name.removeprefix("group-"): v for name, v in values.items()},
        shards=tuple(shard for part in parts for shard in part.manifest.shards),
        settings=layout.facts,
        notes=dict(sorted(notes.items())),
        digest=digest_of(columns),
    )
    write_index(out, manifest, columns)
    return manifest


def _open_parts(corpus: Corpus, layout: Layout, folder: Path) -> list[ShardIndex]:
    """All parts, in order; how many there must be, the ones that are there say."""
    found = _find_parts(folder)
    parts = open_part(found[0]).manifest.settings.get("parts")
    if not isinstance(parts, int):
        raise InputError(f"{found[0]}: not a part of a corpus; remove it")
    opened: list[ShardIndex] = []
    for part in range(1, parts + 1):
        shards = shards_of(part, parts, layout.shards)
        path = part_path(folder, part)
        if not shards:
            continue
        if not path.exists():
            raise InputError(f"{path}: missing; pack part {part}/{parts} first")
        index = open_part(path)
        check_identity(index, corpus, layout, part, parts)
        names = [shard.name for shard in index.manifest.shards]
        if names != [f"{corpus.name}-{number:06d}.tar" for number in shards]:
            raise damaged(path, "other shards than its own")
        opened.append(index)
    return opened


def _find_parts(folder: Path) -> list[Path]:
    """Folders of parts, whichever there are. Raises InputError if there is none."""
    found = [path for path in sorted(folder.glob("part-*")) if path.name[5:].isdecimal()]
    if not found:
        raise InputError(f"{folder}: holds no packed parts; pack them first, with --part")
    return found


def _complete(
    path: Path, corpus: Corpus, layout: Layout, part: int, parts: int, processes: int
) -> Manifest | None:
    """The manifest of a part that is there and whole. Raises InputError if it is another one."""
    if not path.exists():
        return None
    try:
        index = open_index(path)
    except InputError:
        return None  # damaged; staging refuses what is no packed folder at all
    check_identity(index, corpus, layout, part, parts)
    try:
        check_contents([index], processes, None)
    except InputError:
        return None
    return index.manifest


def _link(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where the file system has none of these."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keep other processes away from a part, on all nodes whose file system knows locks: a job that
    was started anew may meet what is left of its former self."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that packs {path}", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks
        yield
