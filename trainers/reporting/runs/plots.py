"""The charts of a report: training curves, confusion matrices, runs beside a reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_shards.drawing import BLUE, GREEN, INK, ORANGE, add_legend, new_figure, shaped
from trainers.reporting.runs.record import Line, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DEEP_BLUE = "#1f5f9c"
MAX_POINTS = 400
"""Points of a drawn curve; longer ones are averaged over equal spans of steps."""


def thinned(
    steps: Sequence[int], values: Sequence[float], limit: int = MAX_POINTS
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(n,) steps and values -> at most ``limit`` means over neighbouring points."""
    x, y = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    if len(x) <= limit:
        return x, y
    cuts = np.linspace(0, len(x), limit + 1).astype(int)[:-1]
    counts = np.diff([*cuts, len(x)])
    return np.add.reduceat(x, cuts) / counts, np.add.reduceat(y, cuts) / counts


def curves(run: Run) -> Figure:
    """Loss on the left, accuracy (and UAR) on the right, by global step; best epoch marked."""
    figure, (loss, score) = new_figure(8.6, 3.2, columns=2)
    x, y = thinned([line["step"] for line in run.steps], [line["loss"] for line in run.steps])
    loss.plot(x, y, color=BLUE, alpha=0.35, linewidth=1, label="train, per step")
    _epochs(loss, run.epochs, "loss", "train, epoch mean", BLUE)
    _epochs(loss, run.validations, "loss", "validation", ORANGE)
    _epochs(score, run.epochs, "accuracy", "train accuracy", BLUE)
    _epochs(score, run.validations, "accuracy", "validation accuracy", ORANGE)
    _epochs(score, run.validations, "uar", "validation UAR", GREEN)
    score.set_ylim(0, 1)
    for axes, title in ((loss, "Loss"), (score, "Accuracy and UAR")):
        axes.axvline(run.best["step"], color=INK, alpha=0.4, linestyle=":", linewidth=1)
        axes.set_title(title)
        axes.set_xlabel("step (dotted: best epoch)")
        axes.set_xlim(left=0)
        axes.grid(axis="y", color=INK, alpha=0.12)
        if axes.lines[:-1]:
            add_legend(axes)
    return figure


def _epochs(axes: Axes, lines: Sequence[Line], key: str, label: str, colour: str) -> None:
    points = [(line["step"], line[key]) for line in lines if "step" in line and key in line]
    if points:
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=colour, marker="o", markersize=4, linewidth=1.6, label=label)


def confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> Figure:
    """Counts, shaded by the share of their row (the true class)."""
    from matplotlib.patches import Rectangle

    n = len(labels)
    names = [shaped(label) for label in labels]
    figure, (axes,) = new_figure(max(3.0, 0.66 * n + 1.4), max(2.6, 0.56 * n + 1.2))
    counts = np.asarray(matrix, np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row, column in np.ndindex(n, n):
        share = shares[row, column]
        box = Rectangle(
            (column - 0.48, row - 0.48), 0.96, 0.96, color=DEEP_BLUE, linewidth=0, alpha=0.04 + 0.96 * share
        )
        axes.add_patch(box)
        colour = "white" if share > 0.7 else INK
        axes.text(
            column,
            row - 0.08,
            f"{counts[row, column]:.0f}",
            color=colour,
            fontsize=10,
            ha="center",
            va="center",
        )
        axes.text(
            column, row + 0.24, f"{share:.0%}", color=colour, fontsize=7, alpha=0.85, ha="center", va="center"
        )
    long_names = max(map(len, names)) > 6
    axes.set_xticks(range(n), names, rotation=40 if long_names else 0, ha="right" if long_names else "center")
    axes.set_yticks(range(n), names)
    axes.set_xlim(-0.5, n - 0.5)
    axes.set_ylim(n - 0.5, -0.5)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def beside_reference(
    names: Sequence[str], reference: Sequence[float], ours: Sequence[Sequence[float]], title: str
) -> Figure:
    """Reference bars with this comparison's runs as dots, one group a name."""
    figure, (axes,) = new_figure(7.6, 3.4)
    x = np.arange(len(names))
    axes.bar(x, reference, 0.55, color=INK, alpha=0.18, label="reference report")
    points = [(n, value) for n, values in enumerate(ours) for value in values]
    if points:
        px, py = zip(*points, strict=True)
        axes.plot(px, py, "o", color=BLUE, markersize=7, label="runs reported here")
    for n, value in enumerate(reference):
        axes.text(n, 0.02, f"{value:.3f}", color=INK, fontsize=8, ha="center")
    axes.set_xticks(x, [shaped(name) for name in names])
    axes.set_ylim(0, 1)
    axes.set_title(title)
    axes.grid(axis="y", color=INK, alpha=0.12)
    add_legend(axes, loc="upper right", ncols=2)
    return figure
