"""The sections over several runs: side by side, over seeds, and beside the reference report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from configs.load import flatten, is_site
from trainers.metrics import SplitMetrics
from trainers.reporting import plots
from trainers.reporting.blocks import (
    Block,
    Chart,
    Heading,
    Table,
    Text,
    duration,
    number,
    thousands,
)
from trainers.reporting.costs import memory_text, rate_text
from trainers.reporting.methods import spread
from trainers.reporting.record import Run
from trainers.reporting.reference import (
    HUBERT,
    HUBERT_NOTES,
    HUBERT_TEST_F1,
    REGIME_NOTES,
    REGIMES,
    confusion_line,
    emotion_f1,
    nli_confusion,
    why_not_comparable,
)

SCORES = ("accuracy", "uar", "macro_f1", "weighted_f1", "loss")
SCORE_TITLES = ("accuracy", "UAR", "macro F1", "weighted F1", "loss")


def side_by_side(runs: Sequence[Run]) -> list[Block]:
    """Scores and costs, one row per run."""
    scores, costs = [], []
    settings = varied(runs)
    differ = any(settings.values())
    for run in runs:
        test = run.splits.get("test")
        values = [getattr(test, name) if test else None for name in SCORES]
        corpus = f"{_corpus(run)}, {run.data['split']}"
        own = (settings[run.path] or "–",) if differ else ()
        scores.append((run.name, corpus, run.regime, *own, str(run.seed), *map(number, values)))
        costs.append(
            (
                run.name,
                thousands(int(run.parameters["trainable"])),
                str(run.environment.get("ranks", "–")),
                str(run.summary["steps"]),
                duration(float(run.summary["seconds"])),
                rate_text(run),
                memory_text(run),
                f"{run.best['epoch']} ({run.best['metric']} {float(run.best['value']):.3f})",
            )
        )
    blocks: list[Block] = [Heading(2, "Comparison")]
    if any(run.synthetic for run in runs):
        every = all(run.synthetic for run in runs)
        blocks.append(Text("SYNTHETIC DATA" if every else "SOME RUNS ON SYNTHETIC DATA", "badge"))
    titles = ("run", "corpus, split", "regime", *(("settings",) if differ else ()), "seed",
              *SCORE_TITLES)  # fmt: skip
    blocks.append(Table(titles, tuple(scores), "Scores of the test part", left=3 + differ))
    if len({(run.data["corpus"], run.data["split"]) for run in runs}) > 1:
        text = "These runs differ in corpus or split: scores compare only within one of them."
        blocks.append(Text(text, "warning"))
    header = ("run", "trainable weights", "ranks", "steps", "duration", "throughput",
              "peak memory", "best epoch (validation)")  # fmt: skip
    return [*blocks, Table(header, tuple(costs), "What they cost")]


def seed_groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ in nothing but the seed (and what cannot change a result), by first run.

    A seed that was run twice counts once.
    """
    groups: dict[str, dict[int, Run]] = {}
    for run in runs:
        shards = run.config.get("data", {}).get("shards")
        about = [run.recipe, shards, run.data["corpus"], run.data["split"]]
        key = json.dumps([*about, _settings(run)], sort_keys=True)
        groups.setdefault(key, {}).setdefault(run.seed, run)
    return [list(group.values()) for group in groups.values()]


def varied(runs: Sequence[Run]) -> dict[Path, str]:
    """Run directory -> the settings in which runs of its recipe differ, the seed aside, with the
    values that they have there."""
    values: dict[tuple[str, str], set[str]] = {}
    for run in runs:
        for key, value in _settings(run).items():
            values.setdefault((run.recipe, key), set()).add(json.dumps(value))
    texts = {}
    for run in runs:
        own = _settings(run)
        keys = [key for name, key in values if name == run.recipe and len(values[name, key]) > 1]
        texts[run.path] = ", ".join(f"{key} {_value(own.get(key))}" for key in keys)
    return texts


def _settings(run: Run) -> dict[str, Any]:
    """What can change a run's result, but for its seed."""
    flat = flatten(run.config)
    if flat.get("model.pretrained"):  # another run of equal seed is the same setting for all seeds
        flat["model.pretrained"] = run.start
    return {key: value for key, value in flat.items() if key != "seed" and not is_site(key)}


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def over_seeds(runs: Sequence[Run]) -> list[Block]:
    """Mean and spread over seeds by recipe and settings; nothing if no run differs only in the seed."""
    groups = seed_groups([run for run in runs if "test" in run.splits])
    if all(len(group) < 2 for group in groups):
        return []
    settings = varied([group[0] for group in groups])
    differ = any(settings.values())
    rows = tuple(
        (
            group[0].recipe,
            *((settings[group[0].path] or "–",) if differ else ()),
            _corpus(group[0]),
            ", ".join(str(run.seed) for run in group),
            *(spread([getattr(run.splits["test"], name) for run in group]) for name in SCORES),
        )
        for group in groups
    )
    caption = "Test part, mean ± sample standard deviation over runs that differ only in the seed"
    titles = ("recipe", *(("settings",) if differ else ()), "corpus", "seeds", *SCORE_TITLES)
    table = Table(titles, rows, caption, left=3 + differ)
    return [Heading(2, "Over seeds"), table]


def beside_reference(runs: Sequence[Run]) -> list[Block]:
    """The reference report's numbers next to ours, for the tasks that occur among ``runs``."""
    tested = [run for run in runs if "test" in run.splits]
    blocks: list[Block] = []
    nli = [run for run in tested if run.task == "nli"]
    emotion = [run for run in tested if run.task == "emotion"]
    if nli:
        blocks += _regimes(nli)
    if emotion:
        blocks += _hubert(emotion)
    return blocks


