"""Table files line by line, with errors that name the line: shared by the corpora made of rows.

Rows are parsed one line at a time on purpose. The csv module reads on past the end of a line while
a quote is open, so one stray quote would silently swallow every row up to the next one.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from configs.errors import InputError

BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """One line of a text file."""

    number: int
    """Counted from 1, as editors do."""
    offset: int
    """Byte where it starts."""
    text: str
    """Without the line break."""


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a UTF-8 file that are not blank. Raises InputError on other encodings.

    A byte-order mark at the start is left out. Holds one line at a time.
    """
    try:
        with path.open("rb") as stream:
            offset = 0
            for number, data in enumerate(stream, 1):
                text = decode_line(path, number, data)
                if text.strip(" "):
                    yield Line(number, offset, text)
                offset += len(data)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None


def decode_line(path: Path, number: int, data: bytes) -> str:
    """Bytes of one line -> text without line break."""
    if number == 1:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InputError(f"{path}: encoded as UTF-16; save it as UTF-8")
        data = data.removeprefix(BOM)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: line {number}: byte {error.start + 1} (0x{data[error.start]:02x}) is not "
            "UTF-8; save the file as UTF-8"
        ) from None
    if "\0" in text:
        raise InputError(f"{path}: line {number}: contains a NUL character; remove it")
    return text.rstrip("\r\n")


def split_row(path: Path, line: Line, delimiter: str, columns: int | None = None) -> list[str]:
    """Fields of one line by standard CSV quoting; ``columns``: how many there must be."""
    try:
        fields = next(csv.reader([line.text], delimiter=delimiter, strict=True))
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise InputError(
                f"{path}: line {line.number}: a quote is opened and not closed; close it, or write "
                'a quote inside a field as "" with the field in quotes'
            ) from None
        raise InputError(
            f'{path}: line {line.number}: {error}; write a quote inside a field as "" with the '
            "field in quotes"
        ) from None
    if columns is not None and len(fields) != columns:
        fault = "missing" if len(fields) < columns else "extra"
        raise InputError(
            f"{path}: line {line.number}: {len(fields)} columns where the header has {columns}; "
            f"fix the {fault} one (columns are separated by {_SEPARATORS[delimiter]})"
        )
    return fields


_SEPARATORS = {"\t": "tabs", ",": "commas"}


def nearest(word: str, choices: Collection[str]) -> str:
    """``; did you mean 'x'?`` for the closest choice, or nothing where none is close."""
    by_folded = {choice.casefold(): choice for choice in choices}
    found = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return f"; did you mean {by_folded[found[0]]!r}?" if found else ""


def check_label(where: str, label: str, labels: Collection[str] | None) -> str:
    """Return ``label`` if it is one of ``labels`` (None: any that is not empty)."""
    if not label:
        raise InputError(f"{where}: the label is empty; fill it in")
    if labels is not None and label not in labels:
        raise InputError(
            f"{where}: unknown label {label!r} (labels are {', '.join(sorted(labels))})"
            + nearest(label, labels)
        )
    return label
