"""The blocks that synthetic-farstail is made of: premises x hypotheses with balanced labels.

In each block every premise and every hypothesis occurs once with each of e (entailment),
c (contradiction) and n (neutral): neither text alone says anything about the label. Texts come
without a full stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from data_shards.corpora.synthetic_lexicon import Comparison, Contrast, Side

T = TypeVar("T")
Labelled = tuple[str, str, str]
"""premise, hypothesis, label"""


def contrast_block(contrasts: Sequence[Contrast], subject: str, rng: np.random.Generator) -> list[Labelled]:
    """Two independent contrasts about one subject, two sides each: 4 premises, 4 hypotheses.

    A premise entails its own side, contradicts the other one, and leaves a side of the other
    contrast open: 12 pairs.
    """
    two = [_two_sides(each, rng) for each in shuffled(contrasts, rng)[:2]]
    premises = [[_premise(side, subject, rng) for side in sides] for sides in two]
    hypotheses = [[pick(side.hypotheses, rng).format(x=subject) for side in sides] for sides in two]
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


def entity_block(contrast: Contrast, names: Sequence[str], rng: np.random.Generator) -> list[Labelled]:
    """Three people of whom each premise places two on opposite sides: 3 premises, 3 hypotheses.

    The hypothesis is about the one on its side (e), the one on the other (c), or the third (n):
    9 pairs.
    """
    people = shuffled(names, rng)[:3]
    yes, no = _two_sides(contrast, rng)
    wording = pick(yes.hypotheses, rng)
    hypotheses = [wording.format(x=person) for person in people]
    pairs: list[Labelled] = []
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        clauses = [_premise(yes, people[i], rng), _premise(no, people[j], rng)]
        if rng.random() < 0.5:
            clauses.reverse()
        joint = " و " if rng.random() < 0.5 else "، اما "
        premise = joint.join(clauses)
        pairs += [
            (premise, hypotheses[i], "e"),
            (premise, hypotheses[j], "c"),
            (premise, hypotheses[k], "n"),
        ]
    return pairs


def order_block(comparison: Comparison, names: Sequence[str], rng: np.random.Generator) -> list[Labelled]:
    """Three people compared pairwise, both ways round: 6 premises, 6 hypotheses, 18 pairs.

    From "a before b": "a before b" follows (in either wording), "b before a" is excluded, and of
    "b before c" nothing is known.
    """
    word = pick(comparison.words, rng)
    people = shuffled(names, rng)[:3]
    couples = [(i, j) for i in range(3) for j in range(3) if i != j]

    def say(i: int, j: int) -> str:
        wording = comparison.more if rng.random() < 0.5 else comparison.less
        return wording.format(a=people[i], b=people[j], w=word)

    hypotheses = {couple: say(*couple) for couple in couples}
    pairs: list[Labelled] = []
    for i, j in couples:
        premise = say(i, j)
        pairs += [
            (premise, hypotheses[i, j], "e"),
            (premise, hypotheses[j, i], "c"),
            (premise, hypotheses[j, 3 - i - j], "n"),
        ]
    return pairs


def _premise(side: Side, subject: str, rng: np.random.Generator) -> str:
    return pick(side.premises, rng).format(x=subject, w=pick(side.words, rng))


def _two_sides(contrast: Contrast, rng: np.random.Generator) -> list[Side]:
    return shuffled(contrast, rng)[:2]


def pick(options: Sequence[T], rng: np.random.Generator) -> T:
    """One of the options, from one raw random number: the same with every NumPy."""
    return options[int(rng.random() * len(options))]


def shuffled(options: Sequence[T], rng: np.random.Generator) -> list[T]:
    """The options in random order."""
    order = np.argsort(rng.random(len(options)), kind="stable")
    return [options[i] for i in order]
