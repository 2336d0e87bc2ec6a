"""What needs no training of a network: the baselines of a study's corpora and splits, as methods."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import InputError
from data_shards.index import open_index
from data_shards.splits import load_split
from trainers.metrics import SplitMetrics, class_metrics
from trainers.predictions import PredictionTable, read_predictions
from trainers.reporting.page.blocks import Block, Heading, Table, Text, number
from trainers.reporting.runs.record import Run
from trainers.reporting.study.methods import NO_SEED, Items, Method, Scored
from trainers.reporting.study.significance import few_speakers, interval_text, score_interval
from trainers.reporting.study.speakers import shards_of

SUMMARY = "baselines.json"
PREDICTIONS = "predictions-test.csv"


@dataclass(frozen=True)
class Baseline:
    """One baseline on the test samples of some methods."""

    method: Method
    """Its name is the baseline's title; it has no runs."""
    corpus: str
    digest: str
    """Of the index of the shards: packings of one corpus share their keys, not their content."""
    shards: str
    """Name of the folder of these shards."""
    what: str
    subsets: dict[str, dict[str, float]]
    """Of a single split."""


def find_baselines(methods: Sequence[Method], folder: Path) -> tuple[list[Baseline], list[str]]:
    """The baselines of every corpus and split among ``methods``, and why some are not there.

    ``folder`` keeps their results (<corpus>-<split>-<digest>/baselines.json); those that are there already
    are not computed again.
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
            own, left_out = _of_method(method, folder)
            found += own
            where = f"{about['corpus']}, {method.protocol}"
            problems += [f"a baseline of {where} is left out: {why}" for why in left_out]
        except InputError as error:
            problems.append(f"no baselines of {about['corpus']}, {method.protocol}: {error}")
    return found, problems


def _of_method(method: Method, folder: Path) -> tuple[list[Baseline], list[str]]:
    """Its baselines, pooled over its folds as its runs are, and why some are not there."""
    folds = [_of_split(run, folder) for run in method.scored[0].runs]
    assert method.items is not None
    run = method.first
    baselines = []
    for name, entry in folds[0].entries.items():
        if any(name not in fold.entries for fold in folds):
            continue  # such as the speakers' majority, where a fold cannot have it
        tables = [fold.tables[name] for fold in folds]
        own = [fold.entries[name] for fold in folds]
        metrics = [SplitMetrics.from_dict(one["splits"]["test"]) for one in own]
        items, predicted = _pooled(tables, method.items)
        if not items.same(method.items):
            raise InputError(
                "the split has been made anew since the training, its test samples are other ones"
            )
        pooled = metrics[0]
        if len(folds) > 1:
            loss = np.average([m.loss for m in metrics], weights=[m.items for m in metrics])
            pooled = class_metrics(items.truth, predicted, items.labels, np.full(len(predicted), loss))
        scored = Scored(NO_SEED, (), pooled, predicted)
        as_method = replace(
            method,
            name=str(entry["title"]),
            value=None,
            line="",
            scored=(scored,),
            items=items,
            notes=(),
            measured={},
        )
        subsets = entry.get("subsets") or {} if len(folds) == 1 else {}
        baselines.append(
            Baseline(
                as_method,
                items.corpus,
                str(run.data.get("digest")),
                shards_of(run).name,
                str(entry["what"]),
                subsets,
            )
        )
    return baselines, list(dict.fromkeys(line for fold in folds for line in fold.left_out))


@dataclass(frozen=True)
class _Kept:
    """What a folder of baselines holds of one split."""

    entries: dict[str, dict[str, Any]]
    """Name -> what baselines.json says of it."""
    tables: dict[str, PredictionTable]
    left_out: tuple[str, ...]
    """Why some are not there, a line each."""


def _of_split(run: Run, folder: Path) -> _Kept:
    """The baselines of a run's split, computed if they are not there, damaged, of other samples or made
    in an older way."""
    from trainers.baselines.results import VERSION, baselines_folder, part_digests, run_baselines

    digest, split = str(run.data.get("digest")), str(run.data["split"])
    place = baselines_folder(folder, str(run.data["corpus"]), split, digest)
    try:
        index = open_index(shards_of(run))
        if index.manifest.digest != digest:
            raise InputError(f"{index.root}: holds other samples than those of the training")
        now = {"version": VERSION, "parts": part_digests(load_split(index, split))}
    except InputError:
        if (kept := _kept(place, digest, {})) is not None:
            return kept  # what was computed while the shards were there
        raise
    kept = _kept(place, digest, now)
    if kept is None:
        run_baselines(shards_of(run), split, place)
        kept = _kept(place, digest, now)
    if kept is None:
        raise InputError(f"{place}: is not what was written there; remove that folder")
    return kept


def _kept(place: Path, digest: str, now: dict[str, Any]) -> _Kept | None:
    """None where it is not all there, of other shards, or made of what has changed since: ``now`` says
    how that is today."""
    document = _document(place)
    try:
        if document["digest"] != digest or any(document.get(key) != now[key] for key in now):
            return None
        entries = {str(entry["name"]): entry for entry in document["baselines"]}
        for entry in entries.values():
            str(entry["title"]), str(entry["what"])
            SplitMetrics.from_dict(entry["splits"]["test"])
        tables = {name: read_predictions(place / name / PREDICTIONS) for name in entries}
        left_out = tuple(str(line) for line in document.get("left_out", ()))
    except (InputError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return _Kept(entries, tables, left_out) if entries else None


def _document(place: Path) -> dict[str, Any]:
    try:
        document = json.loads((place / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _pooled(tables: Sequence[PredictionTable], items: Items) -> tuple[Items, Any]:
    """Items and predictions by key; the speakers are those of the method's items."""
    keys = [key for table in tables for key in table.keys]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    ordered = tuple(keys[n] for n in order)
    own = replace(
        items,
        keys=ordered,
        labels=tables[0].labels,
        truth=np.concatenate([table.truth for table in tables])[order],
        speakers=items.speakers if ordered == items.keys else None,
    )
    return own, np.concatenate([table.predicted for table in tables])[order]


