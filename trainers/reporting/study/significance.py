"""Which differences between methods stand: pairs on the same test samples, tested and corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from statistics import mean

import numpy as np

from trainers.reporting.page.blocks import Block, Heading, Points, Table, Text
from trainers.reporting.statistics.bootstrap import (
    FEWEST_CLUSTERS,
    Interval,
    Resampling,
    Score,
    bootstrap_interval,
    difference_interval,
)
from trainers.reporting.statistics.hypothesis_tests import PairResult, compare, holm, in_words, short
from trainers.reporting.study.methods import Items, Method
from trainers.reporting.study.setting_words import field_words

ALL_PAIRS = 8
"""Most methods of which every pair is tested; of more, each with the first."""
_IN_WORDS = 12


@dataclass(frozen=True)
class Pair:
    """Two methods and how they differ."""

    first: Method
    second: Method
    result: PairResult
    uar: Interval | None
    """Of the difference in UAR, for speech."""
    uar_difference: float
    """First minus second, mean over seeds."""
    compared: tuple[int, int]
    """How many runs of each are compared."""
    seeds: tuple[int, ...]
    """Those that both have, where one has others too, which are left out; else none."""

    @property
    def single(self) -> frozenset[str]:
        """Names of the methods that one training stands for: what is found is about that training."""
        sides = zip((self.first, self.second), self.compared, strict=True)
        return frozenset(method.name for method, n in sides if n == 1 and method.runs)

    @property
    def better(self) -> Method | None:
        """The one that is better beyond chance."""
        if not self.result.stands:
            return None
        return self.first if self.result.difference > 0 else self.second


@lru_cache(maxsize=4096)  # the same interval stands in a table, a chart and the findings
def score_interval(method: Method, score: Score = "accuracy") -> Interval | None:
    """95 % interval of the mean over seeds, over speakers where they are known; None where these are
    too few, and where the predictions are not there."""
    if method.items is None:
        return None
    runs = np.stack([predicted for _, predicted in method.predictions()])
    items = method.items
    return bootstrap_interval(items.truth, runs, score, _resampling(items))


def _resampling(items: Items) -> Resampling:
    return Resampling(items.speakers, len(items.labels))


def interval_text(interval: Interval | None) -> str:
    """[.612, .653]; a dash for none."""
    return f"[{short(interval.low)}, {short(interval.high)}]" if interval else "–"


def pairs_of(methods: Sequence[Method], curve: str | None) -> tuple[list[Pair], str]:
    """The pairs of a part that can be tested, Holm-corrected together, and which those are in words.

    Over a curve's field: methods of the same value with each other, or, where there is one method a
    value, each value with the first. Else all pairs, or, of many methods, each with the first one.
    """
    if not curve:
        many = len(methods) > ALL_PAIRS
        chosen = [(methods[0], m) for m in methods[1:]] if many else [*combinations(methods, 2)]
        what = f"each method with {methods[0].name}" if many else "all pairs"
    elif len({method.line for method in methods}) > 1:
        chosen = [(a, b) for a, b in combinations(methods, 2) if a.value == b.value]
        what = f"methods of equal {field_words(curve)}"
    else:
        chosen = [(methods[0], method) for method in methods[1:]]
        what = f"each with {methods[0].name}" if methods else ""
    return tested(chosen), what


def tested(chosen: Sequence[tuple[Method, Method]]) -> list[Pair]:
    """Those pairs that have the same test samples, Holm-corrected together."""
    pairs = [pair for a, b in chosen if (pair := _pair(a, b)) is not None]
    adjusted = holm([pair.result.p for pair in pairs])
    return [
        replace(pair, result=replace(pair.result, adjusted_p=p))
        for pair, p in zip(pairs, adjusted, strict=True)
    ]


def _pair(a: Method, b: Method) -> Pair | None:
    if a.items is None or b.items is None or not a.items.same(b.items) or a.folds != b.folds:
        return None
    items, runs = a.items, {a.name: a.predictions(), b.name: b.predictions()}
    seeds = [set(dict(own)) for own in runs.values()]
    shared = seeds[0] & seeds[1]
    if shared:  # means over other seeds would mix the difference with that of the seeds
        runs = {name: [one for one in own if one[0] in shared] for name, own in runs.items()}
    alone = tuple(sorted(shared)) if shared and seeds[0] != seeds[1] else ()
    (result,) = compare(runs, items.truth, _resampling(items))
    uar, difference = None, 0.0
    first, second = ([codes for _, codes in own] for own in runs.values())
    if items.speech:
        means = [
            mean(one.metrics.uar for one in method.scored if not shared or one.seed in shared)
            for method in (a, b)
        ]
        difference = means[0] - means[1]
        uar = difference_interval(items.truth, first, second, "uar", _resampling(items))
    return Pair(a, b, result, uar, difference, (len(first), len(second)), alone)


def pair_words(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """A sentence a pair, the surest first; of very many the first few."""
    told = sorted(pairs, key=lambda pair: pair.result.adjusted_p)
    words = [f"{in_words(pair.result, pair.single)}{_seeds(pair)}." for pair in told[:_IN_WORDS]]
    if len(told) > _IN_WORDS:
        rest = sum(pair.result.stands for pair in told[_IN_WORDS:])
        words.append(f"{len(told) - _IN_WORDS} more pairs in the table, of which {rest} stand.")
    return tuple(words)


def _seeds(pair: Pair) -> str:
    """Why its means are not those of the tables, where they are not."""
    if not pair.seeds:
        return ""
    seeds = ", ".join(map(str, pair.seeds))
    return f" (over the seeds that both have, {seeds})"


def pair_sections(
    methods: Sequence[Method], pairs: Sequence[Pair], what: str, words: Sequence[str]
) -> list[Block]:
    """The tests of a part in words and as a table; nothing where there is nothing to compare."""
    if len(methods) < 2:
        return []
    if not pairs:
        if all(method.items is None for method in methods):
            text = "No file of predictions is there, so no difference can be tested."
        else:
            text = "No two methods were tested on the same samples, so none are compared."
        return [Text(text, "note")]
    blocks: list[Block] = [
        Heading(3, "Which differences stand"),
        Points(tuple(words)),
        pair_table(pairs, what),
    ]
    if not _speech(pairs):
        return blocks
    if any(pair.result.interval is None for pair in pairs):
        text = (
            f"No interval stands where the test part has fewer than {FEWEST_CLUSTERS} speakers: so few "
            "say nothing of others, and no difference stands."
        )
    elif _clustered(pairs):
        text = (
            "McNemar's test takes samples as independent, which clips of one speaker are not; a "
            "difference stands only if the interval over speakers agrees."
        )
    else:
        text = (
            "The speakers of the test samples are not known here, so intervals resample samples "
            "and are too narrow where speakers give many each."
        )
    text += (
        " Tests and their correction are of accuracy; for a difference in UAR there is an interval, "
        "without a p-value and not corrected for the number of pairs."
    )
    return [*blocks, Text(text, "note")]


def pair_table(pairs: Sequence[Pair], what: str) -> Table:
    """One row a pair; ``what`` says which pairs they are."""
    speech = _speech(pairs)
    header = (
        "first",
        "second",
        "stands",
        "difference in accuracy",
        "95 % interval",
        *(("difference in UAR", "95 % interval") if speech else ()),
        "p, Holm",
        "p",
        "first only right",
        "second only right",
    )
    caption = (
        f"Paired tests on the test part ({what}): McNemar's exact test for runs of equal seeds, "
        f"combined over seeds as twice the median p, corrected by Holm over {len(pairs)} "
        f"pair{'s' if len(pairs) > 1 else ''}; intervals resample "
        f"{'speakers' if _clustered(pairs) else 'samples'}; samples that only one of two gets right are "
        "counted for each test of two runs"
    )
    return Table(header, tuple(_row(pair, speech) for pair in pairs), caption, left=3)


def few_speakers(method: Method) -> bool:
    """Whether its test samples are of too few speakers for an interval."""
    return method.items is not None and _resampling(method.items).too_few


def _speech(pairs: Sequence[Pair]) -> bool:
    return any(pair.first.items and pair.first.items.speech for pair in pairs)


def _clustered(pairs: Sequence[Pair]) -> bool:
    return all(pair.first.items and pair.first.items.speakers is not None for pair in pairs)


def _row(pair: Pair, speech: bool) -> tuple[str, ...]:
    result = pair.result
    uar: tuple[str, ...] = ()
    if speech:
        uar = (f"{pair.uar_difference:+.3f}", interval_text(pair.uar))
    return (
        result.first,
        result.second,
        "yes" if result.stands else "no",
        f"{result.difference:+.3f}",
        interval_text(result.interval),
        *uar,
        p_text(result.adjusted_p),
        p_text(result.p),
        " ".join(str(test.a_only) for test in result.tests),
        " ".join(str(test.b_only) for test in result.tests),
    )


def p_text(p: float) -> str:
    """.012; < .001."""
    return "< .001" if p < 0.001 else short(p)
