"""Plain text for masked-language-model training: files with a paragraph a line, and packed pairs.

A paragraph is stored as a pair whose second text is empty. Pairs are those of the training part of
a shard folder of text pairs, so that nothing of its validation and test parts is ever read; where
the corpus has parts of its own, the training part is the one that it was published with.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from configs.errors import InputError
from data_shards.corpora.corpus import Corpus
from data_shards.corpora.rows import decode_line, read_lines
from data_shards.index import open_index
from data_shards.reader import ShardReader
from data_shards.sample import Sample, decode_text
from data_shards.splits import load_split
from data_shards.text import TextSteps, describe, make_pair

LABEL = "text"
"""The only label: prose has no classes."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Where a paragraph lies; it is read again when it is packed, so that listing is small."""

    file: int
    line: int
    offset: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A row of the shards of pairs."""

    row: int


@dataclass(frozen=True)
class Sources:
    """Where items are read from."""

    files: tuple[Path, ...]
    names: tuple[str, ...]
    """Of each file, for keys."""
    pairs: ShardReader | None
    steps: TextSteps


class Items(Sequence[Any]):
    """All paragraphs, then all pairs: numbers in arrays, 20 bytes a paragraph."""

    def __init__(self) -> None:
        self.files, self.lines, self.offsets = array("I"), array("Q"), array("Q")
        self.rows = array("Q")

    def __len__(self) -> int:
        return len(self.files) + len(self.rows)

    def __getitem__(self, number: Any) -> Any:
        paragraphs = len(self.files)
        if number < paragraphs:
            return Paragraph(self.files[number], self.lines[number], self.offsets[number])
        return Pair(self.rows[number - paragraphs])


def list_corpus(
    files: Sequence[Path],
    *,
    pairs: Path | None = None,
    name: str | None = None,
    steps: TextSteps | None = None,
) -> Corpus:
    """List text files, and the training pairs of the shards in ``pairs``.

    Keys are ``<file>-<line>`` and ``pair-<key>``. Lines that show nothing (spaces, half-spaces, marks
    without a letter) are left out. Raises InputError naming file and line where a line is not UTF-8,
    and for two files of one name.
    """
    steps = steps or TextSteps()
    names = tuple(re.sub(r"[.\s\\/]", "_", path.stem) or "text" for path in files)
    for number, stem in enumerate(names):
        if stem in names[:number]:
            raise InputError(
                f"{files[number]}: another file is called {stem!r} too; keys are made of the names, "
                "so rename one"
            )
    items = Items()
    for number, path in enumerate(files):
        before = len(items)
        for line in read_lines(path):
            if _shows(line.text):
                items.files.append(number)
                items.lines.append(line.number)
                items.offsets.append(line.offset)
        if len(items) == before:
            raise InputError(f"{path}: has no text")
    settings: dict[str, Any] = {"source": "text", "files": list(names), "text": describe(steps)}
    synthetic = False
    if pairs is not None:
        index = open_index(pairs)
        if index.manifest.kind != "text":
            raise InputError(f"{pairs}: holds {index.manifest.kind}, not pairs of texts")
        # Of any other split the training part may hold pairs that the published test part holds too.
        split = load_split(index, "official" if "source_split" in index.manifest.groups else "")
        items.rows.extend(split.rows("train").tolist())
        manifest = index.manifest
        settings["pairs"] = {
            "corpus": manifest.corpus,
            "digest": manifest.digest,
            "split": split.name,
        }
        synthetic = manifest.synthetic
    sources = Sources(
        tuple(Path(path) for path in files), names, ShardReader(pairs) if pairs else None, steps
    )
    return Corpus(
        name=name or "text",
        kind="prose",
        synthetic=synthetic,
        items=items,
        load=partial(load_item, sources=sources),
        key=partial(key_of, sources=sources),
        settings=settings,
    )


def key_of(item: Paragraph | Pair, sources: Sources) -> str:
    """The key of an item."""
    if isinstance(item, Paragraph):
        return f"{sources.names[item.file]}-{item.line:06d}"
    assert sources.pairs is not None
    return f"pair-{sources.pairs.index.key(item.row)}"


def load_item(item: Paragraph | Pair, sources: Sources) -> Sample:
    """Read a paragraph again and process it; pairs are taken as they were packed. Raises InputError
    naming file and line of a paragraph of which the steps leave nothing."""
    key = key_of(item, sources)
    if isinstance(item, Paragraph):
        path = sources.files[item.file]
        with path.open("rb") as stream:
            stream.seek(item.offset)
            text = decode_line(path, item.line, stream.readline()).strip()
        pair = make_pair(text, "", sources.steps)
        if not _shows(pair.premise_processed):
            raise InputError(
                f"{path}: line {item.line}: hazm's steps leave nothing of {text[:20]!r}; remove the line"
            )
        return Sample(key, LABEL, text=pair)
    assert sources.pairs is not None
    return Sample(key, LABEL, text=decode_text(sources.pairs.payload(item.row)))


def _shows(text: str) -> bool:
    """Whether a text has letters, digits, punctuation or symbols; only of these tokens are made."""
    return any(unicodedata.category(character)[0] in "LNPS" for character in text)
