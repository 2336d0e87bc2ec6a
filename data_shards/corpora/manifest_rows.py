"""The rows of a manifest: reading its header, parsing and checking a line. See ``manifest.py``."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from configs.errors import InputError
from data_shards.corpora.rows import Line, nearest, read_lines, split_row
from data_shards.index import Kind

REQUIRED: dict[Kind, tuple[str, ...]] = {
    "audio": ("path", "label"),
    "text": ("premise", "hypothesis", "label"),
}
SUFFIXES = (".csv", ".tsv", ".jsonl")
"""What a manifest's name ends in."""
OPTIONAL = ("speaker", "split", "key", "gender")
SPLITS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "test": "test",
}
_RESERVED = ("premise_processed", "hypothesis_processed", "original_rate")
"""Names that packing itself writes into a sample's JSON."""


@dataclass(frozen=True)
class Source:
    """A manifest and how its lines are read."""

    path: Path
    kind: Kind
    delimiter: str
    """Empty for jsonl."""
    header: tuple[str, ...]
    """jsonl: the names in the first row."""
    required: tuple[str, ...]
    """Columns without which, or empty, a row is refused."""


@dataclass(frozen=True)
class Entry:
    """A row, parsed and checked."""

    key: str
    """Empty where the row gives none."""
    label: str
    speaker: str
    groups: dict[str, str]
    meta: dict[str, Any]
    path: Path | None
    premise: str
    hypothesis: str


def open_source(path: Path, labelled: bool = True) -> tuple[Source, Iterator[Line]]:
    """Read the header; return how lines are to be read, and those below it. Without ``labelled`` the
    column label may be missing; all rows have one or none has."""
    suffix = path.suffix.casefold()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: a manifest's name must end in .csv, .tsv or .jsonl")
    lines = read_lines(path)
    first = next(lines, None)
    if first is None:
        raise InputError(f"{path}: the manifest is empty")
    if suffix == ".jsonl":
        names = tuple(_json_object(path, first))
        return _source(path, first, "", names, labelled), _chain(first, lines)
    delimiter = "\t" if suffix == ".tsv" or "\t" in first.text else ","
    header = tuple(name.strip() for name in split_row(path, first, delimiter))
    for name in header:
        if header.count(name) > 1:
            raise InputError(f"{path}: line {first.number}: column {name!r} occurs twice")
    return _source(path, first, delimiter, header, labelled), lines


def _source(path: Path, line: Line, delimiter: str, header: tuple[str, ...], labelled: bool) -> Source:
    optional = () if labelled or "label" in header else ("label",)
    kind = _check_names(path, line, header, optional)
    required = tuple(name for name in REQUIRED[kind] if name not in optional)
    return Source(path, kind, delimiter, header, required)


def _chain(first: Line, rest: Iterator[Line]) -> Iterator[Line]:
    yield first
    yield from rest


def _check_names(path: Path, line: Line, names: Collection[str], optional: Collection[str]) -> Kind:
    """Return the kind that the columns say; raise InputError on missing and misspelt ones."""
    where = f"{path}: line {line.number}"
    audio, text = "path" in names, "premise" in names or "hypothesis" in names
    if audio and text:
        raise InputError(f"{where}: columns path and premise/hypothesis exclude each other")
    kind: Kind = "audio" if audio else "text"
    if not (audio or text):
        near = [n for n in names if get_close_matches(n.casefold(), _TELLING, n=1, cutoff=0.6)]
        hint = f"; {near[0]!r} is unknown" + nearest(near[0], _TELLING) if near else ""
        raise InputError(f"{where}: no column path (for audio), nor premise and hypothesis (for text){hint}")
    for name in REQUIRED[kind]:
        if name not in names and name not in optional:
            near = get_close_matches(name, [n for n in names if n not in REQUIRED[kind]], 1, 0.6)
            hint = f"; {near[0]!r} looks like it: rename that" if near else ""
            raise InputError(f"{where}: no column {name!r}{hint}")
    known = (*REQUIRED[kind], *OPTIONAL)
    for name in names:
        if name in _RESERVED or not name:
            raise InputError(f"{where}: a column must not be called {name!r}; rename it")
        if name.startswith("group:") and not re.fullmatch(r"[A-Za-z0-9_]{1,40}", name[6:]):
            raise InputError(f"{where}: column {name!r}: group names are letters, digits and _")
        if name not in known and get_close_matches(name.casefold(), known, 1, 0.8):
            raise InputError(f"{where}: column {name!r} is unknown{nearest(name, known)} (else rename it)")
    return kind


_TELLING = ("path", "premise", "hypothesis")


def parse(source: Source, line: Line) -> Entry:
    """Parse and check one row."""
    where = f"{source.path}: line {line.number}"
    values: dict[str, Any]
    if source.delimiter:
        fields = split_row(source.path, line, source.delimiter, len(source.header))
        values = dict(zip(source.header, fields, strict=True))
    else:
        values = _json_object(source.path, line)
        if values.keys() != set(source.header):
            optional = {*REQUIRED[source.kind]} - {*source.required}
            kind = _check_names(source.path, line, values.keys(), optional)
            if kind != source.kind:
                raise InputError(f"{where}: a row of {kind} in a manifest of {source.kind}")
    texts = {name: _string(where, name, values.get(name)) for name in _ALL if name in values}
    for name in source.required:
        if not texts[name].strip():
            raise InputError(f"{where}: {name} is empty; fill it in or remove the row")
    if "label" in texts and "label" not in source.required:
        raise InputError(f"{where}: has a label, the first row has none; give it to all rows or none")
    groups = {}
    if "split" in source.header or "split" in values:
        split = texts.get("split", "").strip()
        if split.casefold() not in SPLITS:
            raise InputError(
                f"{where}: split is {split!r}; every row needs train, validation or test"
                + nearest(split, SPLITS)
            )
        groups["source_split"] = SPLITS[split.casefold()]
    for name, value in values.items():
        if name == "gender" or name.startswith("group:"):
            groups[name.removeprefix("group:")] = _string(where, name, value).strip()
    meta = {n: v for n, v in values.items() if n not in _ALL and not n.startswith("group:")}
    audio = source.kind == "audio"
    return Entry(
        key=texts.get("key", "").strip(),
        label=texts.get("label", "").strip(),
        speaker=texts.get("speaker", "").strip(),
        groups=groups,
        meta=meta,
        path=source.path.parent / texts["path"].strip() if audio else None,
        premise=texts.get("premise", ""),
        hypothesis=texts.get("hypothesis", ""),
    )


_ALL = ("path", "premise", "hypothesis", "label", *OPTIONAL)


def _string(where: str, name: str, value: Any) -> str:
    """A JSON value as text; csv values are text already."""
    if value is None:
        return ""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    raise InputError(f"{where}: {name} is {json.dumps(value)}; it must be a string")


def _json_object(path: Path, line: Line) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        values = json.loads(line.text, parse_constant=refuse)
    except ValueError as error:
        raise InputError(f"{path}: line {line.number}: not a JSON object ({error})") from None
    if not isinstance(values, dict):
        raise InputError(f'{path}: line {line.number}: not a JSON object like {{"label": "x", ...}}')
    return values
