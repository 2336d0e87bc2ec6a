"""What a part of a study found, in sentences; every number and verdict is that of its tables."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from trainers.reporting.page.blocks import isolated
from trainers.reporting.runs.analyses import layer_means, over_folds
from trainers.reporting.runs.record import Run
from trainers.reporting.runs.removed_heads import fall, removed_points
from trainers.reporting.statistics.hypothesis_tests import in_words, short
from trainers.reporting.study.baselines import Baseline
from trainers.reporting.study.curve_words import curve_sentences
from trainers.reporting.study.methods import Method
from trainers.reporting.study.part_result import PartResult
from trainers.reporting.study.significance import Pair, interval_text, tested

_NAMED = 6
"""Methods that a sentence names; of more it gives the number."""


def count_text(count: int, what: str) -> str:
    """1 pair, 2 pairs."""
    return f"{count} {what}{'s' if count != 1 else ''}"


def sentences(result: PartResult, baselines: Sequence[Baseline]) -> list[str]:
    """All that can be said of a part, each sentence with its title."""
    points = []
    if result.part.curve:
        points += curve_sentences(result)
    for methods in [] if result.part.curve else result.groups:
        best = result.best(methods)
        where = f" on {best.protocol}" if len(result.groups) > 1 else ""
        if len(methods) > 1:
            score = short(mean(best.values(result.score)))
            points.append(
                f"{best.name} has the highest {result.score_name}{where} ({score}). {_ranking(result, best)}"
            )
        rival = rival_of(best, baselines, result.score)
        if rival:
            # The best of several was picked: all of them were tries to beat the method.
            own = baselines_of(best, baselines)
            over = f" over {'its one baseline' if len(own) == 1 else f'its {len(own)} baselines'}"
            points += [
                f"beside the best baseline{where}, {in_words(pair.result, pair.single, over)}."
                f"{_uar_words(pair)}"
                for pair in tested([(best, one.method) for one in own])
                if pair.second is rival.method
            ]
    for method in result.methods:
        for name, runs in method.measured.items():
            points += _analyses(name, runs)
    return [f"{isolated(result.part.title)}: {point}" for point in points]


def _ranking(result: PartResult, best: Method) -> str:
    """The tests of the best with the others. They are of accuracy; where another score ranks, the
    best one may be worse in accuracy, and the intervals of that score's differences are told too."""
    kinds: dict[str, list[str]] = {"better": [], "worse": [], "equal": [], "untold": []}
    uar: dict[str, list[str]] = {}
    this = ""
    for pair in result.pairs:
        if best not in (pair.first, pair.second):
            continue
        other = pair.second if pair.first is best else pair.first
        name = f"this training of {other.name}" if other.name in pair.single else other.name
        this = this or (" of this training" if best.name in pair.single else "")
        better = pair.better
        even = "untold" if pair.result.interval is None else "equal"
        kinds[even if better is None else "better" if better is best else "worse"].append(name)
        if pair.uar is not None:
            low, high = pair.uar.low, pair.uar.high
            if pair.second is best:
                low, high = -high, -low
            where = "lies above zero" if low > 0 else "lies below zero" if high < 0 else "holds zero"
            uar.setdefault(where, []).append(name)
    texts = []
    its = f"The accuracy{this}" if this else "Its accuracy"
    if kinds["better"]:
        texts.append(f"{its} is better beyond chance than that of {_names(kinds['better'])}.")
    if kinds["worse"]:
        texts.append(f"{its} is worse beyond chance than that of {_names(kinds['worse'])}.")
    if kinds["equal"]:
        texts.append(f"{its} does not differ beyond chance from that of {_names(kinds['equal'])}.")
    if kinds["untold"]:
        texts.append(f"The test part has too few speakers to tell it from {_names(kinds['untold'])}.")
    for where, names in uar.items():
        texts.append(f"The interval of its difference in UAR {where} beside {_names(names)}.")
    return " ".join(texts) or "It was tested against no other."


