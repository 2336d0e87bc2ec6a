"""Which differences between methods stand: McNemar's exact test for pairs of runs on the same items,
one p-value from those of several seeds, Holm's correction over all pairs of methods, and the sentence
that says it.

It speaks of other items like these and of the runs as they were trained; how much scores move from
seed to seed is seen in their deviation, which stands beside them in a report.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from trainers.reporting.statistics.bootstrap import (
    ITEMS,
    Codes,
    Interval,
    Resampling,
    difference_interval,
)


@dataclass(frozen=True)
class McNemar:
    """The test of two classifiers on the same items."""

    a_only: int
    """Items that only the first classifies right."""
    b_only: int
    p: float


def mcnemar(truth: Codes, a: Codes, b: Codes) -> McNemar:
    """Exact two-sided binomial test of McNemar (1947) on the items that one of two classifies right.

    ``truth``, ``a``, ``b``: (items,) codes. Items count as independent: where speakers give many each,
    believe an interval over speakers rather than this.
    """
    right_a, right_b = np.asarray(a) == truth, np.asarray(b) == truth
    a_only, b_only = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return McNemar(a_only, b_only, binomial_p(a_only, b_only))


def binomial_p(first: int, second: int) -> float:
    """Two-sided p of so uneven a division, or a more uneven one, of the two counts' sum by a fair coin."""
    few, total = min(first, second), first + second
    if first == second:
        return 1.0
    # The largest term of the tail through log-gamma, the others as ratios: nothing overflows.
    log_largest = (
        math.lgamma(total + 1) - math.lgamma(few + 1) - math.lgamma(total - few + 1)
    ) - total * math.log(2)
    k = np.arange(few, 0, -1, dtype=np.float64)
    tail = 1.0 + float(np.cumprod(k / (total - k + 1)).sum())
    return min(1.0, 2 * math.exp(log_largest) * tail)


def combine_dependent(p_values: Sequence[float]) -> float:
    """One p-value from several of the same hypothesis, however they depend on each other.

    Twice the median (Rüger 1978; Vovk & Wang 2020, "Combining p-values via averaging", Biometrika
    107). A single one stays as it is.
    """
    assert len(p_values) > 0
    if len(p_values) == 1:
        return float(p_values[0])
    return min(1.0, 2 * float(np.median(p_values)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979), in the given order."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(
        1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1, dtype=np.float64))
    )
    return [float(value) for value in adjusted]


@dataclass(frozen=True)
class PairResult:
    """Two methods on the same items."""

    first: str
    second: str
    first_accuracy: float
    """Mean over its runs."""
    second_accuracy: float
    difference: float
    """First minus second."""
    interval: Interval | None
    """Of the difference; not corrected for the number of pairs. None for too few speakers."""
    tests: tuple[McNemar, ...]
    """One a pair of runs."""
    p: float
    """Of these tests together."""
    adjusted_p: float
    """After Holm's correction over all pairs of methods."""
    level: float

    @property
    def stands(self) -> bool:
        """Whether one is better beyond chance: by the tests, and in one direction over the runs. Never
        without an interval: the tests alone take what one speaker says as independent."""
        if self.interval is None:
            return False
        one_sided = self.interval.low > 0 or self.interval.high < 0
        return self.adjusted_p < 1 - self.level and one_sided


Runs = Sequence[tuple[int, Codes]]
"""(seed, predictions) of each run of a method; predictions are (items,) codes."""


def compare(methods: Mapping[str, Runs], truth: Codes, how: Resampling = ITEMS) -> list[PairResult]:
    """All pairs of methods, in the order in which they are given.

    Runs of equal seeds are tested against each other (every run against every other where two methods
    share no seed), the tests combined, and the p-values of all pairs corrected by Holm.
    """
    pairs = list(combinations(methods, 2))
    tests = [_tests(methods[a], methods[b], truth) for a, b in pairs]
    p_values = [combine_dependent([test.p for test in own]) for own in tests]
    results = []
    for (a, b), own, p, adjusted in zip(pairs, tests, p_values, holm(p_values), strict=True):
        first = np.stack([predicted for _, predicted in methods[a]])
        second = np.stack([predicted for _, predicted in methods[b]])
        interval = difference_interval(truth, first, second, how=how)
        mean, other = float((first == truth).mean()), float((second == truth).mean())
        results.append(PairResult(a, b, mean, other, mean - other, interval, own, p, adjusted, how.level))
    return results


def _tests(a: Runs, b: Runs, truth: Codes) -> tuple[McNemar, ...]:
    of_a, of_b = dict(a), dict(b)
    assert len(of_a) == len(a) > 0 and len(of_b) == len(b) > 0, "one run a seed"
    pairs = [(of_a[seed], of_b[seed]) for seed in of_a if seed in of_b]
    pairs = pairs or [(x, y) for _, x in a for _, y in b]
    return tuple(mcnemar(truth, x, y) for x, y in pairs)


def in_words(result: PairResult, single: Collection[str] = (), over: str = "") -> str:
    """One sentence: "full (.653) is better than freeze 9 (.612): difference .041 [.018, .064], p = .003
    after Holm's correction".

    ``single`` are the methods that one training stands for; the sentence speaks of that training.
    ``over`` tells of what the correction is, " over its 4 baselines".
    """
    sides = [(result.first, result.first_accuracy), (result.second, result.second_accuracy)]
    difference, interval = result.difference, result.interval
    if difference < 0:
        sides.reverse()
        difference = -difference
        interval = Interval(-interval.high, -interval.low) if interval else None
    best, other = (
        f"{'this training of ' if name in single else ''}{name} ({short(accuracy)})"
        for name, accuracy in sides
    )
    p = "p < .001" if result.adjusted_p < 0.001 else f"p = {short(result.adjusted_p)}"
    p += f" after Holm's correction{over}"
    if interval is None:
        return (
            f"between {best} and {other} no difference stands: {short(difference)}, {p}, but too few "
            "speakers for an interval"
        )
    figures = f"difference {short(difference)} [{short(interval.low)}, {short(interval.high)}], {p}"
    if result.stands:
        return f"{best} is better than {other}: {figures}"
    if result.adjusted_p < 1 - result.level:
        return f"{best} and {other} err on different items, but none is better: {figures}"
    return f"{best} and {other} do not differ beyond chance: {figures}"


def short(value: float) -> str:
    """Three digits without the zero before the point: .653, -.010, 1."""
    text = f"{value:.3f}"
    if text in ("-0.000", "1.000", "-1.000"):
        return {"-0.000": ".000", "1.000": "1", "-1.000": "-1"}[text]
    return text.replace("0.", ".", 1)
