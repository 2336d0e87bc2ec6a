"""What was measured on trained models, over the runs of one method or one run alone: probes of the
layers, noised test clips, weights of the layers. Removed heads are in ``removed_heads``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from trainers.reporting.page.blocks import Block, Chart, Table, Text, number
from trainers.reporting.page.blocks import spread
from trainers.reporting.runs.record import Run
from trainers.reporting.runs.removed_heads import pruning_blocks
from trainers.reporting.page.charts import Panel, Series, bars, panels

Named = Mapping[str, Sequence[Run]]
"""Method -> its runs."""


def analysis_blocks(methods: Named, name: str) -> list[Block]:
    """All analyses that were made; ``name`` keeps charts apart."""
    return [
        *pruning_blocks(methods, name),
        *_probes(_with(methods, "probes"), name),
        *_noise(_with(methods, "noise")),
        *_weights(_with(methods, "layer_weights"), name),
    ]


def _with(methods: Named, analysis: str) -> dict[str, list[dict[str, Any]]]:
    """Method -> the analysis of each run that has it."""
    found = {
        name: [run.analyses[analysis] for run in runs if analysis in run.analyses]
        for name, runs in methods.items()
    }
    return {name: own for name, own in found.items() if own}


def layer_means(own: Sequence[dict[str, Any]], score: str) -> dict[int, float]:
    """Layer -> mean score over runs."""
    values: dict[int, list[float]] = {}
    for one in own:
        for layer in one["layers"]:
            values.setdefault(int(layer["layer"]), []).append(float(layer[score]))
    return {layer: mean(scores) for layer, scores in sorted(values.items())}


def _probes(methods: dict[str, list[dict[str, Any]]], name: str) -> list[Block]:
    if not methods:
        return []
    drawn = []
    first = next(iter(methods.values()))[0]
    for score, title in (("accuracy", "Test accuracy"), ("uar", "Test UAR")):
        lines = [(method, layer_means(own, score)) for method, own in methods.items()]
        series = tuple(Series(m, list(points), list(points.values())) for m, points in lines)
        level = ("majority class", mean(one["majority"] for own in methods.values() for one in own))
        drawn.append(Panel(title, "layer", series, level if score == "accuracy" else None))
    rows: list[tuple[str, ...]] = []
    for method, own in methods.items():
        scores = ("validation_accuracy", "accuracy", "uar", "macro_f1")
        columns = [layer_means(own, score) for score in scores]
        rows += [(method, str(n), *(number(column[n]) for column in columns)) for n in columns[0]]
    when = {"start": "before training", "end": "as trained"}.get(str(first["weights"]), "")
    caption = (
        f"A linear classifier on each layer's frozen features ({first['features']}; the model "
        f"{when}); layer 0 is the input of the first"
    )
    header = ("method", "layer", "validation accuracy", "accuracy", "UAR", "macro F1")
    return [Chart(f"{name}-probes", caption, panels(drawn), Table(header, tuple(rows), caption))]


def _noise(methods: dict[str, list[dict[str, Any]]]) -> list[Block]:
    if not methods:
        return []
    labels = list(dict.fromkeys(x for own in methods.values() for x in own[0]["clean"]["recall"]))
    rows: list[tuple[str, ...]] = []
    shares: list[tuple[str, ...]] = []
    rules: list[int] = []
    for method, own in methods.items():
        rules.append(len(rows))
        for kind in ("clean", "noised"):
            scores = [
                spread([one[kind][s] for one in own]) for s in ("accuracy", "uar", "macro_f1")
            ]
            columns = [
                [mean(one[kind][what].get(label, 0.0) for one in own) for label in labels]
                for what in ("recall", "predicted_share")
            ]
            changed = number(mean(one["changed"] for one in own)) if kind == "noised" else ""
            rows.append((method, kind, *scores, changed, *map(number, columns[0])))
            shares.append((method, kind, *map(number, columns[1])))
    header = ("method", "test clips", "accuracy", "UAR", "macro F1", "predictions changed",
              *(f"recall {label}" for label in labels))  # fmt: skip
    tables = (
        Table(header, tuple(rows), "Test clips as they are, and changed as training changes clips",
              2, tuple(rules[1:])),
        Table(("method", "test clips", *labels), tuple(shares), "Share of predictions by class", 2,
              tuple(rules[1:])),
    )  # fmt: skip
    changes = next(iter(methods.values()))[0].get("augment", {}).get("changes")
    note = "A model that has taken noise for a sign of a class answers otherwise on noised clips."
    return [*tables, Text(f"{note} {changes}." if changes else note, "note")]


def _weights(methods: dict[str, list[dict[str, Any]]], name: str) -> list[Block]:
    if not methods:
        return []
    groups = {
        method: [mean(column) for column in zip(*(one["weights"] for one in own), strict=True)]
        for method, own in methods.items()
    }
    most = max(map(len, groups.values()))
    groups = {method: own for method, own in groups.items() if len(own) == most}
    layers = [str(n) for n in range(most)]
    caption = "Learnt weights of the layers (softmax), mean over runs; layer 0 is the first's input"
    rows = tuple((method, *map(number, own)) for method, own in groups.items())
    table = Table(("method", *layers), rows, caption)
    return [Chart(f"{name}-weights", caption, bars(layers, groups, "weight", "layer"), table)]
