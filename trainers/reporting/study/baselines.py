"""What needs no training of a network: the baselines of a study's corpora and splits, as methods."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import InputError
from trainers.metrics import SplitMetrics, class_metrics
from trainers.predictions import PredictionTable, read_predictions
from trainers.reporting.blocks import Block, Heading, Table, Text, number
from trainers.reporting.methods import Items, Method, Scored
from trainers.reporting.record import Run
from trainers.reporting.significance import interval_text, score_interval
from trainers.reporting.speakers import shards_of

SUMMARY = "baselines.json"


@dataclass(frozen=True)
class Baseline:
    """One baseline on the test samples of some methods."""

    method: Method
    """Its name is the baseline's title; it has no runs."""
    corpus: str
    what: str
    subsets: dict[str, dict[str, float]]
    """Of a single split."""


def find_baselines(methods: Sequence[Method], folder: Path) -> tuple[list[Baseline], list[str]]:
    """The baselines of every corpus and split among ``methods``, and why some are not there.

    ``folder`` keeps their results (<corpus>-<split>/baselines.json); those that are there already are
    not computed again.
    """
    found: list[Baseline] = []
    problems: list[str] = []
    done: list[tuple[Any, ...]] = []
    for method in methods:
        about = method.first.data
        key = (about["corpus"], about.get("digest"), method.split, method.folds)
        if key in done or method.items is None:
            continue
        done.append(key)
        try:
            found += _of_method(method, folder)
        except InputError as error:
            problems.append(f"no baselines of {about['corpus']}, {method.protocol}: {error}")
    return found, problems


def _of_method(method: Method, folder: Path) -> list[Baseline]:
    """Its baselines, pooled over its folds as its runs are."""
    folds = [_of_split(run, folder) for run in method.scored[0].runs]
    assert method.items is not None
    baselines = []
    for position, entry in enumerate(folds[0][1]["baselines"]):
        files = [place / entry["name"] / "predictions-test.csv" for place, _ in folds]
        tables = [read_predictions(file) for file in files]
        own = [document["baselines"][position] for _, document in folds]
        metrics = [SplitMetrics.from_dict(one["splits"]["test"]) for one in own]
        items, predicted = _pooled(tables, method.items)
        pooled = metrics[0]
        if len(folds) > 1:
            loss = np.average([m.loss for m in metrics], weights=[m.items for m in metrics])
            pooled = class_metrics(
                items.truth, predicted, items.labels, np.full(len(predicted), loss)
            )
        scored = Scored(0, (), pooled, predicted)
        as_method = replace(
            method, name=str(entry["title"]), value=None, line="", scored=(scored,), items=items,
            notes=(),
        )  # fmt: skip
        subsets = entry.get("subsets") or {} if len(folds) == 1 else {}
        baselines.append(Baseline(as_method, items.corpus, str(entry["what"]), subsets))
    return baselines


def _of_split(run: Run, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The folder and the document of the baselines of a run's split, computed if need be."""
    data = run.data
    name = f"{data['corpus']}-{data['split']}"
    for place in (folder / name, folder / f"{name}-{str(data.get('digest'))[:8]}"):
        document = _document(place / SUMMARY)
        if document.get("digest") == data.get("digest") and document.get("baselines"):
            return place, document
        if not document:
            break
    from trainers.baselines.results import run_baselines

    run_baselines(shards_of(run), str(data["split"]), place)
    return place, _document(place / SUMMARY)


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _pooled(tables: Sequence[PredictionTable], items: Items) -> tuple[Items, Any]:
    """Items and predictions by key; the speakers are those of the method's items."""
    keys = [key for table in tables for key in table.keys]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    ordered = tuple(keys[n] for n in order)
    own = replace(
        items, keys=ordered, labels=tables[0].labels,
        truth=np.concatenate([table.truth for table in tables])[order],
        speakers=items.speakers if ordered == items.keys else None,
    )  # fmt: skip
    return own, np.concatenate([table.predicted for table in tables])[order]


def baseline_sections(baselines: Sequence[Baseline], problems: Sequence[str]) -> list[Block]:
    """One table a corpus and split, with intervals, recalls and subsets."""
    if not baselines and not problems:
        return []
    blocks: list[Block] = [
        Heading(2, "Baselines"),
        Text("What is reached without a neural network: a method that is no better has learnt nothing "
             "that these have not."),
        *(Text(problem, "warning") for problem in problems),
    ]  # fmt: skip
    groups: dict[tuple[Any, ...], list[Baseline]] = {}
    for one in baselines:
        digest = one.method.items.keys if one.method.items else ()
        groups.setdefault((one.corpus, one.method.protocol, digest), []).append(one)
    for (corpus, protocol, _), own in groups.items():
        blocks.append(_table(f"{corpus}, {protocol}", own))
        names = list(dict.fromkeys(name for one in own for name in one.subsets))
        if names:
            rows = tuple(
                (one.method.name, *(number(one.subsets.get(name, {}).get("accuracy")) for name in names))
                for one in own
            )  # fmt: skip
            blocks.append(Table(("baseline", *names), rows, "Accuracy on subsets of the test part"))
    return blocks


def _table(where: str, baselines: Sequence[Baseline]) -> Table:
    labels = baselines[0].method.scored[0].metrics.labels
    rows = []
    for one in baselines:
        metrics = one.method.scored[0].metrics
        rows.append((
            one.method.name, one.what,
            number(metrics.accuracy), interval_text(score_interval(one.method)),
            number(metrics.uar), interval_text(score_interval(one.method, "uar")),
            number(metrics.macro_f1), *map(number, metrics.recall),
        ))  # fmt: skip
    header = ("baseline", "how it decides", "accuracy", "95 % interval", "UAR", "95 % interval",
              "macro F1", *(f"recall {label}" for label in labels))  # fmt: skip
    items = baselines[0].method.items
    units = "speakers" if items is not None and items.speakers is not None else "samples"
    return Table(header, tuple(rows), f"Test part of {where}; intervals resample {units}", left=2)