def baseline_sections(baselines: Sequence[Baseline], problems: Sequence[str]) -> list[Block]:
    """One table a corpus and split, with intervals, recalls and subsets."""
    if not baselines and not problems:
        return []
    blocks: list[Block] = [
        Heading(2, "Baselines"),
        Text(
            "What is reached without a neural network: a method that is no better has learnt nothing "
            "that these have not."
        ),
        *(Text(problem, "warning") for problem in problems),
    ]
    packings: dict[str, set[str]] = {}
    groups: dict[tuple[str, str, str], list[Baseline]] = {}
    for one in baselines:
        packings.setdefault(one.corpus, set()).add(one.digest)
        groups.setdefault((one.corpus, one.digest, one.method.protocol), []).append(one)
    for (corpus, _, protocol), own in groups.items():
        packing = f" ({own[0].shards})" if len(packings[corpus]) > 1 else ""
        where = f"{corpus}{packing}, {protocol}"
        blocks += [_table(where, own), _recalls(where, own)]
        names = list(dict.fromkeys(name for one in own for name in one.subsets))
        if names:
            rows = tuple(
                (one.method.name, *(number(one.subsets.get(name, {}).get("accuracy")) for name in names))
                for one in own
            )
            caption = f"Accuracy on subsets of the test part of {where}"
            blocks.append(Table(("baseline", *names), rows, caption))
    return blocks


def _table(where: str, baselines: Sequence[Baseline]) -> Table:
    rows = []
    for one in baselines:
        metrics = one.method.scored[0].metrics
        rows.append(
            (
                one.method.name,
                one.what,
                number(metrics.accuracy),
                interval_text(score_interval(one.method)),
                number(metrics.uar),
                interval_text(score_interval(one.method, "uar")),
                number(metrics.macro_f1),
            )
        )
    header = ("baseline", "how it decides", "accuracy", "95 % interval", "UAR", "95 % interval", "macro F1")
    items = baselines[0].method.items
    units = "speakers" if items is not None and items.speakers is not None else "samples"
    about = f"intervals resample {units}"
    if few_speakers(baselines[0].method):
        about = "too few speakers for intervals"
    return Table(header, tuple(rows), f"Test part of {where}; {about}", left=2)


def _recalls(where: str, baselines: Sequence[Baseline]) -> Table:
    """Of each class: beside the scores they would not fit on a page."""
    found = [(one.method.name, one.method.scored[0].metrics) for one in baselines]
    rows = tuple((name, *map(number, metrics.recall)) for name, metrics in found)
    return Table(("baseline", *found[0][1].labels), rows, f"Recall of each class, test part of {where}")
