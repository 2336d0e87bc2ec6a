"""The section of one part of a study."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from trainers.reporting.page.blocks import Block, Chart, Heading, Points, Table, Text, number
from trainers.reporting.page.charts import overview
from trainers.reporting.runs.analyses import analysis_blocks
from trainers.reporting.runs.language_model import loss_chart, token_results
from trainers.reporting.study.curve_words import curve_sentences
from trainers.reporting.study.curves import over_epochs, over_field
from trainers.reporting.study.file import Members, StudyPart
from trainers.reporting.study.part_result import PartResult, against_independent
from trainers.reporting.study.significance import (
    pair_sections,
    pair_table,
    pair_words,
    score_interval,
)
from trainers.reporting.study.tables import method_tables


def part_sections(result: PartResult, results: Sequence[PartResult], members: Members) -> list[Block]:
    """The section of a part; ``results`` are those of all parts."""
    part, methods = result.part, result.methods
    name = f"part{result.number}"
    blocks: list[Block] = [Heading(2, result.title)]
    blocks += [Text(" ".join(text.split())) for text in part.text.split("\n\n") if text.strip()]
    if part.start_from:
        blocks.append(Text(_beginning(part, part.start_from, results), "note"))
    missing = [m.label for m in part.members if m.run in members.missing]
    if missing:
        blocks.append(Text(f"{len(missing)} of {len(part.members)} trainings are missing.", "warning"))
    if result.language_models:
        blocks += [token_results(result.language_models), *loss_chart(result.language_models, name)]
    if not methods:
        if not result.language_models:
            blocks.append(Text("None of its trainings has finished."))
        return blocks
    if part.curve:
        blocks += over_field(methods, part.curve, name)
    elif len(methods) > 1:
        blocks.append(_overview(result, name))
    blocks += method_tables(methods)
    words = pair_words(result.pairs)
    if part.curve:
        words = tuple(text[0].upper() + text[1:] for text in curve_sentences(result))
    blocks += pair_sections(methods, result.pairs, result.compared, words)
    twins = against_independent(result, results)
    if twins:
        blocks += [
            Heading(3, "Beside independent trainings"),
            Points(pair_words(twins)),
            pair_table(twins, "continued with independent"),
        ]
    blocks += _headed("Over epochs", over_epochs(methods, name))
    measured = {name: runs for method in methods for name, runs in method.measured.items()}
    blocks += _headed("Measured on the models", analysis_blocks(measured, name))
    return blocks


def _beginning(part: StudyPart, source: dict[str, str], results: Sequence[PartResult]) -> str:
    """From whose weights its trainings go on: those of equal seed, or the only ones there are."""
    named = ", ".join(f"{key} {value}" for key, value in source.items())
    members = [
        member
        for other in results
        for member in other.part.members
        if other.part.name == source.get("part") and member.recipe == source.get("recipe")
    ]
    if len(members) != 1:
        return f"Each training goes on from the weights of a finished one ({named}), of equal seed."
    text = f"Each training goes on from the weights of one finished training ({named}), of seed"
    others = {member.seed for member in part.members} - {members[0].seed}
    return f"{text} {members[0].seed}{', whatever its own seed' if others else ', as its own'}."


def _headed(title: str, blocks: Sequence[Block]) -> list[Block]:
    return [Heading(3, title), *blocks] if blocks else []


def _overview(result: PartResult, name: str) -> Chart:
    methods, score = result.methods, result.score
    intervals = [score_interval(method, "uar" if score == "uar" else "accuracy") for method in methods]
    means = [mean(method.values(score)) for method in methods]
    figure = overview(
        [method.name for method in methods],
        means,
        [(one.low, one.high) if one else None for one in intervals],
        [method.values(score) for method in methods],
        f"Test {result.score_name}",
        None,
    )
    rows = tuple(
        (method.name, number(value), ", ".join(number(v) for v in method.values(score)))
        for method, value in zip(methods, means, strict=True)
    )
    caption = f"Test {result.score_name} of each method"
    return Chart(f"{name}-methods", caption, figure, Table(("method", "mean", "seeds"), rows, caption))
