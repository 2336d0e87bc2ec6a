"""The runs of a part of a study -> its methods: grouped by settings and data, folds pooled."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trainers.reporting.runs.record import Run
from trainers.reporting.study.file import StudyMember, StudyPart
from trainers.reporting.study.methods import Method
from trainers.reporting.study.pooling import Seeds, pooled_seeds, why_apart
from trainers.reporting.study.setting_words import setting_words

_FOLD = re.compile(r"(.+)-fold(\d+)")
_SPLIT = "data.split"
_ANALYSIS = "analysis."

Row = tuple[StudyMember, Run]


def methods_of(part: StudyPart, found: Mapping[str, Run]) -> list[Method]:
    """The methods of a part, in the order of its members, from the runs that are there.

    Runs of one method agree in recipe, split, settings, and in the data that they read. Those that
    differ only in what was measured afterwards (``analysis.``) are one training: the first is scored.
    Runs of splits named <name>-fold<n> are pooled over their folds: the test parts of all folds make
    one. A seed that lacks folds which another seed has is left out, and a note says so.
    """
    rows = [
        (member, found[member.run])
        for member in part.members
        if member.run in found and "test" in found[member.run].splits
    ]
    recipes = {run.recipe for _, run in rows}
    splits = {_split(run)[0] for _, run in rows}
    groups: dict[str, dict[str, list[Row]]] = {}
    for member, run in rows:
        split, fold = _split(run)
        settings = _settings(member, part.curve)
        about = [run.recipe, split, fold > 0, run.data["corpus"], settings, _value(part, run)]
        packings = groups.setdefault(json.dumps(about, sort_keys=True), {})
        packings.setdefault(str(run.data.get("digest", "unknown")), []).append((member, run))
    methods: list[Method] = []
    for packings in groups.values():
        for digest, group in packings.items():
            member, run = group[0]
            settings, split = _settings(member, part.curve), _split(run)[0]
            words = [run.recipe] if len(recipes) > 1 else []
            words += _words(settings)
            if len(splits) > 1 and split not in words:
                words.append(split)
            notes = []
            if len(packings) > 1:
                words.append(f"data {digest[:8]}")
                notes.append(
                    f"{', '.join(words)}: its trainings read other data than those of equal settings "
                    "(the digests of the shards differ), so they are another row"
                )
            for method in _methods(part, group, words, notes):
                if any(method.name == other.name for other in methods):  # such as equal corpora
                    method = replace(method, name=f"{method.name} ({len(methods) + 1})")
                methods.append(method)
    return methods


def _methods(
    part: StudyPart, group: Sequence[Row], words: Sequence[str], notes: Sequence[str]
) -> list[Method]:
    """One, or one a fold where these cannot be pooled."""
    run = group[0][1]
    value = _value(part, run)
    line = ", ".join(words) or run.recipe
    name = ", ".join([*words, setting_words(part.curve, value)] if part.curve else words) or run.recipe
    seeds: dict[int, dict[int, Run]] = {}
    for member, run in group:
        seeds.setdefault(member.seed, {}).setdefault(_split(run)[1], run)
    folds, told = _shared_folds(name, seeds)
    seeds = {seed: runs for seed, runs in seeds.items() if tuple(sorted(runs)) == folds}
    notes = [*notes, *told]

    def method(folds: tuple[int, ...], tail: str, notes: Sequence[str]) -> Method:
        own: Seeds = {
            seed: {fold: run for fold, run in runs.items() if fold in folds} for seed, runs in seeds.items()
        }
        scored, items, problem = pooled_seeds(own)
        notes = (*notes, *([f"{name}{tail}: {problem}"] if problem else []))
        measured: dict[str, list[Run]] = {}
        for member, run in group:
            if member.seed in own and _split(run)[1] in folds:
                words = [name + tail, *_analysis(member)]
                measured.setdefault(", ".join(words), []).append(run)
        return Method(
            name + tail,
            value,
            line + tail,
            _split(group[0][1])[0],
            () if folds == (0,) else folds,
            scored,
            items,
            notes,
            {words: tuple(runs) for words, runs in measured.items()},
        )

    if not (why := why_apart(seeds)):
        return [method(folds, "", notes)]
    notes.append(f"{name}: its folds are not pooled: {why}")
    return [method((fold,), f", fold {fold}", [] if place else notes) for place, fold in enumerate(folds)]


def _shared_folds(name: str, seeds: Seeds) -> tuple[tuple[int, ...], list[str]]:
    """The largest set of folds that a seed has (of equal ones that of most seeds), and what is left out."""
    sets = Counter(tuple(sorted(runs)) for runs in seeds.values())
    folds = max(sets, key=lambda one: (len(one), sets[one]))
    out = [str(seed) for seed, runs in seeds.items() if tuple(sorted(runs)) != folds]
    if not out:
        return folds, []
    text = f"{name}: seed {', '.join(out)} left out, it lacks folds that others have"
    return folds, [text]


def _split(run: Run) -> tuple[str, int]:
    """What the folds of a split share, and which it is; 0 for a single one."""
    name = str(run.data["split"])
    found = _FOLD.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, 0)


def _settings(member: StudyMember, curve: str | None) -> dict[str, Any]:
    """The member's grid values that make it a method of its own."""
    varied = {
        key: value
        for key, value in member.varied.items()
        if key != curve and not f"{key}.".startswith(_ANALYSIS)
    }
    if _FOLD.fullmatch(str(varied.get(_SPLIT, ""))):
        del varied[_SPLIT]
    return varied


def _analysis(member: StudyMember) -> list[str]:
    """What was measured on the member's model, where the part's members differ in that."""
    measured = {key: value for key, value in member.varied.items() if f"{key}.".startswith(_ANALYSIS)}
    return [setting_words(key, value) for key, value in measured.items()]


def _value(part: StudyPart, run: Run) -> Any:
    """The value of the curve's field in a run's recipe."""
    value: Any = run.config
    for key in part.curve.split(".") if part.curve else ():
        value = value.get(key) if isinstance(value, dict) else None
    return value if part.curve else None


def _words(settings: Mapping[str, Any]) -> list[str]:
    """Each setting. One that is not set is left out beside others: ``all layers train`` needs no last
    layers."""
    there = {key: value for key, value in settings.items() if value is not None}
    return [setting_words(key, value) for key, value in (there or settings).items()]
