"""The seeds of a method, the test parts of their folds taken as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trainers.metrics import SplitMetrics, class_metrics
from trainers.predictions import PredictionTable, read_predictions
from trainers.reporting.runs.record import Run
from trainers.reporting.study.methods import Codes, Items, Scored
from trainers.reporting.study.speakers import speakers_of

Seeds = Mapping[int, Mapping[int, Run]]
"""Seed -> fold -> run; every seed has the same folds."""


def why_apart(seeds: Seeds) -> str:
    """Why folds cannot be pooled, in words; empty where they can, or where there is but one."""
    for by_fold in seeds.values():
        if len(by_fold) < 2:
            continue
        pooled = _predictions(tuple(by_fold.values()))
        if pooled is None:
            return "of one there is no file of predictions, or it has other classes"
        keys = pooled[0].keys
        if len(set(keys)) < len(keys):
            twice = len(keys) - len(set(keys))
            return f"{twice} test samples stand in more than one, so they are no folds of one split"
    return ""


def pooled_seeds(seeds: Seeds) -> tuple[tuple[Scored, ...], Items | None, str]:
    """One ``Scored`` a seed, and the test samples that all of them share; None where a run has no file
    of predictions, or where the seeds' samples differ, which the last text says.

    Raises ValueError for folds that ``why_apart`` says cannot be pooled.
    """
    items: Items | None = None
    problem = ""
    scored = []
    for seed, by_fold in seeds.items():
        runs = tuple(by_fold[fold] for fold in sorted(by_fold))
        pooled = _predictions(runs)
        predicted = None
        if pooled is not None:
            own, predicted = pooled
            items = items or own
            if not own.same(items):
                problem = "the seeds have different test samples, so none is paired"
        metrics = runs[0].splits["test"]
        if len(runs) > 1:
            if pooled is None:
                raise ValueError("folds without predictions")
            metrics = _metrics(runs, *pooled)
        scored.append(Scored(seed, runs, metrics, predicted))
    if problem or any(one.predicted is None for one in scored):
        items = None
        scored = [Scored(one.seed, one.runs, one.metrics, None) for one in scored]
    return tuple(scored), items, problem


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
