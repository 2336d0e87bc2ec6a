"""Attention heads removed from trained models: scores, size and time over the removed share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from trainers.reporting.blocks import Block, Chart, Table, Text, number, thousands
from trainers.reporting.record import Run
from trainers.reporting.study_plots import Panel, Series, heat, panels

Point = dict[str, Any]


def pruning_blocks(methods: Mapping[str, Sequence[Run]], name: str) -> list[Block]:
    """The curves, their numbers, and the importance of every head; one method after the other."""
    blocks: list[Block] = []
    found = {
        method: [run.analyses["pruning"] for run in runs if "pruning" in run.analyses]
        for method, runs in methods.items()
    }
    for number_, (method, own) in enumerate((m, o) for m, o in found.items() if o):
        blocks += _method(method, own, f"{name}-heads{number_}")
    return blocks


def removed_points(own: Sequence[dict[str, Any]], choice: str) -> dict[float, list[Point]]:
    """Removed share -> the points of all runs (and draws) of one way to choose the heads."""
    points: dict[float, list[Point]] = {}
    for one in own:
        for point in one["points"]:
            if point["choice"] == choice:
                points.setdefault(float(point["share"]), []).append(point)
    return dict(sorted(points.items()))


def _method(method: str, own: Sequence[dict[str, Any]], name: str) -> list[Block]:
    whole = [one["whole"] for one in own]
    by_choice = {
        title: points
        for title, choice in (("by importance", "importance"), ("at random", "random"))
        if (points := removed_points(own, choice))
    }
    if not by_choice:
        return []

    def series(key: str, factor: float = 1.0) -> tuple[Series, ...]:
        lines = []
        start = [float(one[key]) * factor for one in whole if one.get(key) is not None]
        for title, points in by_choice.items():
            kept = {
                share: [float(p[key]) * factor for p in own if p.get(key) is not None]
                for share, own in points.items()
            }
            values = {**({0.0: start} if start else {}), **{s: v for s, v in kept.items() if v}}
            if len(values) > bool(start):
                several = any(len(v) > 1 for v in values.values())
                lines.append(Series(
                    title, list(values), [mean(v) for v in values.values()],
                    [min(v) for v in values.values()] if several else (),
                    [max(v) for v in values.values()] if several else (),
                ))  # fmt: skip
        return tuple(lines)

    drawn = [
        Panel("Test accuracy", "share of heads removed", series("accuracy")),
        Panel(
            "Parameters, millions", "share of heads removed", series("parameters", 1e-6), None, True
        ),
        Panel("Milliseconds a batch", "share of heads removed", series("milliseconds"), None, True),
    ]
    drawn = [panel for panel in drawn if panel.series]
    about = own[0]
    latency = about.get("latency", {})
    caption = (
        f"{method}: heads removed from the trained model, not trained again; "
        f"{len(own)} run{'s' if len(own) > 1 else ''}, bands from the lowest to the highest run or draw"
    )
    blocks: list[Block] = [
        Chart(f"{name}-curve", caption, panels(drawn, 3), _table(whole, by_choice, caption)),
        Text(
            f"Scored on {about['score_items']} samples of {about['score_on']}, "
            f"{_rounds(about['round_share'])}. Time: median of {latency.get('repeats', '?')} forward "
            f"passes of {latency.get('batch', '?')} x {latency.get('tokens', '?')} tokens on "
            f"{about.get('device', 'an unnamed device')}, with the heads cut out.", "note",
        ),
    ]  # fmt: skip
    grid = [
        [mean(cells) for cells in zip(*rows, strict=True)]
        for rows in zip(*(one["importance"] for one in own), strict=True)
    ]
    header = ("layer", *(str(n) for n in range(len(grid[0]))))
    rows = tuple((str(n), *map(number, row)) for n, row in enumerate(grid))
    shades = f"{method}: importance of each head before any is removed, mean over runs"
    return [
        *blocks,
        Chart(
            f"{name}-importance", shades, heat(grid, "head", "layer"), Table(header, rows, shades)
        ),
    ]


def _rounds(share: float | None) -> str:
    return "once" if share is None else f"anew after every {share:.0%} of all heads"


def _table(
    whole: Sequence[Point], by_choice: Mapping[str, Mapping[float, Sequence[Point]]], caption: str
) -> Table:
    rows = [_row("0 %", "none", whole)]
    for title, points in by_choice.items():
        rows += [_row(f"{share:.0%}", title, own) for share, own in points.items()]
    header = ("removed", "chosen", "models", "accuracy", "lowest", "highest", "deviation",
              "macro F1", "parameters", "milliseconds a batch")  # fmt: skip
    return Table(header, tuple(rows), caption, left=2)


def _row(share: str, chosen: str, points: Sequence[Point]) -> tuple[str, ...]:
    accuracy = [float(point["accuracy"]) for point in points]
    times = [float(p["milliseconds"]) for p in points if p.get("milliseconds") is not None]
    return (
        share, chosen, str(len(points)), number(mean(accuracy)), number(min(accuracy)),
        number(max(accuracy)), number(stdev(accuracy) if len(accuracy) > 1 else None),
        number(mean(float(point["macro_f1"]) for point in points)),
        thousands(mean(float(point["parameters"]) for point in points)),
        number(mean(times) if times else None, 2),
    )  # fmt: skip
