"""What a part of a study found, in sentences; every number and verdict is that of its tables."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from trainers.reporting.runs.analyses import layer_means
from trainers.reporting.runs.removed_heads import fall, removed_points
from trainers.reporting.statistics.tests import in_words, short
from trainers.reporting.study.baselines import Baseline
from trainers.reporting.study.curve_words import curve_sentences
from trainers.reporting.study.methods import Method
from trainers.reporting.study.part_result import PartResult
from trainers.reporting.study.significance import Pair, interval_text, pairs_of

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
                f"{best.name} has the highest {result.score_name}{where} ({score}). "
                f"{_ranking(result, best)}"
            )
        rival = rival_of(best, baselines, result.score)
        if rival:
            pairs, _ = pairs_of([best, rival.method], None)
            points += [
                f"beside the best baseline{where}, {in_words(pair.result, pair.single)}."
                f"{_uar_words(pair)}"
                for pair in pairs
            ]
    for method in result.methods:
        points += _analyses(method)
    return [f"{result.part.title}: {point}" for point in points]


def _ranking(result: PartResult, best: Method) -> str:
    """The tests of the best with the others. They are of accuracy; where another score ranks, the
    best one may be worse in accuracy, and the intervals of that score's differences are told too."""
    kinds: dict[str, list[str]] = {"better": [], "worse": [], "equal": []}
    uar: dict[str, list[str]] = {}
    this = ""
    for pair in result.pairs:
        if best not in (pair.first, pair.second):
            continue
        other = pair.second if pair.first is best else pair.first
        name = f"this training of {other.name}" if other.name in pair.single else other.name
        this = this or (" of this training" if best.name in pair.single else "")
        better = pair.better
        kinds["equal" if better is None else "better" if better is best else "worse"].append(name)
        if pair.uar is not None:
            low, high = pair.uar.low, pair.uar.high
            if pair.second is best:
                low, high = -high, -low
            where = (
                "lies above zero" if low > 0 else "lies below zero" if high < 0 else "holds zero"
            )
            uar.setdefault(where, []).append(name)
    texts = []
    its = f"The accuracy{this}" if this else "Its accuracy"
    if kinds["better"]:
        texts.append(f"{its} is better beyond chance than that of {_names(kinds['better'])}.")
    if kinds["worse"]:
        texts.append(f"{its} is worse beyond chance than that of {_names(kinds['worse'])}.")
    if kinds["equal"]:
        texts.append(f"{its} does not differ beyond chance from that of {_names(kinds['equal'])}.")
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


def _analyses(method: Method) -> list[str]:
    texts = []
    pruning = [run.analyses["pruning"] for run in method.runs if "pruning" in run.analyses]
    if pruning:
        texts += _removed_heads(method, pruning)
    probes = [run.analyses["probes"] for run in method.runs if "probes" in run.analyses]
    if probes:
        score = "uar" if method.first.task == "emotion" else "accuracy"
        layers = layer_means(probes, score)
        best = max(layers, key=lambda layer: layers[layer])
        last = max(layers)
        other = f"; the last {short(layers[last])}" if best != last else ""
        texts.append(
            f"of the layers of {method.name}, layer {best} of {last} is the best for a linear "
            f"probe ({'UAR' if score == 'uar' else 'accuracy'} {short(layers[best])}{other})."
        )
    noise = [run.analyses["noise"] for run in method.runs if "noise" in run.analyses]
    if noise:
        clean, noised = (
            mean(float(one[kind]["uar"]) for one in noise) for kind in ("clean", "noised")
        )
        changed = mean(float(one["changed"]) for one in noise)
        texts.append(
            f"noise on the test clips moves the UAR of {method.name} from {short(clean)} to "
            f"{short(noised)} and changes {changed:.0%} of its answers."
        )
    return texts


def _removed_heads(method: Method, pruning: Sequence[dict[str, Any]]) -> list[str]:
    """What is left with about half of the heads gone."""
    by_importance = removed_points(pruning, "importance")
    at_random = removed_points(pruning, "random")
    shares = [share for share in by_importance if share in at_random]
    if not shares:
        return []
    share = min(shares, key=lambda one: abs(one - 0.5))
    points = by_importance[share]
    kept, drawn = (
        mean(float(point["accuracy"]) for point in own) for own in (points, at_random[share])
    )
    whole = [one["whole"] for one in pruning]
    falls = [
        f"{less:.1%} of {name}"
        for name, key in (("the parameters", "parameters"), ("the time of a batch", "milliseconds"))
        if (less := fall(whole, points, key)) is not None
    ]
    gone = mean(point["removed_share"] for point in points)
    before = mean(float(one["accuracy"]) for one in whole)
    return [
        f"with {gone:.0%} of the heads of {method.name} removed and nothing trained again, "
        f"accuracy goes from {short(before)} to {short(kept)} by importance and to "
        f"{short(drawn)} at random (mean of {len(at_random[share])} draws)"
        f"{'; that saves ' + ' and '.join(falls) if falls else ''}."
    ]


def rival_of(method: Method, baselines: Sequence[Baseline], score: str) -> Baseline | None:
    """The best baseline on the same samples of the same shards: those of another packing hold other
    texts or sounds under the same keys."""
    if method.items is None:
        return None
    digest = str(method.first.data.get("digest"))
    own = [
        one
        for one in baselines
        if one.digest == digest and one.method.items and method.items.same(one.method.items)
    ]
    return max(own, key=lambda one: one.method.values(score)[0], default=None)


def _names(names: Sequence[str]) -> str:
    if len(names) > _NAMED:
        return f"{len(names)} others"
    return names[0] if len(names) == 1 else f"{'; '.join(names[:-1])} and {names[-1]}"
