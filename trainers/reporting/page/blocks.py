"""The content of a report, free of its form: HTML and Markdown are written from the same blocks."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Heading:
    """A section title; level 1 is the report's own."""

    level: int
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph. A warning stands out; a badge is a short coloured word or two."""

    text: str
    kind: Literal["plain", "note", "warning", "badge"] = "plain"


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    points: tuple[str, ...]


@dataclass(frozen=True)
class Cards:
    """A few numbers to see first: (name, value)."""

    cards: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """Rows of text. All columns but the first ``left`` ones hold numbers and stand right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    left: int = 1
    rules: tuple[int, ...] = ()
    """Row numbers before which a line is drawn."""


@dataclass(frozen=True)
class Code:
    """Text to be copied as it is. With a ``summary`` it is folded away under that line."""

    text: str
    summary: str = ""


@dataclass(frozen=True)
class Chart:
    """A drawing and its numbers: HTML shows the drawing and folds the table, Markdown the table."""

    name: str
    """Unique in the report; letters, digits and dashes."""
    caption: str
    figure: Figure
    table: Table


@dataclass(frozen=True)
class Beside:
    """Blocks next to each other where the page is wide enough."""

    blocks: tuple[Block, ...]


Block = Heading | Text | Points | Cards | Table | Code | Chart | Beside


def number(value: float | None, digits: int = 3) -> str:
    """A metric as text; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def spread(values: Sequence[float], digits: int = 3) -> str:
    """mean ± sample standard deviation; the value alone if there is one, a dash for none."""
    if not values:
        return "–"
    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"


def isolated(text: str) -> str:
    """``text`` as part of an English line: numbers and marks beside right-to-left letters stay in place."""
    if any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text):
        return f"\u2068{text}\u2069"  # first strong isolate, and its end
    return text


def thousands(value: float) -> str:
    """A count with separators: 110,075."""
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """3.2 s, 4 min 05 s, 2 h 07 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