def _regimes(runs: Sequence[Run]) -> list[Block]:
    rows: list[tuple[str, ...]] = []
    matrices: list[tuple[str, ...]] = []
    rules = []
    matrix_rules = []
    points = []
    settings = varied(runs)
    for regime in REGIMES:
        rules.append(len(rows))
        matrix_rules.append(len(matrices))
        rows.append(
            (
                f"{regime.number} {regime.title}", "reference report", "farstail",
                number(regime.accuracy, 4), number(regime.loss), number(regime.macro_f1, 4),
                number(regime.weighted_f1, 4),
            )
        )  # fmt: skip
        matrices.append((rows[-1][0], "reference report", confusion_line(regime.confusion)))
        own = [run for run in runs if run.config["model"]["regime"]["kind"] == regime.kind]
        rows += [_regime_row(group, settings[group[0].path]) for group in seed_groups(own)]
        matrices += [
            (f"↳ {run.regime}", run.name, nli_confusion(run.splits["test"])) for run in own
        ]
        points.append([run.splits["test"].accuracy for run in own if not why_not_comparable(run)])
    header = ("regime", "run", "corpus", "accuracy", "loss", "macro F1", "weighted F1")
    table = Table(header, tuple(rows), "The five regimes, test part", 3, tuple(rules[1:]))
    caption = (
        "Confusion matrices of the test part: true entailment · contradiction · neutral, in each "
        "the predictions in the same order"
    )
    confusion = Table(
        ("regime", "run", "e · c · n"), tuple(matrices), caption, 2, tuple(matrix_rules[1:])
    )
    figure = plots.beside_reference(
        [regime.short for regime in REGIMES], [regime.accuracy for regime in REGIMES], points,
        "Test accuracy on FarsTail",
    )  # fmt: skip
    blocks: list[Block] = [Heading(2, "Beside the reference: five BERT regimes on FarsTail")]
    blocks += _not_comparable(runs, "FarsTail's official test part")
    # The chart shows comparable runs only; without any it would be the reference alone.
    if any(points):
        chart_rows = tuple(
            (
                f"{r.number} {r.title}",
                number(r.accuracy, 4),
                ", ".join(number(v, 4) for v in p) or "–",
            )
            for r, p in zip(REGIMES, points, strict=True)
        )
        numbers = Table(("regime", "reference", "runs reported here"), chart_rows)
        blocks.append(Chart("regimes", "Test accuracy by regime", figure, numbers))
    return [*blocks, table, confusion, *(Text(note, "note") for note in REGIME_NOTES)]


def _regime_row(group: Sequence[Run], settings: str) -> tuple[str, ...]:
    """One row for runs that differ only in the seed; ``settings`` tell it from others of its recipe."""
    tests = [run.splits["test"] for run in group]

    def column(score: Callable[[SplitMetrics], float], digits: int) -> str:
        return spread([score(test) for test in tests], digits)

    name = group[0].name if len(group) == 1 else f"{group[0].recipe}, {len(group)} seeds"
    name = f"{name} ({settings})" if settings else name
    return (
        f"↳ {group[0].regime}", name, _comparable(group[0]),
        column(lambda m: m.accuracy, 4), column(lambda m: m.loss, 3),
        column(lambda m: m.macro_f1, 4), column(lambda m: m.weighted_f1, 4),
    )  # fmt: skip


def _corpus(run: Run) -> str:
    return f"{run.data['corpus']}{' SYNTHETIC' if run.synthetic else ''}"


def _comparable(run: Run) -> str:
    reason = why_not_comparable(run)
    return f"not comparable: {reason}" if reason else str(run.data["corpus"])


def _not_comparable(runs: Sequence[Run], wanted: str) -> list[Block]:
    names = [f"{run.name} ({why_not_comparable(run)})" for run in runs if why_not_comparable(run)]
    if not names:
        return []
    text = f"Not comparable with the reference, which is {wanted}: {', '.join(names)}."
    return [Text(text, "warning")]


def _hubert(runs: Sequence[Run]) -> list[Block]:
    parts = tuple(HUBERT)
    columns = [(part, name) for part in parts for name in ("accuracy", "macro_f1")]
    reference = [number(value, 2) for part in parts for value in HUBERT[part]]
    rows = [("reference report", "shemo", *reference)]
    letters = tuple(HUBERT_TEST_F1)
    f1_rows = [("reference report", "shemo", *(number(HUBERT_TEST_F1[x], 2) for x in letters))]
    for run in runs:
        scores = [getattr(run.splits[p], n) if p in run.splits else None for p, n in columns]
        rows.append((run.name, _comparable(run), *(number(score) for score in scores)))
        f1 = emotion_f1(run.splits["test"])
        f1_rows.append(
            (run.name, _comparable(run), *(number(f1.get(letter)) for letter in letters))
        )
    titles = [f"{part} {name}" for part in parts for name in ("accuracy", "macro F1")]
    names = ("anger", "neutral", "sadness", "fear", "surprise", "happiness")
    return [
        Heading(2, "Beside the reference: HuBERT on ShEMO"),
        *_not_comparable(runs, "its own split of ShEMO"),
        Table(("run", "corpus", *titles), tuple(rows), left=2, rules=(1,)),
        Table(("run", "corpus", *names), tuple(f1_rows), "F1 per class, test part", 2, (1,)),
        *(Text(note, "note") for note in HUBERT_NOTES),
    ]
