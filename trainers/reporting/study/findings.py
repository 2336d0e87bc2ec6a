"""The answers of a study, first on its page: a table and sentences, all made of its figures."""

from __future__ import annotations

from collections.abc import Sequence

from trainers.reporting.page.blocks import Block, Heading, Points, Table, Text, number, spread
from trainers.reporting.study.baselines import Baseline
from trainers.reporting.study.part_result import PartResult, time_text
from trainers.reporting.study.sentences import count_text, rival_of, sentences
from trainers.reporting.study.significance import interval_text, score_interval

_OF_SPEECH = (
    "Accuracy is the share of all test clips that are told rightly, which work on emotion calls WA. UAR, "
    "the unweighted average recall, is the mean over the classes of the share of a class's clips that are "
    "told rightly: rare emotions count as much as frequent ones."
)

_OF_TEXT = "UAR is the unweighted average recall, the mean of the classes' recalls."


def findings(results: Sequence[PartResult], baselines: Sequence[Baseline]) -> list[Block]:
    """One row and some sentences a part."""
    rows = [row for result in results for row in _rows(result, baselines)]
    points = [point for result in results for point in sentences(result, baselines)]
    blocks: list[Block] = [Heading(2, "Findings")]
    if rows:
        header = (
            "part",
            "highest",
            "of",
            "split",
            "test score",
            "95 % interval",
            "best baseline",
            "differences that stand",
            "time",
        )
        blocks.append(Table(header, tuple(rows), "The parts at a glance", left=4))
    if points:
        blocks.append(Points(tuple(points)))
    note = (
        "Differences stand where McNemar's test, corrected by Holm over the part's pairs (beside a "
        "baseline: over all baselines of the method), gives p < .05 and the 95 % interval leaves zero "
        "out. The highest of several methods is named by its test "
        "score, which flatters it a little; differences within one part say more. The tests cover the "
        "choice of test samples alone, not how scores move from training to training."
    )
    if any(pair.single for result in results for pair in result.pairs):
        note += (
            " Where a method has one seed, what is said of it holds for this training: another seed may "
            "turn the order."
        )
    about_uar = _OF_SPEECH if any(result.score == "uar" for result in results) else _OF_TEXT
    return [*blocks, Text(about_uar, "note"), Text(note, "note")]


def _rows(result: PartResult, baselines: Sequence[Baseline]) -> list[tuple[str, ...]]:
    """One for the methods of each protocol: scores of different ones do not compare."""
    if result.language_models and not result.methods:
        lowest = min(result.language_models, key=lambda run: list(run.tokens.values())[-1].loss)
        part, tokens = list(lowest.tokens.items())[-1]
        return [
            (
                result.title,
                lowest.recipe,
                count_text(len(result.language_models), "run"),
                str(lowest.data["split"]),
                f"{part} perplexity {number(tokens.perplexity, 2)}",
                "–",
                "–",
                "–",
                time_text(result),
            )
        ]
    rows: list[tuple[str, ...]] = []
    for methods in result.groups:
        best = result.best(methods)
        interval = score_interval(best, "uar" if result.score == "uar" else "accuracy")
        rival = rival_of(best, baselines, result.score)
        pairs = [pair for pair in result.pairs if pair.first in methods]
        stand = sum(pair.result.stands for pair in pairs)
        rows.append(
            (
                result.title,
                best.name,
                count_text(len(methods), "method"),
                best.protocol + (" (LEAKY)" if best.leaky else ""),
                f"{result.score_name} {spread(best.values(result.score))}",
                interval_text(interval),
                f"{number(rival.method.values(result.score)[0])} {rival.method.name}" if rival else "–",
                f"{stand} of {count_text(len(pairs), 'pair')}" if pairs else "–",
                time_text(result) if not rows else "",
            )
        )
    return rows
