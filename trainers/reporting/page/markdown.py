"""Blocks -> Markdown (GitHub's kind) with the same tables as the HTML page; charts as tables."""

from __future__ import annotations

from collections.abc import Sequence

from trainers.reporting.page.blocks import (
    Beside,
    Block,
    Cards,
    Chart,
    Code,
    Heading,
    Points,
    Table,
    Text,
)


def document(blocks: Sequence[Block]) -> str:
    """The whole document."""
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {_plain(text)}"
        case Text(text, "badge"):
            return f"**{_plain(text)}**"
        case Text(text, "warning"):
            return f"> **Warning:** {_plain(text)}"
        case Text(text, "note"):
            return f"*{_plain(text)}*"
        case Text(text, _):
            return _plain(text)
        case Points(points):
            return "\n".join(f"- {_plain(point)}" for point in points)
        case Cards(cards):
            return " · ".join(f"{_plain(name)} **{_plain(value)}**" for name, value in cards)
        case Table():
            return _table(block)
        case Code(text, summary):
            code = f"```\n{text}\n```"
            if not summary:
                return code
            return f"<details><summary>{_plain(summary)}</summary>\n\n{code}\n\n</details>"
        case Chart(table=table):
            return _table(table)
        case Beside(blocks):
            return "\n\n".join(_block(one) for one in blocks)


def _table(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    marks = [":--" if n < table.left else "--:" for n in range(len(table.header))]
    lines = [line([_plain(text) for text in table.header]), line(marks)]
    lines += [line([_plain(text) for text in row]) for row in table.rows]
    caption = f"*{_plain(table.caption)}*\n\n" if table.caption else ""
    return caption + "\n".join(lines)


def _plain(text: str) -> str:
    """``text`` on one line, without a meaning to Markdown."""
    for mark in "\\`*|":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
