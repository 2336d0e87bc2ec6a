"""The sections that set runs beside the reference report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from trainers.metrics import SplitMetrics
from trainers.reporting.page.blocks import Block, Chart, Heading, Table, Text, number, spread
from trainers.reporting.runs import plots
from trainers.reporting.runs.record import Run
from trainers.reporting.runs.reference import (
    HUBERT,
    HUBERT_NOTES,
    HUBERT_TEST_F1,
    REGIME_NOTES,
    REGIMES,
    confusion_line,
    emotion_f1,
    nli_confusion,
    other_settings,
    why_not_comparable,
)
from trainers.reporting.runs.settings import seed_groups, varied


def beside_reference(runs: Sequence[Run]) -> list[Block]:
    """The reference report's numbers next to ours, for the tasks that occur among ``runs``, where one of
    these is of the reference's corpus or of a generated one like it."""
    tested = [run for run in runs if "test" in run.splits]
    blocks: list[Block] = []
    nli = [run for run in tested if run.task == "nli"]
    emotion = [run for run in tested if run.task == "emotion"]
    if any(run.synthetic or run.data["corpus"] == "farstail" for run in nli):
        blocks += _regimes(nli)
    if any(run.synthetic or run.data["corpus"] == "shemo" for run in emotion):
        blocks += _hubert(emotion)
    return blocks


def _regimes(runs: Sequence[Run]) -> list[Block]:
    rows: list[tuple[str, ...]] = []
    matrices: list[tuple[str, ...]] = []
    rules = []
    matrix_rules = []
    points = []
    settings = varied(runs)
    drawn = drawn_beside(runs)
    for regime in REGIMES:
        rules.append(len(rows))
        matrix_rules.append(len(matrices))
        rows.append(
            (
                f"{regime.number} {regime.title}",
                "reference report",
                "farstail",
                number(regime.accuracy, 4),
                number(regime.loss),
                number(regime.macro_f1, 4),
                number(regime.weighted_f1, 4),
            )
        )
        matrices.append((rows[-1][0], "reference report", confusion_line(regime.confusion)))
        own = [run for run in runs if run.config["model"]["regime"]["kind"] == regime.kind]
        rows += [_regime_row(group, settings[group[0].path]) for group in seed_groups(own)]
        matrices += [(f"↳ {run.regime}", run.name, nli_confusion(run.splits["test"])) for run in own]
        points.append([run.splits["test"].accuracy for run in own if run.path in drawn])
    header = ("regime", "run", "corpus", "accuracy", "loss", "macro F1", "weighted F1")
    table = Table(header, tuple(rows), "The five regimes, test part", 3, tuple(rules[1:]))
    caption = (
        "Confusion matrices of the test part: true entailment · contradiction · neutral, in each "
        "the predictions in the same order"
    )
    confusion = Table(("regime", "run", "e · c · n"), tuple(matrices), caption, 2, tuple(matrix_rules[1:]))
    figure = plots.beside_reference(
        [regime.short for regime in REGIMES],
        [regime.accuracy for regime in REGIMES],
        points,
        "Test accuracy on FarsTail",
    )
    blocks: list[Block] = [Heading(2, "Beside the reference: five BERT regimes on FarsTail")]
    blocks += _not_comparable(runs, "FarsTail's official test part")
    # Without comparable runs the chart would be the reference alone.
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
        caption = "Test accuracy by regime"
        if all(other_settings(run) for run in runs if run.path in drawn):
            caption += "; no run here trains as the reference does, see the table"
        blocks.append(Chart("regimes", caption, figure, numbers))
    return [*blocks, table, confusion, *(Text(note, "note") for note in REGIME_NOTES)]


def _regime_row(group: Sequence[Run], settings: str) -> tuple[str, ...]:
    """One row for runs that differ only in the seed; ``settings`` tell it from others of its recipe."""
    tests = [run.splits["test"] for run in group]

    def column(score: Callable[[SplitMetrics], float], digits: int) -> str:
        return spread([score(test) for test in tests], digits)

    name = group[0].name if len(group) == 1 else f"{group[0].recipe}, {len(group)} seeds"
    name = f"{name} ({settings})" if settings else name
    return (
        f"↳ {group[0].regime}",
        name,
        _comparable(group[0]),
        column(lambda m: m.accuracy, 4),
        column(lambda m: m.loss, 3),
        column(lambda m: m.macro_f1, 4),
        column(lambda m: m.weighted_f1, 4),
    )


def drawn_beside(runs: Sequence[Run]) -> set[Path]:
    """Run directories whose scores stand in the chart beside the reference's: runs with its settings
    where there are such, else all on its test part."""
    comparable = [run for run in runs if not why_not_comparable(run)]
    alike = [run for run in comparable if not other_settings(run)]
    return {run.path for run in alike or comparable}


def _comparable(run: Run) -> str:
    reason = why_not_comparable(run)
    if reason:
        return f"not comparable: {reason}"
    other = other_settings(run)
    return f"{run.data['corpus']}, but {other}" if other else str(run.data["corpus"])


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
        f1_rows.append((run.name, _comparable(run), *(number(f1.get(letter)) for letter in letters)))
    titles = [f"{part} {name}" for part in parts for name in ("accuracy", "macro F1")]
    names = ("anger", "neutral", "sadness", "fear", "surprise", "happiness")
    return [
        Heading(2, "Beside the reference: HuBERT on ShEMO"),
        *_not_comparable(runs, "its own split of ShEMO"),
        Table(("run", "corpus", *titles), tuple(rows), left=2, rules=(1,)),
        Table(("run", "corpus", *names), tuple(f1_rows), "F1 per class, test part", 2, (1,)),
        *(Text(note, "note") for note in HUBERT_NOTES),
    ]
