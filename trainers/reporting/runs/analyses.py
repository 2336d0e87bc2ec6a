"""What was measured on trained models, over the runs of one method or one run alone: probes of the
layers, noised test clips, weights of the layers. Removed heads are in ``removed_heads``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from trainers.reporting.page.blocks import Block, Chart, Table, Text, number, spread
from trainers.reporting.page.charts import Panel, Series, bars, panels
from trainers.reporting.runs.record import Run
from trainers.reporting.runs.removed_heads import pruning_blocks

Named = Mapping[str, Sequence[Run]]
"""Method -> its runs."""


def analysis_blocks(methods: Named, name: str) -> list[Block]:
    """All analyses that were made; ``name`` keeps charts apart."""
    over = "; mean over runs"
    if any(over_folds(runs) for runs in methods.values()):
        over += " (where there are folds, mean over folds, not pooled as the scores above)"
    return [
        *pruning_blocks(methods, name),
        *_probes(_with(methods, "probes"), name, over),
        *_noise(_with(methods, "noise"), over),
        *_weights(_with(methods, "layer_weights"), name, over),
    ]


def over_folds(runs: Sequence[Run]) -> str:
    """Of what a mean over runs is where they are of several folds, whose scores elsewhere are pooled."""
    return "mean over folds" if len({run.data["split"] for run in runs}) > 1 else ""


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


def _probes(methods: dict[str, list[dict[str, Any]]], name: str, over: str) -> list[Block]:
    if not methods:
        return []
    drawn = []
    own = [one for runs in methods.values() for one in runs]
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
    words = {"start": "before training", "end": "as trained"}
    when = " or ".join(dict.fromkeys(words.get(str(one["weights"]), "") for one in own))
    caption = (
        f"A linear classifier on each layer's frozen features ({own[0]['features']}; the model "
        f"{when}); layer 0 is the input of the first{over}"
    )
    header = ("method", "layer", "validation accuracy", "accuracy", "UAR", "macro F1")
    return [Chart(f"{name}-probes", caption, panels(drawn), Table(header, tuple(rows), caption))]


def _noise(methods: dict[str, list[dict[str, Any]]], over: str) -> list[Block]:
    if not methods:
        return []
    labels = list(
        dict.fromkeys(
            label for own in methods.values() for one in own for label in one["clean"]["predicted_share"]
        )
    )
    rows: list[tuple[str, ...]] = []
    shares: list[tuple[str, ...]] = []
    rules: list[int] = []
    for method, own in methods.items():
        rules.append(len(rows))
        for kind in ("clean", "noised"):
            scores = [spread([one[kind][s] for one in own]) for s in ("accuracy", "uar", "macro_f1")]
            recalls = [_recall(own, kind, label) for label in labels]
            predicted = [
                mean(one[kind]["predicted_share"].get(label, 0.0) for one in own) for label in labels
            ]
            changed = number(mean(one["changed"] for one in own)) if kind == "noised" else ""
            rows.append((method, kind, *scores, changed, *map(number, recalls)))
            shares.append((method, kind, *map(number, predicted)))
    header = (
        "method",
        "test clips",
        "accuracy",
        "UAR",
        "macro F1",
        "predictions changed",
        *(f"recall {label}" for label in labels),
    )
    tables = (
        Table(
            header,
            tuple(rows),
            f"Test clips as they are, and changed as training changes clips{over}",
            2,
            tuple(rules[1:]),
        ),
        Table(
            ("method", "test clips", *labels),
            tuple(shares),
            f"Share of predictions by class{over}",
            2,
            tuple(rules[1:]),
        ),
    )
    changes = next(iter(methods.values()))[0].get("augment", {}).get("changes")
    note = "A model that has taken noise for a sign of a class answers otherwise on noised clips."
    return [*tables, Text(f"{note} {changes}." if changes else note, "note")]


def _recall(own: Sequence[dict[str, Any]], kind: str, label: str) -> float | None:
    """Mean over the runs whose test part has the class; None where none has."""
    recalls = [one[kind]["recall"][label] for one in own if label in one[kind]["recall"]]
    return mean(recalls) if recalls else None


def _weights(methods: dict[str, list[dict[str, Any]]], name: str, over: str) -> list[Block]:
    if not methods:
        return []
    groups = {
        method: [mean(column) for column in zip(*(one["weights"] for one in own), strict=True)]
        for method, own in methods.items()
    }
    most = max(map(len, groups.values()))
    groups = {method: own for method, own in groups.items() if len(own) == most}
    layers = [str(n) for n in range(most)]
    caption = f"Learnt weights of the layers (softmax); layer 0 is the first's input{over}"
    rows = tuple((method, *map(number, own)) for method, own in groups.items())
    table = Table(("method", *layers), rows, caption)
    return [Chart(f"{name}-weights", caption, bars(layers, groups, "weight", "layer"), table)]
