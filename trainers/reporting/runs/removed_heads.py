"""Attention heads removed from trained models: scores, size and time over the removed share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from trainers.reporting.page.blocks import Block, Chart, Table, Text, number, thousands
from trainers.reporting.page.charts import Panel, Series, heat, panels
from trainers.reporting.runs.record import Run

Point = dict[str, Any]
Analysis = dict[str, Any]
"""What eval/pruning.json holds."""
ByChoice = Mapping[str, Mapping[float, Sequence[Point]]]
"""How heads were chosen -> share asked for -> points."""


def pruning_blocks(methods: Mapping[str, Sequence[Run]], name: str) -> list[Block]:
    """The curves, their numbers, and the importance of every head; one method after the other."""
    blocks: list[Block] = []
    found = {
        method: [run.analyses["pruning"] for run in runs if "pruning" in run.analyses]
        for method, runs in methods.items()
    }
    for position, (method, own) in enumerate((m, o) for m, o in found.items() if o):
        by_choice = {
            title: points
            for title, choice in (("by importance", "importance"), ("at random", "random"))
            if (points := removed_points(own, choice))
        }
        if by_choice:
            place = f"{name}-heads{position}"
            blocks += [_curve(method, own, by_choice, place), _about(own), _importance(method, own, place)]
    return blocks


def removed_points(own: Sequence[Analysis], choice: str) -> dict[float, list[Point]]:
    """Share that was asked for -> the points of all runs (and draws) of one way to choose the heads.

    What was removed stands in ``removed_share`` of a point: where every layer must keep a head it can
    be less than what was asked for.
    """
    points: dict[float, list[Point]] = {}
    for one in own:
        for point in one["points"]:
            if point["choice"] == choice:
                removed = {**point, "removed_share": point["removed"] / one["heads"]}
                points.setdefault(float(point["share"]), []).append(removed)
    return dict(sorted(points.items()))


def fall(whole: Sequence[Point], points: Sequence[Point], key: str) -> float | None:
    """Share by which the mean of a number is smaller than in the whole model; None where not measured."""
    before, after = (_values(own, key) for own in (whole, points))
    return 1 - mean(after) / mean(before) if before and after and mean(before) else None


def _values(points: Sequence[Point], key: str) -> list[float]:
    return [float(point[key]) for point in points if point.get(key) is not None]


def _whole(own: Sequence[Analysis]) -> list[Point]:
    """The models as they are; one that goes on from a model without some heads lacks these already."""
    points: list[Point] = []
    for one in own:
        removed = int(one["whole"].get("removed", 0))
        points.append({**one["whole"], "removed": removed, "removed_share": removed / one["heads"]})
    return points


def _curve(method: str, own: Sequence[Analysis], by_choice: ByChoice, name: str) -> Chart:
    whole = _whole(own)
    x_label = "share of heads removed"
    drawn = [
        Panel("Test accuracy", x_label, _series(whole, by_choice, "accuracy")),
        Panel("Parameters, millions", x_label, _series(whole, by_choice, "parameters", 1e-6), None, True),
        Panel("Milliseconds a batch", x_label, _series(whole, by_choice, "milliseconds"), None, True),
    ]
    caption = (
        f"{method}: heads removed from the trained model, not trained again; "
        f"{len(own)} run{'s' if len(own) > 1 else ''}, bands from the lowest to the highest run or draw"
    )
    content = [panel for panel in drawn if panel.series]
    return Chart(f"{name}-curve", caption, panels(content, 3), _table(own, by_choice, caption))


def _series(whole: Sequence[Point], by_choice: ByChoice, key: str, factor: float = 1.0) -> tuple[Series, ...]:
    """A line a choice over the share that was removed, from the whole model on."""
    lines = []
    start = _values(whole, key)
    before = mean(point["removed_share"] for point in whole)
    for title, points in by_choice.items():
        values = {before: list(start)} if start else {}
        for asked in points.values():
            # Of several shares the same heads may be all that can go.
            if found := _values(asked, key):
                values.setdefault(mean(p["removed_share"] for p in asked), []).extend(found)
        if len(values) > bool(start):
            scaled = [[value * factor for value in found] for found in values.values()]
            several = any(len(found) > 1 for found in scaled)
            lines.append(
                Series(
                    title,
                    list(values),
                    [mean(found) for found in scaled],
                    [min(found) for found in scaled] if several else (),
                    [max(found) for found in scaled] if several else (),
                )
            )
    return tuple(lines)


def _about(own: Sequence[Analysis]) -> Text:
    """How it was measured."""
    about = own[0]
    latency = about.get("latency", {})
    text = (
        f"Scored on {about['score_items']} samples of {about['score_on']}, "
        f"{_rounds(about['round_share'])}. Every layer keeps one head, so that less may go than asked "
        f"for. Time: median of {latency.get('repeats', '?')} forward "
        f"passes of {latency.get('batch', '?')} x {latency.get('tokens', '?')} tokens on "
        f"{about.get('device', 'an unnamed device')}, with the heads cut out, by turns with the whole "
        "model."
    )
    differences = _values(own, "masked_difference")
    if differences:
        text += (
            f" The same heads masked instead of cut out give the same logits, up to {max(differences):.1e}."
        )
    return Text(text, "note")


def _importance(method: str, own: Sequence[Analysis], name: str) -> Chart:
    grid = [
        [mean(cells) for cells in zip(*rows, strict=True)]
        for rows in zip(*(one["importance"] for one in own), strict=True)
    ]
    header = ("layer", *(str(n) for n in range(len(grid[0]))))
    rows = tuple((str(n), *map(number, row)) for n, row in enumerate(grid))
    shades = f"{method}: importance of each head before any is removed, mean over runs"
    return Chart(f"{name}-importance", shades, heat(grid, "head", "layer"), Table(header, rows, shades))


def _rounds(share: float | None) -> str:
    return "once" if share is None else f"anew after every {share:.0%} of all heads"


def _table(own: Sequence[Analysis], by_choice: ByChoice, caption: str) -> Table:
    whole = _whole(own)
    heads = " or ".join(str(n) for n in sorted({int(one["heads"]) for one in own}))
    before = " or ".join(str(n) for n in sorted({int(point["removed"]) for point in whole}))
    rows = [_row("–", f"{before} of {heads}", "as it is", whole, whole)]
    for title, points in by_choice.items():
        for share, found in points.items():
            gone = " or ".join(str(n) for n in sorted({int(point["removed"]) for point in found}))
            rows.append(_row(f"{share:.0%}", f"{gone} of {heads}", title, found, whole))
    header = (
        "asked for",
        "removed heads",
        "chosen",
        "models",
        "accuracy",
        "lowest",
        "highest",
        "deviation",
        "macro F1",
        "parameters",
        "fall",
        "milliseconds a batch",
        "fall",
    )
    return Table(header, tuple(rows), caption, left=3)


def _row(
    share: str, removed: str, chosen: str, points: Sequence[Point], whole: Sequence[Point]
) -> tuple[str, ...]:
    accuracy, times = _values(points, "accuracy"), _values(points, "milliseconds")
    return (
        share,
        removed,
        chosen,
        str(len(points)),
        number(mean(accuracy)),
        number(min(accuracy)),
        number(max(accuracy)),
        number(stdev(accuracy) if len(accuracy) > 1 else None),
        number(mean(_values(points, "macro_f1"))),
        thousands(mean(_values(points, "parameters"))),
        _percent(fall(whole, points, "parameters")),
        number(mean(times) if times else None, 2),
        _percent(fall(whole, points, "milliseconds")),
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
