"""synthetic-farstail: Persian premise-hypothesis pairs from templates, for demos and tests.

Labels are FarsTail's: e (entailment), c (contradiction), n (neutral). Pairs are made in small
blocks in which **every premise and every hypothesis occurs once with each label**, so that neither
text alone says anything about the answer (the artefact of Gururangan et al., NAACL 2018). The
blocks go whole into train, validation or test; no premise occurs in two of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from configs.errors import InputError
from data_shards.corpora.corpus import Corpus
from data_shards.corpora.synthetic_lexicon import (
    COMPARISONS,
    FAMILIES,
    OPENERS,
    PEOPLE,
    SCENES,
    Contrast,
    Scene,
    Side,
)  # fmt: skip
from data_shards.sample import Sample
from data_shards.text import TextSteps, make_pair

SPLITS = {"train": 0.70, "validation": 0.15, "test": 0.15}
ATTEMPTS = 300
"""Blocks tried for one with new premises before the templates count as used up."""
RARE = ("entity", "order")
"""Families that ask who is who: hard for a small model, so they come every other time only."""
OPENED = 0.2
"""Share of premises with an opener."""
T = TypeVar("T")
Labelled = tuple[str, str, str]
"""premise, hypothesis, label"""


@dataclass(frozen=True)
class PairItem:
    """One pair before text processing."""

    number: int
    family: str
    split: str
    label: str
    premise: str
    hypothesis: str


@dataclass(frozen=True)
class Cast:
    """The names in play: few in a small corpus, so that a small model meets each one often."""

    people: tuple[str, ...]
    openers: tuple[str, ...]

    def subjects(self, scene: Scene) -> tuple[str, ...]:
        return self.people if scene.subjects is PEOPLE else scene.subjects


def synthetic_farstail(
    samples: int = 2400, seed: int = 0, steps: TextSteps | None = None
) -> Corpus:
    """List ``samples`` pairs, about 70/15/15 in ``source_split``, the families in equal shares.

    Labels are balanced to within the last block (18 pairs at most). Raises InputError for fewer
    than 120 pairs, a negative seed, or more pairs than the templates hold.
    """
    if samples < 120:
        raise InputError(f"synthetic-farstail: samples is {samples}; give at least 120")
    if seed < 0:
        raise InputError(f"synthetic-farstail: seed is {seed}; give 0 or more")
    steps = steps or TextSteps()
    return Corpus(
        name="synthetic-farstail", kind="text", synthetic=True, items=_list_pairs(samples, seed),
        load=partial(load_pair, steps=steps), key=key_of,
        settings={"samples": samples, "seed": seed, "steps": asdict(steps)},
    )  # fmt: skip


def key_of(item: PairItem) -> str:
    """``synthetic-000123``"""
    return f"synthetic-{item.number:06d}"


def load_pair(item: PairItem, steps: TextSteps) -> Sample:
    """Process the pair's texts."""
    return Sample(
        key=key_of(item),
        label=item.label,
        text=make_pair(item.premise, item.hypothesis, steps),
        groups={"source_split": item.split, "family": item.family},
        meta={"synthetic": True},
    )


def _list_pairs(samples: int, seed: int) -> list[PairItem]:
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 3])))
    items: list[PairItem] = []
    seen: set[str] = set()
    sizes = {(family, split): 0 for family in ("", *FAMILIES) for split in SPLITS}
    while len(items) < samples:
        for family in _shuffled(FAMILIES, rng):
            block = _new_block(family, seen, rng, samples)
            split = _emptiest(sizes, family, len(block))
            sizes[family, split] += len(block)
            sizes["", split] += len(block)
            items += [
                PairItem(number, family, split, label, premise, hypothesis)
                for number, (premise, hypothesis, label) in enumerate(block, len(items))
            ]
            if len(items) >= samples:
                break
    return items[:samples]


def _emptiest(sizes: dict[tuple[str, str], int], family: str, block: int) -> str:
    """The split that is furthest behind its share, of all pairs and of this family's together."""

    def behind(split: str) -> float:
        return sum(
            SPLITS[split] * (sum(sizes[group, s] for s in SPLITS) + block) - sizes[group, split]
            for group in ("", family)
        )

    return max(SPLITS, key=behind)


def _new_block(
    family: str, seen: set[str], rng: np.random.Generator, samples: int
) -> list[Labelled]:
    """A block none of whose premises was used before."""
    for _ in range(ATTEMPTS):
        block = _block(family, rng)
        premises = {premise for premise, _, _ in block}
        if not premises & seen:
            seen |= premises
            return block
    raise InputError(
        f"synthetic-farstail: samples is {samples}; the templates of family {family!r} do not "
        "hold so many different pairs"
    )


