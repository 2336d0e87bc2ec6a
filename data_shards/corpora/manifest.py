"""Any corpus, described by a table: one row a clip or a text pair.

csv, tsv and jsonl are read (by suffix; a .csv whose header is separated by tabs is read as such),
UTF-8, one row a line. Columns:

    audio  path, label [, speaker, split, key, gender]
    text   premise, hypothesis, label [, speaker, split, key, gender]

``path`` is relative to the manifest's folder, or absolute. ``split`` is train, validation (val,
valid, dev) or test and becomes the group source_split. ``key`` names the sample; without it a clip
is called by its path (``a/b c.wav`` -> ``a-b_c``; by its bare name if it lies outside the
manifest's folder) and a pair by its row (``row-00001``). ``gender`` and columns called
``group:NAME`` become groups: columns of the index, there to count and to split by. All other
columns are kept as they are in the sample's JSON.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

from configs.errors import InputError
from data_shards.audio import load_file
from data_shards.corpora.corpus import Corpus
from data_shards.corpora.manifest_rows import Entry, Source, open_source, parse
from data_shards.corpora.rows import Line, check_label, decode_line
from data_shards.sample import Sample, check_key
from data_shards.text import TextSteps, describe, make_pair


@dataclass(frozen=True, slots=True)
class Row:
    """Where a row lies; its contents are read again when it is packed, so that listing is small."""

    key: str
    line: int
    offset: int


def list_corpus(
    path: Path | str,
    *,
    name: str | None = None,
    steps: TextSteps | None = None,
    labels: Collection[str] | None = None,
    labelled: bool = True,
) -> Corpus:
    """List the corpus that a manifest describes.

    ``name`` names the shards (default: the manifest's), ``steps`` are for texts, ``labels`` is the
    set of labels allowed (None: any). Without ``labelled`` the column label may be missing; samples
    have the label "" then. Raises InputError naming the line of a row that is not as it should be, of
    a missing audio file, of the two rows that share a key.
    """
    path = Path(path)
    steps = steps or TextSteps()
    source, lines = open_source(path, labelled)
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for line in lines:
        entry = parse(source, line)
        where = f"{path}: line {line.number}"
        if "label" in source.required:
            check_label(where, entry.label, labels)
        if entry.path is not None and not entry.path.is_file():
            raise InputError(
                f"{where}: audio file {entry.path} not found; paths are relative to the manifest"
            )
        key = entry.key or default_key(path.parent, entry, len(rows) + 1)
        try:
            check_key(key)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if key in seen:
            raise InputError(
                f"{path}: lines {seen[key]} and {line.number} have the same key {key!r}; "
                "remove one or tell them apart in a column named key"
            )
        seen[key] = line.number
        rows.append(Row(key, line.number, line.offset))
    if not rows:
        raise InputError(f"{path}: has no rows below the header")
    settings: dict[str, Any] = {"source": "manifest"}
    if source.kind == "text":
        settings["text"] = describe(steps)
    return Corpus(
        name=_corpus_name(path, name),
        kind=source.kind,
        synthetic=False,
        items=rows,
        load=partial(load_row, source=source, steps=steps),
        key=key_of,
        settings=settings,
    )


def default_key(folder: Path, entry: Entry, row: int) -> str:
    """The key of a row that gives none; see the head of this file."""
    if entry.path is None:
        return f"row-{row:05d}"
    inside = Path(os.path.relpath(entry.path, folder))
    name = inside.with_suffix("") if ".." not in inside.parts else Path(entry.path.stem)
    return re.sub(r"[.\s\\]", "_", "-".join(name.parts))


def _corpus_name(path: Path, name: str | None) -> str:
    if name is None:
        return re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-") or "corpus"
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise InputError(f"corpus name {name!r}: use up to 64 letters, digits, _ and -")
    return name


def load_row(row: Row, source: Source, steps: TextSteps) -> Sample:
    """Read a row again and load its audio or process its texts."""
    stream = _open(source.path)
    stream.seek(row.offset)
    text = decode_line(source.path, row.line, stream.readline())
    entry = parse(source, Line(row.line, row.offset, text))
    if entry.path is None:
        pair = make_pair(entry.premise, entry.hypothesis, steps)
        return Sample(row.key, entry.label, entry.speaker, text=pair, groups=entry.groups, meta=entry.meta)
    clip = load_file(entry.path)
    meta = {**entry.meta, "original_rate": clip.rate}
    return Sample(
        row.key,
        entry.label,
        entry.speaker,
        audio=clip.audio,
        groups=entry.groups,
        meta=meta,
        notes=clip.notes,
    )


@cache
def _open(path: Path) -> BinaryIO:
    """One open file per packing process."""
    return path.open("rb")


def key_of(row: Row) -> str:
    """The key of a row."""
    return row.key
