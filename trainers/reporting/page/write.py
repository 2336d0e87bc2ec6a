"""A report on disk: its blocks as a page and as the page's Markdown twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.files import write_text
from trainers.reporting.page import html, markdown
from trainers.reporting.page.blocks import Block


@dataclass(frozen=True)
class Report:
    """Where a report lies, and what it had to leave out."""

    html: Path
    markdown: Path
    left_out: tuple[str, ...] = ()
    """One line for each run that is unfinished or damaged."""


def write_pages(blocks: Sequence[Block], folder: Path, name: str, left_out: tuple[str, ...]) -> Report:
    """Both forms of a report, each written beside its place and renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    report = Report(folder / f"{name}.html", folder / f"{name}.md", left_out)
    for path, text in (
        (report.html, html.page(blocks)),
        (report.markdown, markdown.document(blocks)),
    ):
        write_text(path, text)
    return report
