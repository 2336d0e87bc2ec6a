"""The runs of a part of a study -> its methods: grouped by settings, folds pooled."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trainers.metrics import SplitMetrics, class_metrics
from trainers.predictions import PredictionTable, read_predictions
from trainers.reporting.runs.record import Run
from trainers.reporting.study.file import StudyMember, StudyPart
from trainers.reporting.study.methods import Codes, Items, Method, Scored
from trainers.reporting.study.speakers import speakers_of

_FOLD = re.compile(r"(.+)-fold(\d+)")
_SPLIT = "data.split"


def methods_of(part: StudyPart, found: Mapping[str, Run]) -> list[Method]:
    """The methods of a part, in the order of its members, from the runs that are there.

    Runs of splits named <name>-fold<n> are pooled over their folds: the test parts of all folds make
    one. A seed that lacks folds which another seed has is left out, and a note says so.
    """
    rows = [
        (member, found[member.run], _settings(member, part.curve))
        for member in part.members
        if member.run in found and "test" in found[member.run].splits
    ]
    if not rows:
        return []
    recipes = {run.recipe for _, run, _ in rows}
    splits = {_split(run)[0] for _, run, _ in rows}
    groups: dict[str, list[tuple[StudyMember, Run, dict[str, Any]]]] = {}
    for row in rows:
        key = [
            row[1].recipe,
            _split(row[1])[0],
            row[1].data["corpus"],
            row[2],
            _value(part, row[1]),
        ]
        groups.setdefault(json.dumps(key, sort_keys=True), []).append(row)
    methods: list[Method] = []
    for group in groups.values():
        method = _method(part, group, len(recipes) > 1, len(splits) > 1)
        if any(method.name == other.name for other in methods):  # such as corpora of one name
            method = replace(method, name=f"{method.name} ({len(methods) + 1})")
        methods.append(method)
    return methods


def _method(
    part: StudyPart,
    group: Sequence[tuple[StudyMember, Run, dict[str, Any]]],
    many_recipes: bool,
    many_splits: bool,
) -> Method:
    _, first, settings = group[0]
    split = _split(first)[0]
    value = _value(part, first)
    words = [first.recipe] if many_recipes else []
    words += [_setting(key, value) for key, value in settings.items()]
    if many_splits and split not in words:
        words.append(split)
    line = ", ".join(words) or first.recipe
    name = ", ".join([*words, _setting(part.curve, value)] if part.curve else words) or first.recipe
    seeds: dict[int, dict[int, Run]] = {}
    for member, run, _ in group:
        seeds.setdefault(member.seed, {}).setdefault(_split(run)[1], run)
    folds = sorted({fold for runs in seeds.values() for fold in runs})
    most = max(len(runs) for runs in seeds.values())
    notes = []
    whole = {seed: runs for seed, runs in seeds.items() if len(runs) == most}
    if len(whole) < len(seeds):
        out = ", ".join(str(seed) for seed in seeds if seed not in whole)
        notes.append(f"{name}: seed {out} left out, it lacks folds")
    if most < len(folds):
        notes.append(f"{name}: no seed has all of the folds {', '.join(map(str, folds))}")
    return _pooled(name, value, line, split, most, whole, notes)


def _pooled(
    name: str, value: Any, line: str, split: str, folds: int,
    seeds: Mapping[int, Mapping[int, Run]], notes: list[str],
) -> Method:  # fmt: skip
    items: Items | None = None
    scored = []
    for seed, by_fold in seeds.items():
        runs = tuple(by_fold[fold] for fold in sorted(by_fold))
        pooled = _predictions(runs)
        predicted = None
        if pooled is not None:
            own, predicted = pooled
            items = items or own
            if not own.same(items):
                notes.append(f"{name}: the seeds have different test samples, so none is paired")
                items, predicted = None, None
        metrics = runs[0].splits["test"]
        if len(runs) > 1:
            if pooled is None:
                notes.append(f"{name}: a fold has no file of predictions; only fold 1 is shown")
            else:
                metrics = _metrics(runs, *pooled)
        scored.append(Scored(seed, runs, metrics, predicted))
    if items is None or any(one.predicted is None for one in scored):
        items = None
        scored = [Scored(one.seed, one.runs, one.metrics, None) for one in scored]
    return Method(name, value, line, split, folds, tuple(scored), items, tuple(notes))


def _predictions(runs: Sequence[Run]) -> tuple[Items, Codes] | None:
    """The test samples and predictions of runs of different folds, by key."""
    tables: list[PredictionTable] = []
    speakers: list[Codes | None] = []
    for run in runs:
        path = run.path / "eval" / "predictions-test.csv"
        if not path.is_file():
            return None
        tables.append(read_predictions(path))
        speakers.append(speakers_of(run, tables[-1].keys))
    if len({table.labels for table in tables}) > 1:
        return None
    keys = [key for table in tables for key in table.keys]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    known = [one for one in speakers if one is not None]
    items = Items(
        corpus=str(runs[0].data["corpus"]),
        keys=tuple(keys[n] for n in order),
        labels=tables[0].labels,
        truth=np.concatenate([table.truth for table in tables])[order],
        speech=runs[0].task == "emotion",
        speakers=np.concatenate(known)[order] if len(known) == len(tables) else None,
    )
    return items, np.concatenate([table.predicted for table in tables])[order]


def _metrics(runs: Sequence[Run], items: Items, predicted: Codes) -> SplitMetrics:
    """Of the pooled folds. The files hold no exact losses: theirs is the mean of the folds', by items."""
    tests = [run.splits["test"] for run in runs]
    loss = np.average([test.loss for test in tests], weights=[test.items for test in tests])
    return class_metrics(items.truth, predicted, items.labels, np.full(len(predicted), loss))


def _split(run: Run) -> tuple[str, int]:
    """What the folds of a split share, and which it is; 0 for a single one."""
    name = str(run.data["split"])
    found = _FOLD.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, 0)


def _settings(member: StudyMember, curve: str | None) -> dict[str, Any]:
    """The member's grid values that make it a method of its own."""
    varied = {key: value for key, value in member.varied.items() if key != curve}
    if _FOLD.fullmatch(str(varied.get(_SPLIT, ""))):
        del varied[_SPLIT]
    return varied


def _value(part: StudyPart, run: Run) -> Any:
    """The value of the curve's field in a run's recipe."""
    value: Any = run.config
    for key in part.curve.split(".") if part.curve else ():
        value = value.get(key) if isinstance(value, dict) else None
    return value if part.curve else None


def _setting(key: str, value: Any) -> str:
    """``layers 3`` for model.regime.layers: 3; a name that stands for itself alone."""
    short = key.rpartition(".")[2]
    if key == _SPLIT or (key == "data.shards" and isinstance(value, str)):
        return Path(str(value)).name
    if isinstance(value, dict):
        inner = ", ".join(_setting(name, one) for name, one in value.items() if one is not None)
        return inner or short
    return f"{short} {value if isinstance(value, str) else json.dumps(value)}"
