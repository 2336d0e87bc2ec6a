"""The charts of a study: scores and costs over a field, over epochs, over removed heads, over depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_shards.drawing import BLUE, COLOURS, INK, ORANGE, add_legend, new_figure, shaped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Series:
    """A drawn line: its points, and the band of what they are the mean of."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    x_label: str
    series: tuple[Series, ...]
    level: tuple[str, float] | None = None
    """Name and height of a dotted line."""
    from_zero: bool = False
    ticks: tuple[str, ...] = ()
    """Names of the places 0, 1, ... where x is not a number."""


def panels(content: Sequence[Panel], columns: int = 2) -> Figure:
    """Panels row by row; one legend a panel that has several lines."""
    columns = min(columns, len(content))
    rows = -(-len(content) // columns)
    figure, axes = new_figure(4.3 * columns, 2.9 * rows, columns=columns, rows=rows)
    for one, panel in zip(axes, content, strict=False):
        _draw(one, panel)
    for empty in axes[len(content) :]:
        empty.set_visible(False)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    for number, series in enumerate(panel.series):
        colour = COLOURS[number % len(COLOURS)]
        style = "-" if number < len(COLOURS) else "--"
        axes.plot(
            series.x,
            series.y,
            style,
            color=colour,
            marker="o",
            markersize=3.5,
            linewidth=1.6,
            label=shaped(series.label),
        )
        if series.low:
            axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.15, lw=0)
    if panel.level:
        name, height = panel.level
        axes.axhline(height, color=INK, alpha=0.5, linestyle=":", linewidth=1.2, label=name)
    axes.set_title(shaped(panel.title))
    axes.set_xlabel(shaped(panel.x_label))
    axes.grid(axis="y", color=INK, alpha=0.12)
    if panel.ticks:
        long = max(map(len, panel.ticks)) > 4 and len(panel.ticks) > 3
        axes.set_xticks(
            range(len(panel.ticks)),
            [shaped(tick) for tick in panel.ticks],
            rotation=30 if long else 0,
            ha="right" if long else "center",
        )
    elif all(float(x).is_integer() for series in panel.series for x in series.x):
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    if panel.from_zero:
        # Where all values are alike, the automatic end lies on them.
        axes.set_ylim(0, 1.08 * axes.dataLim.y1 or 1)
    if len(panel.series) > 1 or panel.level:
        add_legend(axes)


def bars(
    names: Sequence[str], groups: Mapping[str, Sequence[float]], y_label: str, x_label: str = ""
) -> Figure:
    """A group of bars a name."""
    figure, (axes,) = new_figure(max(4.0, min(8.6, 0.5 * len(names) * len(groups) + 2)), 2.9)
    x, width = np.arange(len(names)), 0.8 / len(groups)
    for n, (label, values) in enumerate(groups.items()):
        place = x + (n - (len(groups) - 1) / 2) * width
        axes.bar(place, values, width * 0.94, color=COLOURS[n % len(COLOURS)], label=shaped(label))
    axes.set_xticks(x, [shaped(name) for name in names])
    axes.set_ylabel(y_label)
    axes.set_xlabel(x_label)
    axes.grid(axis="y", color=INK, alpha=0.12)
    if len(groups) > 1:
        add_legend(axes)
    return figure


def heat(values: Sequence[Sequence[float]], x_label: str, y_label: str) -> Figure:
    """A grid of squares, darker where the value is larger, as vectors."""
    from matplotlib.patches import Rectangle

    grid = np.asarray(values, np.float64)
    rows, columns = grid.shape
    figure, (axes,) = new_figure(max(3.0, 0.34 * columns + 1.2), max(2.2, 0.3 * rows + 1.0))
    top = grid.max() or 1.0
    for row, column in np.ndindex(rows, columns):
        share = max(0.0, float(grid[row, column]) / top)
        axes.add_patch(
            Rectangle(
                (column - 0.46, row - 0.46), 0.92, 0.92, color=BLUE, linewidth=0, alpha=0.05 + 0.95 * share
            )
        )
    axes.set_xticks(range(0, columns, max(1, columns // 12)))
    axes.set_yticks(range(0, rows, max(1, rows // 12)))
    axes.set_xlim(-0.6, columns - 0.4)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def overview(
    names: Sequence[str],
    means: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    points: Sequence[Sequence[float]],
    score: str,
    level: tuple[str, float] | None,
) -> Figure:
    """A row a method: its mean, its interval, a dot for each seed."""
    longest = max(map(len, names))
    figure, (axes,) = new_figure(min(9.0, 5.2 + 0.075 * longest), 0.34 * len(names) + 1.1)
    for row, (mean, interval, values) in enumerate(zip(means, intervals, points, strict=True)):
        if interval:
            axes.plot(interval, (row, row), color=BLUE, linewidth=5, alpha=0.3, solid_capstyle="butt")
        axes.plot(values, [row] * len(values), "o", color=INK, alpha=0.35, markersize=3.5)
        axes.plot([mean], [row], "D", color=BLUE, markersize=6)
    if level:
        axes.axvline(level[1], color=ORANGE, linestyle=":", linewidth=1.4, label=level[0])
        add_legend(axes, loc="lower left", bbox_to_anchor=(0, 1))
    axes.set_yticks(range(len(names)), [shaped(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(f"{score}: mean, 95 % interval, seeds")
    axes.grid(axis="x", color=INK, alpha=0.12)
    return figure
