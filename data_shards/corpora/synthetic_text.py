"""synthetic-farstail: Persian premise-hypothesis pairs from templates, for demos and tests.

Labels are FarsTail's: e (entailment), c (contradiction), n (neutral). Pairs are made in small
blocks in which **every premise and every hypothesis occurs once with each label**, so that neither
text alone says anything about the answer (the artefact of Gururangan et al., NAACL 2018). The
blocks go whole into train, validation or test; no premise occurs in two of them, not even behind
another opening phrase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from configs.errors import InputError
from data_shards.corpora.corpus import Corpus
from data_shards.corpora.synthetic_blocks import (
    Labelled,
    contrast_block,
    entity_block,
    order_block,
    pick,
    shuffled,
)
from data_shards.corpora.synthetic_lexicon import (
    COMPARISONS,
    FAMILIES,
    FIRST_NAMES,
    OPENERS,
    PEOPLE,
    SCENES,
    Scene,
)
from data_shards.sample import Sample
from data_shards.text import TextSteps, make_pair

SPLITS = {"train": 0.70, "validation": 0.15, "test": 0.15}
MOST = 50_000
"""So many pairs the templates hold, whatever the seed."""
ATTEMPTS = 300
"""Blocks tried for one with new premises before the templates count as used up."""
RARE = ("entity", "order")
"""Families that ask who is who: hard for a small model, so they come every other time only."""
OPENED = 0.15
"""Share of premises that begin with a phrase that changes nothing."""
PAIRS_A_STEP = 800
"""A corpus of 800 n pairs (but n at least 3) draws on the first n contrasts of a scene, n sides of
a contrast, n words of a side and 4 n names. Without a shortcut every contrast is a lesson of its
own: a small corpus teaches few of them, or a small model would learn none."""


@dataclass(frozen=True)
class PairItem:
    """One pair before text processing."""

    number: int
    family: str
    split: str
    label: str
    premise: str
    hypothesis: str


def synthetic_farstail(samples: int = 2400, seed: int = 0, steps: TextSteps | None = None) -> Corpus:
    """List ``samples`` pairs, about 70/15/15 in ``source_split``, equally from all families
    but the two rare ones.

    Labels are balanced to within the last block (18 pairs at most). Raises InputError for fewer
    than 120 pairs, a negative seed, or more pairs than the templates hold.
    """
    if samples < 120:
        raise InputError(f"synthetic-farstail: samples is {samples}; give at least 120")
    if seed < 0:
        raise InputError(f"synthetic-farstail: seed is {seed}; give 0 or more")
    steps = steps or TextSteps()
    return Corpus(
        name="synthetic-farstail",
        kind="text",
        synthetic=True,
        items=_list_pairs(samples, seed),
        load=partial(load_pair, steps=steps),
        key=key_of,
        settings={"samples": samples, "seed": seed, "steps": asdict(steps)},
    )


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
    breadth = max(3, -(-samples // PAIRS_A_STEP))
    scenes = [narrow(scene, breadth) for scene in SCENES]
    items: list[PairItem] = []
    seen: set[str] = set()
    sizes = {(family, split): 0 for family in ("", *FAMILIES) for split in SPLITS}
    turn = 0
    while len(items) < samples:
        turn += 1
        families = [f for f in FAMILIES if turn % 2 == 0 or f not in RARE]
        for family in shuffled(families, rng):
            block = _new_block(family, scenes, 4 * breadth, seen, rng, samples)
            split = _emptiest(sizes, family, len(block))
            sizes[family, split] += len(block)
            sizes["", split] += len(block)
            items += [
                PairItem(number, family, split, label, premise, hypothesis)
                for number, (premise, hypothesis, label) in enumerate(block, len(items))
            ]
    return items[:samples]


def _emptiest(sizes: dict[tuple[str, str], int], family: str, block: int) -> str:
    """The split that is furthest behind its share, of all pairs and of this family's together."""

    def behind(split: str) -> float:
        return sum(
            SPLITS[split] * (sum(sizes[group, s] for s in SPLITS) + block) - sizes[group, split]
            for group in ("", family)
        )

    return max(SPLITS, key=behind)


def narrow(scene: Scene, breadth: int) -> Scene:
    """The scene with the first few of its contrasts, sides, words and hypothesis wordings."""
    return replace(
        scene,
        contrasts=tuple(
            tuple(
                replace(
                    side,
                    words=side.words[:breadth],
                    hypotheses=side.hypotheses[: max(1, breadth - 2)],
                )
                for side in sides[:breadth]
            )
            for sides in scene.contrasts[:breadth]
        ),
    )


def _new_block(
    family: str,
    scenes: Sequence[Scene],
    cast: int,
    seen: set[str],
    rng: np.random.Generator,
    samples: int,
) -> list[Labelled]:
    """A block none of whose premises was used before, as sentences, some with an opener."""
    for _ in range(ATTEMPTS):
        block = _block(family, scenes, cast, rng)
        premises = sorted({premise for premise, _, _ in block})
        if seen.isdisjoint(premises):
            seen.update(premises)
            opened = {
                premise: f"{pick(OPENERS, rng)} {premise}" if rng.random() < OPENED else premise
                for premise in premises
            }
            return [(f"{opened[p]}.", f"{hypothesis}.", label) for p, hypothesis, label in block]
    raise InputError(
        f"synthetic-farstail: samples is {samples}; the templates of family {family!r} do not "
        f"hold so many different pairs: give {MOST} or fewer"
    )


def _block(family: str, scenes: Sequence[Scene], cast: int, rng: np.random.Generator) -> list[Labelled]:
    if family == "order":
        return order_block(pick(COMPARISONS, rng), FIRST_NAMES[:cast], rng)
    if family == "entity":
        scene = pick([s for s in scenes if s.subjects is PEOPLE], rng)
        return entity_block(pick(scene.contrasts, rng), FIRST_NAMES[:cast], rng)
    scene = pick([s for s in scenes if s.family == family], rng)
    return contrast_block(scene.contrasts, pick(scene.subjects[:cast], rng), rng)
