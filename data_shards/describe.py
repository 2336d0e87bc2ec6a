"""`sokhan inspect`: what a packed corpus and its splits hold, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_shards.distributions import (
    length_unit,
    lengths_of,
    speaker_rows,
    split_counts,
    write_plots,
)
from data_shards.index import ShardIndex
from data_shards.splits import Split, speaker_overlap

MAX_SPEAKER_LINES = 60
"""Speakers listed in the terminal; the CSV has all."""
MAX_GROUP_VALUES = 12
"""Columns with more values than this (free text, sources) are not tabulated."""


def inspect(index: ShardIndex, splits: Sequence[Split], plots: Path | None = None) -> str:
    """The text that ``sokhan inspect`` prints: the corpus, then each split with its warnings.

    With ``plots`` two PNG files and a CSV of counts by speaker are written there for each split.
    """
    parts = [_corpus_text(index)]
    for split in splits:
        parts.append(describe_split(index, split))
        if plots is not None:
            parts.append("written: " + ", ".join(str(path) for path in write_plots(index, split, plots)))
    if not splits:
        parts.append("no splits yet; make one with `sokhan split`")
    return "\n\n".join(parts) + "\n"


def _corpus_text(index: ShardIndex) -> str:
    manifest = index.manifest
    unit = length_unit(index)
    lengths = lengths_of(index)
    total = f"{lengths.sum() / 3600:.2f} hours" if unit == "seconds" else f"{lengths.sum():,.0f} words"
    speakers = f", {len(manifest.speakers)} speakers" if manifest.speakers else ""
    synthetic = " (SYNTHETIC)" if manifest.synthetic else ""
    lines = [
        f"{manifest.corpus}{synthetic}: {len(index):,} {manifest.kind} samples, {total}{speakers}, "
        f"{len(manifest.shards)} shards",
        *(f"  {count} x {note}" for note, count in manifest.notes.items()),
    ]
    return "\n".join(lines)


def describe_split(index: ShardIndex, split: Split) -> str:
    """One split: counts by label, gender and other columns, speaker; lengths; warnings."""
    tables = [f"== split {split.name}: {split.protocol}", *_notes(split), label_table(index, split)]
    tables += [
        group_table(index, split, name)
        for name, values in index.manifest.groups.items()
        if 1 < len(values) <= MAX_GROUP_VALUES
    ]
    tables.append(length_table(index, split))
    if index.manifest.speakers:
        tables.append(speaker_table(index, split))
    # Last, where the terminal stands when all has scrolled by.
    warnings = [f"warning: {line}" for line in split_warnings(index, split)]
    tables += ["\n".join(warnings)] if warnings else []
    return "\n\n".join(tables)


def _notes(split: Split) -> list[str]:
    return ["\n".join(f"  {note}: {count}" for note, count in split.notes.items())] if split.notes else []


def label_table(index: ShardIndex, split: Split) -> str:
    """Samples and speakers by part and label."""
    rows = []
    for part, by_label in split_counts(index, split).items():
        speakers = len(_speakers(index, split, part)) if index.manifest.speakers else "-"
        rows.append([part, *by_label.values(), sum(by_label.values()), speakers])
    unused = int((split.codes < 0).sum())
    table = text_table(["samples", *index.manifest.labels, "all", "speakers"], rows)
    return f"{table}\n{unused:,} samples are in no part" if unused else table


def group_table(index: ShardIndex, split: Split, name: str) -> str:
    """Samples by part, value of a column of the index (gender, ...) and label."""
    labels, values = index.manifest.labels, index.manifest.groups[name]
    column = index.group(name)
    rows = []
    for part in split.names:
        members = split.rows(part)
        pairs = column[members].astype(np.int64) * len(labels) + index.label[members]
        table = np.bincount(pairs, minlength=len(values) * len(labels)).reshape(len(values), -1)
        for value, counts in zip(values, table.tolist(), strict=True):
            if sum(counts):
                rows.append([part, value or "(none)", *counts, sum(counts)])
    return text_table(["samples", name, *labels, "all"], rows, left=2)


def speaker_table(index: ShardIndex, split: Split) -> str:
    """Samples by part, speaker and label; long tables are cut."""
    rows = speaker_rows(index, split)
    table = text_table(_speaker_header(index), rows[:MAX_SPEAKER_LINES], left=2)
    rest = len(rows) - MAX_SPEAKER_LINES
    return f"{table}\n... and {rest} more, all in the CSV that --plots writes" if rest > 0 else table


def _speaker_header(index: ShardIndex) -> list[str]:
    return ["samples", "speaker", *index.manifest.labels, "all", length_unit(index)]


def length_table(index: ShardIndex, split: Split) -> str:
    """Quantiles of the samples' lengths by part."""
    lengths = lengths_of(index)
    digits = 2 if length_unit(index) == "seconds" else 0
    rows = []
    for part in split.names:
        values = lengths[split.rows(part)]
        if len(values):
            points = np.percentile(values, (0, 25, 50, 75, 95, 99, 100))
            rows.append([part, *(f"{x:.{digits}f}" for x in (*points, values.mean()))])
    header = [length_unit(index), "min", "p25", "median", "p75", "p95", "p99", "max", "mean"]
    return text_table(header, rows)


def split_warnings(index: ShardIndex, split: Split) -> list[str]:
    """Speakers in two parts and classes that a part lacks, a line each."""
    lines = []
    for pair, shared in speaker_overlap(index, split).items():
        if shared:
            first, second = pair.split("/")
            common = list(_speakers(index, split, first) & _speakers(index, split, second))
            speakers = index.speaker[split.rows(second)]
            share = float(np.isin(speakers, common).mean())
            lines.append(
                f"split {split.name}: {first} and {second} share {shared} speakers, who speak "
                f"{share:.0%} of {second}: scores will be those of a speaker-dependent system"
            )
    for part, counts in split_counts(index, split).items():
        absent = [label for label, count in counts.items() if count == 0]
        if absent and sum(counts.values()):
            lines.append(f"split {split.name}: {part} has no sample of {', '.join(absent)}")
        elif absent:
            lines.append(f"split {split.name}: {part} is empty")
    return lines


def _speakers(index: ShardIndex, split: Split, part: str) -> set[int]:
    return set(np.unique(index.speaker[split.rows(part)]).tolist()) - {-1}


def text_table(header: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 1) -> str:
    """Aligned columns; the first ``left`` ones stand left, the others right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[n]) for row in cells) for n in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n < left else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )
