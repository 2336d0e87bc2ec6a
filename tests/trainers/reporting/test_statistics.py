"""Intervals and tests are those of scipy, scikit-learn and statsmodels."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from sklearn import metrics as sk

from trainers.reporting.statistics.bootstrap import (
    Interval,
    Resampling,
    Score,
    bootstrap_interval,
    difference_interval,
)
from trainers.reporting.statistics.hypothesis_tests import (
    McNemar,
    PairResult,
    binomial_p,
    combine_dependent,
    compare,
    holm,
    in_words,
    mcnemar,
    short,
)

SCORES: tuple[Score, ...] = ("accuracy", "uar", "macro_f1")


def drawn(seed: int, items: int = 200, classes: int = 4, right: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Truth with classes of unequal size, and predictions of which ``right`` are no guesses."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(classes, 3.0))
    truth = rng.choice(classes, items, p=shares)
    guessed = rng.integers(0, classes, items)
    return truth, np.where(rng.random(items) < right, truth, guessed)


def score_of(score: Score, truth: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    codes = list(range(classes))
    if score == "accuracy":
        return float(sk.accuracy_score(truth, predicted))
    if score == "uar":
        present = sorted(set(truth.tolist()))
        return float(sk.recall_score(truth, predicted, labels=present, average="macro"))
    return float(sk.f1_score(truth, predicted, labels=codes, average="macro", zero_division=0))


def resampled_by_hand(
    score: Score,
    truth: np.ndarray,
    predicted: np.ndarray,
    classes: int,
    clusters: np.ndarray | None,
    draws: int,
) -> Interval:
    """The same bootstrap as a plain loop, with another generator."""
    rng = np.random.default_rng(99)
    values = []
    for _ in range(draws):
        if clusters is None:
            rows = rng.integers(0, len(truth), len(truth))
        else:
            names = np.unique(clusters)
            chosen = rng.choice(names, len(names))
            rows = np.concatenate([np.flatnonzero(clusters == name) for name in chosen])
        values.append(score_of(score, truth[rows], predicted[rows], classes))
    low, high = np.quantile(values, (0.025, 0.975))
    return Interval(float(low), float(high))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_are_those_of_a_plain_loop(score: Score, clustered: bool) -> None:
    truth, predicted = drawn(1, items=120)
    # Speakers of unequal size, a class that only one of them has.
    clusters = np.sort(np.random.default_rng(2).integers(0, 9, 120)) if clustered else None
    truth[:3], predicted[:3] = 4, 4
    ours = bootstrap_interval(truth, predicted, score, how=Resampling(clusters, 5))
    by_hand = resampled_by_hand(score, truth, predicted, 5, clusters, draws=400)
    width = by_hand.high - by_hand.low
    assert ours.low == pytest.approx(by_hand.low, abs=0.12 * width)
    assert ours.high == pytest.approx(by_hand.high, abs=0.12 * width)
    assert ours.low < score_of(score, truth, predicted, 5) < ours.high


def test_interval_of_accuracy_is_scipys() -> None:
    from scipy.stats import bootstrap

    truth, predicted = drawn(3)
    theirs = bootstrap(
        ((truth == predicted).astype(float),),
        np.mean,
        n_resamples=10_000,
        method="percentile",
        random_state=0,
    ).confidence_interval
    ours = bootstrap_interval(truth, predicted)
    assert ours.low == pytest.approx(theirs.low, abs=0.006)
    assert ours.high == pytest.approx(theirs.high, abs=0.006)


def test_intervals_cover_what_they_promise() -> None:
    """Of 300 samples of a classifier that is right in 70 % the intervals hold .7 in 95 %."""
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(300):
        predicted = (rng.random(150) < 0.7).astype(int)
        found = bootstrap_interval(np.ones(150, int), predicted, how=Resampling(draws=1000))
        held += found.low <= 0.7 <= found.high
    assert 0.90 <= held / 300 <= 0.99


def test_clusters_that_answer_alike_widen_the_interval() -> None:
    truth = np.zeros(400, int)
    clusters = np.repeat(np.arange(20), 20)
    predicted = (clusters % 2 == 0).astype(int)  # a speaker is right always or never
    single = bootstrap_interval(truth, predicted)
    whole = bootstrap_interval(truth, predicted, how=Resampling(clusters=clusters))
    assert whole.high - whole.low > 3 * (single.high - single.low)
    # Names of clusters do not matter, only who belongs together.
    assert whole == bootstrap_interval(truth, predicted, how=Resampling(clusters=1000 - 7 * clusters))


@pytest.mark.parametrize("speakers", [1, 2, 4, 5])
def test_too_few_clusters_have_no_interval_and_no_winner(speakers: int) -> None:
    truth, worse = drawn(20, right=0.2)
    better = np.where(np.arange(200) % 4 > 0, truth, worse)
    how = Resampling(np.arange(200) % speakers, 4)
    found = bootstrap_interval(truth, better, how=how)
    (result,) = compare({"a": [(1, better)], "b": [(1, worse)]}, truth, how)
    assert result.p < 0.001
    if speakers >= 5:
        assert found is not None and result.interval is not None and result.stands
    else:
        assert found is None and result.interval is None and not result.stands
        assert difference_interval(truth, better, worse, "uar", how) is None
        words = in_words(result)
        assert words.startswith(f"between a ({short(result.first_accuracy)}) and b (")
        assert "no difference stands" in words and words.endswith("too few speakers for an interval")


def test_interval_of_a_mean_over_runs() -> None:
    truth, first = drawn(5)
    _, second = drawn(6)
    same = bootstrap_interval(truth, np.stack([first, first, first]), "uar", how=Resampling(classes=4))
    alone = bootstrap_interval(truth, first, "uar", how=Resampling(classes=4))
    assert (same.low, same.high) == pytest.approx((alone.low, alone.high), abs=1e-12)
    mean = bootstrap_interval(truth, np.stack([first, second]))
    of_first, of_second = (bootstrap_interval(truth, x) for x in (first, second))
    assert of_second.low < mean.low < of_first.low


def test_a_seed_gives_the_same_figures_for_ever() -> None:
    truth, predicted = np.arange(60) % 3, np.arange(60) % 4 % 3
    found = bootstrap_interval(truth, predicted, "macro_f1", how=Resampling(seed=7, draws=500))
    assert found == bootstrap_interval(truth, predicted, "macro_f1", how=Resampling(seed=7, draws=500))
    assert found != bootstrap_interval(truth, predicted, "macro_f1", how=Resampling(seed=8, draws=500))
    assert (found.low, found.high) == pytest.approx((0.1949750256295068, 0.43861160004542354), abs=1e-9)


def test_many_draws_need_little_memory() -> None:
    truth, predicted = drawn(8, items=1564, classes=3)
    runs = np.stack([np.roll(predicted, n) for n in range(5)])
    tracemalloc.start()
    bootstrap_interval(truth, runs)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400e6


def test_difference_is_paired() -> None:
    truth, worse = drawn(9, right=0.5)
    better = worse.copy()
    wrong = np.flatnonzero(worse != truth)[:14]
    better[wrong] = truth[wrong]
    found = difference_interval(truth, better, worse)
    assert 0 < found.low < 14 / 200 < found.high
    # Unpaired, two scores of 200 items each could not be told apart.
    assert bootstrap_interval(truth, worse).high > bootstrap_interval(truth, better).low
    turned = difference_interval(truth, worse, better)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=0.006)
    assert difference_interval(truth, worse, worse, "macro_f1") == Interval(0.0, 0.0)


def test_difference_of_runs_is_that_of_their_means() -> None:
    truth, a = drawn(10)
    _, b = drawn(11)
    found = difference_interval(truth, [a, b], [b, a])
    assert (found.low, found.high) == pytest.approx((0.0, 0.0), abs=1e-12)
    uneven = difference_interval(truth, [a, a, b], b)
    one = difference_interval(truth, a, b)
    assert uneven.low == pytest.approx(2 / 3 * one.low, abs=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_mcnemar_is_statsmodels(seed: int) -> None:
    from statsmodels.stats.contingency_tables import mcnemar as theirs

    rng = np.random.default_rng(seed)
    truth, a = drawn(seed, items=int(rng.integers(5, 400)), right=rng.random())
    b = np.where(rng.random(len(truth)) < rng.random(), a, drawn(seed + 500, len(truth))[1])
    right_a, right_b = a == truth, b == truth
    table = [
        [(right_a & right_b).sum(), (right_a & ~right_b).sum()],
        [(~right_a & right_b).sum(), (~right_a & ~right_b).sum()],
    ]
    ours = mcnemar(truth, a, b)
    assert (ours.a_only, ours.b_only) == (table[0][1], table[1][0])
    assert ours.p == pytest.approx(theirs(table, exact=True).pvalue, rel=1e-9)
    assert mcnemar(truth, b, a) == McNemar(ours.b_only, ours.a_only, ours.p)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (0, 0),
        (0, 1),
        (1, 1),
        (0, 12),
        (5, 6),
        (400, 520),
        (3, 4000),
        (100_000, 101_000),
        (499_000, 501_000),
        (0, 2000),
    ],
)
def test_binomial_p_is_scipys_for_any_counts(first: int, second: int) -> None:
    from scipy.stats import binomtest

    theirs = binomtest(first, first + second).pvalue if first + second else 1.0
    assert math.isfinite(binomial_p(first, second))
    assert binomial_p(first, second) == pytest.approx(theirs, rel=1e-7, abs=1e-300)


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_statsmodels(seed: int) -> None:
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(seed)
    p = rng.random(int(rng.integers(1, 15))) ** 4
    p[rng.random(len(p)) < 0.2] = p[0]  # ties
    assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_holm_of_nothing() -> None:
    assert holm([]) == []


def test_combined_p_values() -> None:
    assert combine_dependent([0.03]) == 0.03
    assert combine_dependent([0.01, 0.02, 0.9]) == pytest.approx(0.04)
    assert combine_dependent([0.5, 0.7, 0.9, 1.0]) == 1.0


@pytest.mark.parametrize("correlation", [0.0, 0.6, 1.0])
def test_combined_p_values_hold_their_level_whatever_their_dependence(correlation: float) -> None:
    from scipy.stats import norm

    rng = np.random.default_rng(12)
    common, own = rng.normal(size=(4000, 1)), rng.normal(size=(4000, 5))
    z = math.sqrt(correlation) * common + math.sqrt(1 - correlation) * own
    p = 2 * norm.sf(np.abs(z))
    rejected = np.mean([combine_dependent(row) <= 0.05 for row in p.tolist()])
    assert rejected <= 0.055


def runs_of(truth: np.ndarray, right: float, seeds: list[int], base: int) -> list:
    found = []
    for seed in seeds:
        rng = np.random.default_rng((base, seed))
        guessed = rng.integers(0, 3, len(truth))
        found.append((seed, np.where(rng.random(len(truth)) < right, truth, guessed)))
    return found


def test_compare_pairs_runs_of_equal_seed() -> None:
    truth = np.random.default_rng(13).integers(0, 3, 600)
    methods = {
        "full": runs_of(truth, 0.6, [1, 2, 3], 1),
        "frozen": runs_of(truth, 0.3, [3, 2, 9], 2),
        "other": runs_of(truth, 0.3, [4, 5], 3),
    }
    results = compare(methods, truth, Resampling(draws=1000))
    assert [(r.first, r.second) for r in results] == [
        ("full", "frozen"),
        ("full", "other"),
        ("frozen", "other"),
    ]
    full, frozen = (dict(methods[name]) for name in ("full", "frozen"))
    assert results[0].tests == tuple(mcnemar(truth, full[s], frozen[s]) for s in (2, 3))
    assert len(results[1].tests) == 6  # no seed in common: every run against every other
    assert [r.adjusted_p for r in results] == holm([r.p for r in results])
    assert results[0].p == combine_dependent([t.p for t in results[0].tests])
    accuracy = np.mean([predicted == truth for _, predicted in methods["full"]])
    assert results[0].first_accuracy == pytest.approx(accuracy)
    assert [r.stands for r in results] == [True, True, False]
    for result in results:
        assert result.interval.low < result.difference < result.interval.high


def test_in_words() -> None:
    truth = np.random.default_rng(14).integers(0, 3, 600)
    methods = {
        "freeze 9": runs_of(truth, 0.3, [1, 2], 1),
        "full": runs_of(truth, 0.6, [1, 2], 2),
        "freeze 8": runs_of(truth, 0.3, [1, 2], 3),
    }
    first, second, third = (in_words(r) for r in compare(methods, truth, Resampling(draws=1000)))
    assert first.startswith("full (.") and ") is better than freeze 9 (." in first
    assert first.endswith("p < .001 after Holm's correction")
    assert "freeze 9 (" in second and ") do not differ beyond chance: difference ." in second
    assert third.startswith("full (") and "is better than freeze 8" in third


def test_seeds_that_disagree_on_the_direction_make_no_winner() -> None:
    truth = np.zeros(100, int)
    half = (np.arange(100) < 50).astype(int)
    methods = {"a": [(1, half), (2, 1 - half)], "b": [(1, truth), (2, truth + 1)]}
    result = compare(methods, truth, Resampling(draws=1000))[0]
    assert result.p < 1e-9 and not result.stands
    assert "err on different items, but none is better" in in_words(result)


def test_sentence_and_figures() -> None:
    result = PairResult(
        "freeze 9", "full", 0.612, 0.653, -0.041, Interval(-0.064, -0.018), (), 0.003, 0.003, 0.95
    )
    assert in_words(result) == (
        "full (.653) is better than freeze 9 (.612): difference .041 [.018, .064], p = .003 after "
        "Holm's correction"
    )
    assert in_words(result, {"full"}).startswith("this training of full (.653) is better than freeze 9")
    assert in_words(result, (), " over its 4 baselines").endswith(
        "p = .003 after Holm's correction over its 4 baselines"
    )
    figures = [short(x) for x in (0.5, -0.0101, 1.0, -0.00001, 0.0, -1.0, 0.99999)]
    assert figures == [".500", "-.010", "1", ".000", ".000", "-1", "1"]