def _block(family: str, rng: np.random.Generator) -> list[Labelled]:
    if family == "order":
        return order_block(rng)
    if family == "entity":
        scene = _pick([s for s in SCENES if s.subjects is PEOPLE], rng)
        return entity_block(scene, rng)
    return contrast_block(_pick([s for s in SCENES if s.family == family], rng), rng)


def contrast_block(scene: Scene, rng: np.random.Generator) -> list[Labelled]:
    """Two independent contrasts about one subject, two sides each: 4 premises, 4 hypotheses.

    A premise entails its own side, contradicts the other one, and leaves a side of the other
    contrast open: 12 pairs.
    """
    subject = _pick(scene.subjects, rng)
    contrasts = [_two_sides(each, rng) for each in _shuffled(scene.contrasts, rng)[:2]]
    premises = [[_open(_premise(s, subject, rng), rng) for s in sides] for sides in contrasts]
    hypotheses = [[_sentence(_hypothesis(s, subject, rng)) for s in sides] for sides in contrasts]
    return [
        pair
        for i in (0, 1)
        for s in (0, 1)
        for pair in (
            (premises[i][s], hypotheses[i][s], "e"),
            (premises[i][s], hypotheses[i][1 - s], "c"),
            (premises[i][s], hypotheses[1 - i][s], "n"),
        )
    ]


def entity_block(scene: Scene, rng: np.random.Generator) -> list[Labelled]:
    """Three people of whom each premise places two on opposite sides: 3 premises, 3 hypotheses.

    The hypothesis is about the one on its side (e), the one on the other (c), or the third (n):
    9 pairs.
    """
    people = _shuffled(PEOPLE, rng)[:3]
    yes, no = _two_sides(_pick(scene.contrasts, rng), rng)
    wordings = _pick(yes.hypotheses, rng)
    hypotheses = [_sentence(wordings.format(x=person)) for person in people]
    pairs: list[Labelled] = []
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        clauses = [_premise(yes, people[i], rng), _premise(no, people[j], rng)]
        if rng.random() < 0.5:
            clauses.reverse()
        premise = _sentence(" و ".join(clauses) if rng.random() < 0.5 else "، اما ".join(clauses))
        pairs += [
            (premise, hypotheses[i], "e"),
            (premise, hypotheses[j], "c"),
            (premise, hypotheses[k], "n"),
        ]
    return pairs


def order_block(rng: np.random.Generator) -> list[Labelled]:
    """Three people compared pairwise, both ways round: 6 premises, 6 hypotheses, 18 pairs.

    From "a before b": "a before b" follows (in either wording), "b before a" is excluded, and of
    "b before c" nothing is known.
    """
    comparison = _pick(COMPARISONS, rng)
    word = _pick(comparison.words, rng)
    people = _shuffled(PEOPLE, rng)[:3]
    couples = [(i, j) for i in range(3) for j in range(3) if i != j]

    def say(i: int, j: int) -> str:
        wording = comparison.more if rng.random() < 0.5 else comparison.less
        return wording.format(a=people[i], b=people[j], w=word)

    hypotheses = {couple: _sentence(say(*couple)) for couple in couples}
    pairs: list[Labelled] = []
    for i, j in couples:
        premise = _open(say(i, j), rng)
        pairs += [
            (premise, hypotheses[i, j], "e"),
            (premise, hypotheses[j, i], "c"),
            (premise, hypotheses[j, 3 - i - j], "n"),
        ]
    return pairs


def _premise(side: Side, subject: str, rng: np.random.Generator) -> str:
    return _pick(side.premises, rng).format(x=subject, w=_pick(side.words, rng))


def _hypothesis(side: Side, subject: str, rng: np.random.Generator) -> str:
    return _pick(side.hypotheses, rng).format(x=subject)


def _open(statement: str, rng: np.random.Generator) -> str:
    """Every other premise begins with a phrase that changes nothing."""
    opener = _pick(OPENERS, rng) if rng.random() < 0.5 else ""
    return _sentence(f"{opener} {statement}".strip())


def _sentence(statement: str) -> str:
    return f"{statement}."


def _two_sides(contrast: Contrast, rng: np.random.Generator) -> list[Side]:
    return _shuffled(contrast, rng)[:2]


def _pick(options: Sequence[T], rng: np.random.Generator) -> T:
    return options[int(rng.random() * len(options))]


def _shuffled(options: Sequence[T], rng: np.random.Generator) -> list[T]:
    order = np.argsort(rng.random(len(options)), kind="stable")
    return [options[i] for i in order]
