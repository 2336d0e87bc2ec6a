"""The tables of one part of a study: scores, per-class recall, subsets, costs; one row a method."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from trainers.reporting.page.blocks import (
    Block,
    Table,
    Text,
    duration,
    isolated,
    number,
    spread,
    thousands,
)
from trainers.reporting.runs.costs import peak_memory, rate_text
from trainers.reporting.statistics.bootstrap import FEWEST_CLUSTERS
from trainers.reporting.study.methods import Method
from trainers.reporting.study.significance import few_speakers, interval_text, score_interval


def method_tables(methods: Sequence[Method]) -> list[Block]:
    """All tables of a part that has classifiers."""
    blocks: list[Block] = [scores(methods)]
    leaky = [method.protocol for method in methods if method.leaky]
    if leaky:
        text = (
            f"The same speakers are in train and test ({', '.join(dict.fromkeys(leaky))}): these "
            "scores are those of a speaker-dependent system and say nothing of new voices."
        )
        blocks.append(Text(text, "warning"))
    few = [method.protocol for method in methods if few_speakers(method)]
    if few:
        text = (
            f"The test part has fewer than {FEWEST_CLUSTERS} speakers ({', '.join(dict.fromkeys(few))}): "
            "too few speakers for intervals, and no difference stands."
        )
        blocks.append(Text(text, "warning"))
    blocks += [Text(note, "warning") for method in methods for note in method.notes]
    blocks += [recalls(methods), *subsets(methods), costs(methods)]
    return blocks


def scores(methods: Sequence[Method]) -> Table:
    """Test scores over seeds with intervals."""
    speech = any(method.first.task == "emotion" for method in methods)
    header = (
        "method",
        "split",
        "seeds",
        "accuracy",
        "95 % interval",
        "UAR",
        *(("95 % interval",) if speech else ()),
        "macro F1",
        "loss",
    )
    rows = []
    for method in methods:
        uar = (interval_text(score_interval(method, "uar")),) if speech else ()
        rows.append(
            (
                method.name,
                method.protocol + (" (speakers shared)" if method.leaky else ""),
                str(len(method.scored)),
                spread(method.values("accuracy")),
                interval_text(score_interval(method)),
                spread(method.values("uar")),
                *uar,
                spread(method.values("macro_f1")),
                spread(method.values("loss")),
            )
        )
    caption = (
        "Test part: mean ± sample standard deviation over seeds; intervals of the mean by resampling "
        f"the test {'speakers (samples, where no speakers are known)' if speech else 'samples'}"
    )
    return Table(header, tuple(rows), caption, left=2)


def recalls(methods: Sequence[Method]) -> Table:
    """Recall of each class, mean over seeds; a dash where a corpus lacks a class."""
    labels = list(dict.fromkeys(x for method in methods for x in method.scored[0].metrics.labels))
    rows = tuple((method.name, *(number(_recall(method, label)) for label in labels)) for method in methods)
    caption = "Recall of each class on the test part, mean over seeds"
    return Table(("method", *labels), rows, caption)


def _recall(method: Method, label: str) -> float | None:
    metrics = [one.metrics for one in method.scored]
    found = [dict(zip(m.labels, zip(m.recall, m.support, strict=True), strict=True)) for m in metrics]
    values = [one[label][0] for one in found if label in one and one[label][1]]
    return mean(values) if values else None


def subsets(methods: Sequence[Method]) -> list[Block]:
    """Scores of the test part's subsets, mean over seeds (and folds, weighted by their items)."""
    names = list(
        dict.fromkeys(
            name for method in methods for run in method.runs for name in run.subsets.get("test", {})
        )
    )
    if not names:
        return []
    score = "uar" if any(method.first.task == "emotion" for method in methods) else "accuracy"
    rows = tuple((m.name, *(number(_subset(m, name, score)) for name in names)) for m in methods)
    sizes = [_subset_items(methods, name) for name in names]
    header = ("method", *(f"{isolated(name)} ({n})" for name, n in zip(names, sizes, strict=True)))
    title = "UAR" if score == "uar" else "Accuracy"
    caption = f"{title} on subsets of the test part (their samples), mean over seeds"
    if any(len(method.folds) > 1 for method in methods):
        caption += "; mean over folds by samples, not pooled as the scores above"
    return [Table(header, rows, caption)]


def _subset(method: Method, name: str, score: str) -> float | None:
    found = [run.subsets.get("test", {}).get(name) for run in method.runs]
    values = [(one[score], one["items"]) for one in found if one]
    items = sum(n for _, n in values)
    return sum(value * n for value, n in values) / items if items else None


def _subset_items(methods: Sequence[Method], name: str) -> str:
    sizes = {
        sum(int(run.subsets.get("test", {}).get(name, {}).get("items", 0)) for run in one.runs)
        for method in methods
        for one in method.scored
    } - {0}
    return " or ".join(thousands(size) for size in sorted(sizes))


def costs(methods: Sequence[Method]) -> Table:
    """What trains and what it costs, mean over runs."""
    rows = tuple(
        (
            method.name,
            method.first.regime,
            method.first.start,
            thousands(method.over_runs(lambda run: float(run.parameters["trainable"]))),
            thousands(method.over_runs(lambda run: float(run.parameters["total"]))),
            duration(method.over_runs(lambda run: float(run.summary["seconds"]))),
            thousands(method.over_runs(lambda run: float(run.summary["steps"]))),
            rate_text(method.first),
            memory(method),
        )
        for method in methods
    )
    header = (
        "method",
        "what it is",
        "begins with",
        "trainable weights",
        "all weights",
        "time of a training",
        "steps",
        "throughput",
        "peak memory",
    )
    return Table(header, rows, "What a training costs, mean over its runs", left=3)


def memory(method: Method) -> str:
    """Peak memory of a rank, the highest of all runs."""
    peak = max(peak_memory(run) for run in method.runs)
    return f"{peak / 2**30:.2f} GiB" if peak else "–"
