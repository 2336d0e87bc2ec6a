"""Charts of a part of a study: its methods over a recipe field, and over epochs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from statistics import mean

from trainers.reporting.page.blocks import (
    Block,
    Chart,
    Table,
    Text,
    duration,
    number,
    spread,
    thousands,
)
from trainers.reporting.page.charts import Panel, Series, panels
from trainers.reporting.runs.costs import peak_memory
from trainers.reporting.study.methods import Method
from trainers.reporting.study.setting_words import field_words
from trainers.reporting.study.significance import interval_text, score_interval
from trainers.reporting.study.tables import memory

MOST_PANELS = 12
"""Methods whose epochs are drawn; more would be a page of their own."""


def over_field(methods: Sequence[Method], field: str, name: str) -> list[Block]:
    """Score, time, memory and trainable weights over the values of a recipe field, a line a method."""
    places, ticks = _places(methods)
    if len(places) < 2:
        return []
    score = _score(methods)
    lines: dict[str, list[Method]] = {}
    for method in sorted(methods, key=lambda one: places[_key(one)]):
        lines.setdefault(method.line, []).append(method)

    def series(value: Callable[[Method], float]) -> tuple[Series, ...]:
        return tuple(
            Series(line, [places[_key(one)] for one in own], [value(one) for one in own])
            for line, own in lines.items()
        )

    def scores(line: str, own: Sequence[Method]) -> Series:
        values = [one.values(score) for one in own]
        several = any(len(one) > 1 for one in values)
        return Series(
            line,
            [places[_key(one)] for one in own],
            [mean(one) for one in values],
            [min(one) for one in values] if several else (),
            [max(one) for one in values] if several else (),
        )

    short = field_words(field)
    title = "Test accuracy" if score == "accuracy" else "Test UAR"
    drawn = [
        Panel(title, short, tuple(scores(*one) for one in lines.items()), ticks=ticks),
        Panel("Seconds a training", short, series(_seconds), from_zero=True, ticks=ticks),
        Panel("Trainable weights, millions", short, series(_weights), from_zero=True, ticks=ticks),
    ]
    if any(_memory(one) for one in methods):
        drawn.append(Panel("Peak memory, GiB", short, series(_memory), from_zero=True, ticks=ticks))
    header = (
        short,
        "method",
        "seeds",
        "accuracy",
        "95 % interval",
        "UAR",
        "time of a training",
        "peak memory",
        "trainable weights",
    )
    rows = tuple(
        (
            _text(one.value),
            one.line,
            str(len(one.scored)),
            spread(one.values("accuracy")),
            interval_text(score_interval(one)),
            spread(one.values("uar")),
            duration(_seconds(one)),
            memory(one),
            thousands(_weights(one) * 1e6),
        )
        for own in lines.values()
        for one in own
    )
    caption = f"{title} and costs over {short}: mean over seeds, the band from the lowest to the highest"
    return [Chart(f"{name}-field", caption, panels(drawn), Table(header, rows, caption, left=2))]


def over_epochs(methods: Sequence[Method], name: str) -> list[Block]:
    """Validation and test scores after each epoch, mean over runs, where the test part was logged."""
    logged = [method for method in methods if any(run.tests for run in method.runs)]
    if not logged:
        return []
    shown = logged[:MOST_PANELS]
    score = _score(methods)
    drawn, rows = [], []
    for method in shown:
        validation = _by_epoch(method, "validations", score)
        test = _by_epoch(method, "tests", score)
        lines = [
            Series(part, list(points), list(points.values()))
            for part, points in (("validation", validation), ("test", test))
            if points
        ]
        drawn.append(Panel(method.name, "epoch", tuple(lines)))
        rows += [
            (method.name, str(epoch), number(validation.get(epoch)), number(value))
            for epoch, value in test.items()
        ]
    title = "UAR" if score == "uar" else "Accuracy"
    caption = f"{title} after each epoch, mean over runs; the epoch is chosen on validation alone"
    table = Table(("method", "epoch", "validation", "test"), tuple(rows), caption)
    blocks: list[Block] = [Chart(f"{name}-epochs", caption, panels(drawn, 3), table)]
    if len(logged) > len(shown):
        blocks.append(Text(f"Shown are the first {len(shown)} of {len(logged)} methods.", "note"))
    return blocks


def _by_epoch(method: Method, lines: str, score: str) -> dict[int, float]:
    values: dict[int, list[float]] = {}
    for run in method.runs:
        for line in getattr(run, lines):
            if score in line and "epoch" in line:
                values.setdefault(int(line["epoch"]), []).append(float(line[score]))
    return {epoch: mean(own) for epoch, own in sorted(values.items())}


def _places(methods: Sequence[Method]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Where each value of the field stands: at itself if all are numbers, else at its number."""
    values = {_key(method): method.value for method in methods}
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values.values()):
        return {key: float(value) for key, value in values.items()}, ()
    ticks = tuple(_text(value) for value in values.values())
    return {key: float(place) for place, key in enumerate(values)}, ticks


def _key(method: Method) -> str:
    return json.dumps(method.value, sort_keys=True)


def _text(value: object) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)


def _score(methods: Sequence[Method]) -> str:
    return "uar" if any(method.first.task == "emotion" for method in methods) else "accuracy"


def _seconds(method: Method) -> float:
    return method.over_runs(lambda run: float(run.summary["seconds"]))


def _weights(method: Method) -> float:
    return method.over_runs(lambda run: float(run.parameters["trainable"])) / 1e6


def _memory(method: Method) -> float:
    return max(peak_memory(run) for run in method.runs) / 2**30
