"""What a part of a study found, in sentences; every number and verdict is that of its tables."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from trainers.reporting.analyses import layer_means
from trainers.reporting.curve_words import curve_sentences
from trainers.reporting.methods import Method
from trainers.reporting.part_result import PartResult
from trainers.reporting.removed_heads import removed_points
from trainers.reporting.significance import pairs_of
from trainers.reporting.statistics import in_words, short
from trainers.reporting.study_baselines import Baseline

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
        rival = rival_of(best, baselines, "accuracy")
        if rival:
            pairs, _ = pairs_of([best, rival.method], None)
            points += [
                f"beside the best baseline{where}, {in_words(pair.result)}." for pair in pairs
            ]
    for method in result.methods:
        points += _analyses(method)
    return [f"{result.part.title}: {point}" for point in points]


def _ranking(result: PartResult, best: Method) -> str:
    beaten: list[str] = []
    equal: list[str] = []
    for pair in result.pairs:
        if best in (pair.first, pair.second):
            other = pair.second if pair.first is best else pair.first
            (beaten if pair.better is best else equal).append(other.name)
    texts = []
    if beaten:
        texts.append(f"Its accuracy is better beyond chance than that of {_names(beaten)}.")
    if equal:
        texts.append(f"It is not better beyond chance than {_names(equal)}.")
    return " ".join(texts) or "It was tested against no other."


def _analyses(method: Method) -> list[str]:
    texts = []
    pruning = [run.analyses["pruning"] for run in method.runs if "pruning" in run.analyses]
    if pruning:
        by_importance = removed_points(pruning, "importance")
        at_random = removed_points(pruning, "random")
        shares = [share for share in by_importance if share in at_random]
        if shares:
            share = min(shares, key=lambda one: abs(one - 0.5))
            kept, drawn = (
                mean(float(point["accuracy"]) for point in points[share])
                for points in (by_importance, at_random)
            )
            whole = mean(float(one["whole"]["accuracy"]) for one in pruning)
            texts.append(
                f"with {share:.0%} of the heads of {method.name} removed and nothing trained again, "
                f"accuracy goes from {short(whole)} to {short(kept)} by importance and to "
                f"{short(drawn)} at random (mean of {len(at_random[share])} draws)."
            )
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


def rival_of(method: Method, baselines: Sequence[Baseline], score: str) -> Baseline | None:
    """The best baseline on the same samples."""
    if method.items is None:
        return None
    own = [one for one in baselines if one.method.items and method.items.same(one.method.items)]
    return max(own, key=lambda one: one.method.values(score)[0], default=None)


def _names(names: Sequence[str]) -> str:
    if len(names) > _NAMED:
        return f"{len(names)} others"
    return names[0] if len(names) == 1 else f"{'; '.join(names[:-1])} and {names[-1]}"
