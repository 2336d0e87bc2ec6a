"""What a curve of a study says, in sentences: its range, and which of its tests stand."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from trainers.reporting.statistics.hypothesis_tests import short
from trainers.reporting.study.methods import Method
from trainers.reporting.study.part_result import PartResult
from trainers.reporting.study.setting_words import field_words
from trainers.reporting.study.significance import Pair


def curve_sentences(result: PartResult) -> list[str]:
    """All of them, as they stand after a title and a colon."""
    return [*_range(result), *_pairs(result)]


def _range(result: PartResult) -> list[str]:
    points = []
    field = field_words(result.part.curve or "")
    for line, methods in _lines(result.methods).items():
        if len(methods) < 2:
            continue
        scores = [(mean(method.values(result.score)), method) for method in methods]
        low, high = min(scores, key=lambda one: one[0]), max(scores, key=lambda one: one[0])
        points.append(
            f"over {field}, {result.score_name} of {line} lies between {short(low[0])} "
            f"(at {low[1].value}) and {short(high[0])} (at {high[1].value})."
        )
    return points


def _pairs(result: PartResult) -> list[str]:
    """What the tests of a curve say: of lines at equal values, or of values against the first."""
    if not result.pairs:
        return []
    field = field_words(result.part.curve or "")
    if len(_lines(result.methods)) == 1:
        first = result.pairs[0].first
        even = "no different beyond chance"
        untold = "not to be told with so few speakers"
        kinds: dict[str, list[str]] = {"better": [], "worse": [], even: [], untold: []}
        for pair in result.pairs:
            better = pair.better
            level = untold if pair.result.interval is None else even
            kind = "better" if better is pair.second else "worse" if better else level
            kinds[kind].append(str(pair.second.value))
        told = "; ".join(f"{kind} at {', '.join(own)}" for kind, own in kinds.items() if own)
        single = _single(result.pairs)
        return [f"against {field} {first.value}, accuracy is {told}{single}."]
    sides: dict[tuple[str, str], list[Pair]] = {}
    for pair in result.pairs:
        sides.setdefault((pair.first.line, pair.second.line), []).append(pair)
    points = []
    for (first_line, second_line), pairs in sides.items():
        wins = [
            [str(pair.first.value) for pair in pairs if pair.better is getattr(pair, side)]
            for side in ("first", "second")
        ]
        told = " and ".join(
            f"{line} is better in accuracy beyond chance at {', '.join(own)}"
            for line, own in zip((first_line, second_line), wins, strict=True)
            if own
        )
        rest = len(pairs) - len(wins[0]) - len(wins[1])
        texts = [told] if told else []
        if rest:
            few = any(pair.result.interval is None for pair in pairs)
            texts.append(
                f"at {rest} of {len(pairs)} values {first_line} and {second_line} "
                f"{'have too few speakers to be told apart' if few else 'do not differ'}"
            )
        points.append(f"at equal {field}, {'; '.join(texts)}{_single(pairs)}.")
    return points


def _single(pairs: Sequence[Pair]) -> str:
    """Where methods have one seed: of what the verdicts are."""
    return " (of these trainings: one seed a value)" if any(pair.single for pair in pairs) else ""


def _lines(methods: Sequence[Method]) -> dict[str, list[Method]]:
    lines: dict[str, list[Method]] = {}
    for method in methods:
        lines.setdefault(method.line, []).append(method)
    return lines