def _uar_words(pair: Pair) -> str:
    """The interval of the difference in UAR, for speech."""
    if pair.uar is None:
        return ""
    out = pair.uar.low > 0 or pair.uar.high < 0
    return (
        f" The difference in UAR is {pair.uar_difference:+.3f} {interval_text(pair.uar)}, an interval "
        f"that {'leaves zero out' if out else 'holds zero'}."
    )


def _analyses(name: str, runs: Sequence[Run]) -> list[str]:
    """What was measured on the models of a method, whose name stands before it."""
    texts = []
    pruning = [run.analyses["pruning"] for run in runs if "pruning" in run.analyses]
    if pruning:
        texts += _removed_heads(name, pruning)
    over = f", {over_folds(runs)}" if over_folds(runs) else ""
    probes = [run.analyses["probes"] for run in runs if "probes" in run.analyses]
    if probes:
        score = "uar" if runs[0].task == "emotion" else "accuracy"
        layers = layer_means(probes, score)
        best = max(layers, key=lambda layer: layers[layer])
        last = max(layers)
        other = f"; the last {short(layers[last])}" if best != last else ""
        texts.append(
            f"of the layers of {name}, layer {best} of {last} is the best for a linear "
            f"probe ({'UAR' if score == 'uar' else 'accuracy'} {short(layers[best])}{other}{over})."
        )
    noise = [run.analyses["noise"] for run in runs if "noise" in run.analyses]
    if noise:
        clean, noised = (mean(float(one[kind]["uar"]) for one in noise) for kind in ("clean", "noised"))
        changed = mean(float(one["changed"]) for one in noise)
        texts.append(
            f"noise on the test clips moves the UAR of {name} from {short(clean)} to {short(noised)} and "
            f"changes {changed:.0%} of its answers{over}."
        )
    return texts


def _removed_heads(name: str, pruning: Sequence[dict[str, Any]]) -> list[str]:
    """What is left with about half of the heads gone."""
    by_importance = removed_points(pruning, "importance")
    at_random = removed_points(pruning, "random")
    shares = [share for share in by_importance if share in at_random]
    if not shares:
        return []
    share = min(shares, key=lambda one: abs(one - 0.5))
    points = by_importance[share]
    kept, drawn = (mean(float(point["accuracy"]) for point in own) for own in (points, at_random[share]))
    whole = [one["whole"] for one in pruning]
    falls = [
        f"{less:.1%} of {what}"
        for what, key in (("the parameters", "parameters"), ("the time of a batch", "milliseconds"))
        if (less := fall(whole, points, key)) is not None
    ]
    gone = mean(point["removed_share"] for point in points)
    before = mean(float(one["accuracy"]) for one in whole)
    return [
        f"with {gone:.0%} of the heads of {name} removed and nothing trained again, "
        f"accuracy goes from {short(before)} to {short(kept)} by importance and to "
        f"{short(drawn)} at random (mean of {_draws(len(at_random[share]), len(pruning))})"
        f"{'; that saves ' + ' and '.join(falls) if falls else ''}."
    ]


def _draws(removals: int, trainings: int) -> str:
    """6 removals of 2 trainings are 3 draws in each."""
    if trainings == 1:
        return count_text(removals, "draw")
    if removals % trainings:
        return f"{removals} draws in {trainings} trainings"
    return f"{count_text(removals // trainings, 'draw')} in each of {trainings} trainings"


def baselines_of(method: Method, baselines: Sequence[Baseline]) -> list[Baseline]:
    """Those on the same samples of the same shards: those of another packing hold other texts or sounds
    under the same keys."""
    if method.items is None:
        return []
    digest = str(method.first.data.get("digest"))
    return [
        one
        for one in baselines
        if one.digest == digest
        and one.method.protocol == method.protocol
        and one.method.items
        and method.items.same(one.method.items)
    ]


def rival_of(method: Method, baselines: Sequence[Baseline], score: str) -> Baseline | None:
    """The best of them."""
    own = baselines_of(method, baselines)
    return max(own, key=lambda one: one.method.values(score)[0], default=None)


def _names(names: Sequence[str]) -> str:
    if len(names) > _NAMED:
        return f"{len(names)} others"
    return names[0] if len(names) == 1 else f"{'; '.join(names[:-1])} and {names[-1]}"
