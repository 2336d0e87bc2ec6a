"""Distributions of a packed corpus over the parts of a split: counts, lengths, and their plots."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data_shards.drawing import COLOURS, INK, add_legend, new_figure, shaped, to_png
from data_shards.index import ShardIndex
from data_shards.sample import SAMPLE_RATE
from data_shards.splits import Split

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def split_counts(index: ShardIndex, split: Split) -> dict[str, dict[str, int]]:
    """Part -> label -> samples."""
    labels = index.manifest.labels
    counts = {}
    for part in split.names:
        found = np.bincount(index.label[split.rows(part)], minlength=len(labels))
        counts[part] = dict(zip(labels, found.tolist(), strict=True))
    return counts


def speaker_rows(index: ShardIndex, split: Split) -> list[list[Any]]:
    """[part, speaker, samples of each label..., all, length] for every speaker of every part."""
    labels, names = index.manifest.labels, index.manifest.speakers
    lengths, rows = lengths_of(index), []
    for part in split.names:
        members = split.rows(part)
        members = members[index.speaker[members] >= 0]
        speaker = index.speaker[members].astype(np.int64)
        pairs = speaker * len(labels) + index.label[members]
        table = np.bincount(pairs, minlength=len(names) * len(labels)).reshape(len(names), -1)
        total = np.bincount(speaker, lengths[members], minlength=len(names))
        for n in np.flatnonzero(table.sum(axis=1)).tolist():
            counts = table[n].tolist()
            rows.append([part, names[n], *counts, sum(counts), f"{total[n]:.1f}"])
    return rows


def length_unit(index: ShardIndex) -> str:
    """seconds or words."""
    return "seconds" if index.manifest.kind == "audio" else "words"


def lengths_of(index: ShardIndex) -> NDArray[np.float64]:
    """(samples,) lengths in ``length_unit``."""
    scale = SAMPLE_RATE if index.manifest.kind == "audio" else 1
    return np.asarray(index.length, np.float64) / scale


def write_plots(index: ShardIndex, split: Split, folder: Path) -> list[Path]:
    """labels-<split>.png and lengths-<split>.png, and speakers-<split>.csv where they are known."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, png in (
        ("labels", to_png(draw_labels(index, split))),
        ("lengths", to_png(draw_lengths(index, split))),
    ):
        written.append(folder / f"{name}-{split.name}.png")
        written[-1].write_bytes(png)
    if index.manifest.speakers:
        written.append(folder / f"speakers-{split.name}.csv")
        with written[-1].open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream)
            table.writerow(["part", "speaker", *index.manifest.labels, "all", length_unit(index)])
            table.writerows(speaker_rows(index, split))
    return written


def draw_labels(index: ShardIndex, split: Split) -> Figure:
    """Label shares by part, the counts written on the bars."""
    labels, counts = index.manifest.labels, split_counts(index, split)
    figure, (axes,) = new_figure(max(5.0, 1.1 * len(labels) + 1.5), 3.6)
    width = 0.8 / len(counts)
    for n, (part, by_label) in enumerate(counts.items()):
        total = max(sum(by_label.values()), 1)
        x = np.arange(len(labels)) + (n - (len(counts) - 1) / 2) * width
        shares = [count / total for count in by_label.values()]
        bars = axes.bar(x, shares, width * 0.92, color=COLOURS[n % len(COLOURS)], label=part)
        axes.bar_label(bars, list(map(str, by_label.values())), fontsize=7, color=INK, padding=1)
    axes.set_xticks(range(len(labels)), [shaped(label) for label in labels])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_ylabel("share of the part")
    axes.set_title(f"{_title(index)}: labels of split {split.name}")
    # Below the axes: bars may fill all of them.
    add_legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=len(counts))
    return figure


def draw_lengths(index: ShardIndex, split: Split) -> Figure:
    """Distribution of lengths by part, as shares, up to the 99.5th percentile."""
    lengths, unit = lengths_of(index), length_unit(index)
    used = lengths[split.codes >= 0]
    figure, (axes,) = new_figure(6.4, 3.4)
    end = float(np.percentile(used, 99.5)) if len(used) else 1.0
    start = float(used.min()) if len(used) else 0.0
    smallest = min((len(split.rows(part)) for part in split.names if len(split.rows(part))), default=0)
    bins = int(np.clip(2 * np.sqrt(smallest), 8, 40))
    # Words are whole numbers: bins of whole words, so that none is empty by its edges alone.
    if unit == "words":
        step = max(1.0, np.ceil((end - start + 1) / bins))
        start -= 0.5
    else:
        step = (end - start) / bins or 1.0
    edges = start + step * np.arange(bins + 1)
    for n, part in enumerate(split.names):
        values = lengths[split.rows(part)]
        if len(values):
            shares = np.histogram(np.minimum(values, edges[-1]), edges)[0] / len(values)
            colour = COLOURS[n % len(COLOURS)]
            axes.stairs(shares, edges, color=colour, linewidth=1.6, label=part)
            axes.axvline(float(np.median(values)), color=colour, linestyle=":", linewidth=1)
    axes.set_xlabel(f"{unit} (dotted: median; the last bin holds all longer ones)")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_ylabel("share of the part")
    axes.set_title(f"{_title(index)}: lengths of split {split.name}")
    add_legend(axes)
    return figure


def _title(index: ShardIndex) -> str:
    return f"{shaped(index.manifest.corpus)}{' (synthetic)' if index.manifest.synthetic else ''}"
