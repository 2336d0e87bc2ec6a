"""synthetic-shemo: made-up emotional speech in the shape of ShEMO, for demos and tests.

Nobody spoke it: every clip is rendered by the source-filter voice in ``voice.py`` from a seed.
Names, class imbalance, genders, uneven speakers and clip lengths follow ShEMO (doi
10.1007/s10579-018-9427-x); the emotions' prosody follows the usual findings on acted speech
(Scherer, Speech Communication 40, 2003). Emotions overlap on purpose: speakers differ in how they
act, and some clips are acted weakly.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from configs.errors import InputError
from data_shards.corpora.corpus import Corpus
from data_shards.corpora.voice import Delivery, draw_voice, speak
from data_shards.sample import Sample

LABELS = {
    "A": "anger",
    "N": "neutral",
    "S": "sadness",
    "W": "surprise",
    "H": "happiness",
    "F": "fear",
}
SHEMO_COUNTS = {"A": 1059, "N": 1028, "S": 449, "W": 225, "H": 201, "F": 38}
SHEMO_SPEAKERS, SHEMO_FEMALE_SPEAKERS = 87, 31
# Share of ShEMO's speakers who have the emotion at all; how much likelier a woman's clip shows it.
PRESENCE = {"A": 0.78, "N": 0.97, "S": 0.60, "W": 0.62, "H": 0.53, "F": 0.21}
FEMALE_FACTOR = {"A": 1.05, "N": 0.53, "S": 2.3, "W": 1.7, "H": 1.7, "F": 2.2}
# Clip lengths: log-normal with ShEMO's median and 95th percentile, cut at its extremes. Seconds.
MEDIAN, P95, SHORTEST, LONGEST = 3.1, 10.8, 0.36, 33.3
FEWEST = 24
"""Fewer clips than this cannot give every class a clip in each of three splits."""
MOST_SPEAKERS = 154
"""99 men and 55 women: two digits in a name."""
# What each emotion does at full strength; "neutral" is Delivery's defaults.
EMOTIONS = {
    "A": Delivery(3.5, 2.9, -4.5, 1.14, 6.5, 2.8, 0.03, 0.15, 1.00, 0.8),
    "N": Delivery(),
    "S": Delivery(-1.5, 1.0, -3.5, 0.78, -5.0, -2.6, 0.18, 0.15, 0.98, 1.6),
    "W": Delivery(6.0, 4.2, 8.0, 0.92, 2.0, 0.6, 0.08, 0.10, 1.00, 1.0),
    "H": Delivery(4.5, 3.6, 1.0, 1.08, 2.5, 0.8, 0.06, 0.10, 1.08, 0.9),
    "F": Delivery(6.5, 1.3, -1.0, 1.25, -1.0, -1.2, 0.25, 0.90, 1.02, 1.2),
}
# How much two clips of the same emotion and speaker differ (standard deviations).
SPREAD = Delivery(0.9, 0.45, 1.5, 0.07, 1.6, 0.7, 0.02, 0.04, 0.012, 0.15, 6.0)
NOISE = -26.0


@dataclass(frozen=True)
class Clip:
    """What it takes to render one clip."""

    key: str
    """gender, speaker, emotion, number: ``F03S02``."""
    seconds: float
    seed: int
    number: int
    """Position in the corpus: with ``seed``, the clip's own random stream."""


def synthetic_shemo(samples: int = 480, seed: int = 0, seconds_scale: float = 1.0) -> Corpus:
    """List ``samples`` clips. ``seconds_scale`` multiplies ShEMO's clip lengths.

    24 speakers, or ShEMO's share (87 of 3000 clips) where that is more. Raises InputError for
    fewer than 24 clips, a negative seed or a scale outside 0.01 to 10.
    """
    if samples < FEWEST:
        raise InputError(f"synthetic-shemo: samples is {samples}; give at least {FEWEST}")
    if seed < 0:
        raise InputError(f"synthetic-shemo: seed is {seed}; give 0 or more")
    if not 0.01 <= seconds_scale <= 10:
        raise InputError(f"synthetic-shemo: seconds_scale is {seconds_scale}; give 0.01 to 10")
    rng = _stream(seed, 0)
    speakers = _speakers(samples)
    counts = _clips_of(samples, speakers, rng)
    names = [
        f"{speaker}{emotion}{number:02d}"
        for s, speaker in enumerate(speakers)
        for e, emotion in enumerate(LABELS)
        for number in range(1, counts[s, e] + 1)
    ]
    sigma = np.log(P95 / MEDIAN) / 1.6449
    seconds = np.clip(MEDIAN * np.exp(sigma * rng.standard_normal(samples)), SHORTEST, LONGEST)
    items = [
        # The voice needs a few syllables' room; whole milliseconds keep descriptors short.
        Clip(name, round(max(0.3, float(length) * seconds_scale), 3), seed, number)
        for number, (name, length) in enumerate(zip(names, seconds, strict=True))
    ]
    return Corpus(
        name="synthetic-shemo",
        kind="audio",
        synthetic=True,
        items=items,
        load=render,
        key=key_of,
        settings={"samples": samples, "seed": seed, "seconds_scale": seconds_scale},
    )


def key_of(clip: Clip) -> str:
    """The clip's ShEMO-like name."""
    return clip.key


def render(clip: Clip) -> Sample:
    """Render one clip; its bytes depend on the descriptor alone."""
    speaker, emotion = clip.key[:3], clip.key[3]
    voice = draw_voice(speaker[0], _stream(clip.seed, 1, ord(speaker[0]), int(speaker[1:])))
    rng = _stream(clip.seed, 2, clip.number)
    strength = float(np.clip(0.95 + 0.3 * rng.standard_normal(), 0.15, 1.7))
    delivery = deliver(emotion, strength * voice.expressiveness, rng)
    return Sample(
        key=clip.key,
        label=LABELS[emotion],
        speaker=speaker,
        audio=speak(voice, delivery, clip.seconds, rng),
        groups={"gender": speaker[0]},
        meta={"synthetic": True},
    )


def deliver(emotion: str, strength: float, rng: np.random.Generator) -> Delivery:
    """Prosody of one clip: from neutral (strength 0) towards the emotion, plus a random spread."""
    neutral, target, spread = asdict(Delivery()), asdict(EMOTIONS[emotion]), asdict(SPREAD)
    target["noise"] = neutral["noise"] = NOISE
    z = rng.standard_normal(len(neutral))
    drawn = {
        name: neutral[name] + strength * (target[name] - neutral[name]) + spread[name] * float(each)
        for name, each in zip(neutral, z, strict=True)
    }
    delivery = Delivery(**drawn)
    return replace(
        delivery,
        span=max(0.4, delivery.span),
        tempo=max(0.55, delivery.tempo),
        breath=max(0.01, delivery.breath),
        tremor=max(0.02, delivery.tremor),
        pauses=max(0.4, delivery.pauses),
        noise=min(-12.0, delivery.noise),
    )


def _stream(seed: int, *purpose: int) -> np.random.Generator:
    """A random stream of its own for every purpose, the same in every process."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *purpose])))


def _speakers(samples: int) -> list[str]:
    """Names of the speakers, ShEMO's share of them women."""
    share = round(samples * SHEMO_SPEAKERS / sum(SHEMO_COUNTS.values()))
    total = min(max(24, share), MOST_SPEAKERS, samples // 3)
    women = round(total * SHEMO_FEMALE_SPEAKERS / SHEMO_SPEAKERS)
    return [f"F{n:02d}" for n in range(1, women + 1)] + [f"M{n:02d}" for n in range(1, total - women + 1)]


def _clips_of(samples: int, speakers: list[str], rng: np.random.Generator) -> NDArray[np.int64]:
    """(speakers, emotions) clip counts: ShEMO's classes, unevenly over the speakers as in ShEMO."""
    shares = np.array([SHEMO_COUNTS[e] for e in LABELS], float)
    classes = apportion(samples, shares, at_least=np.full(len(LABELS), 3))
    woman = np.array([name[0] == "F" for name in speakers])
    activity = np.exp(0.7 * rng.standard_normal(len(speakers))) * np.where(woman, 1.3, 1.0)
    counts = np.zeros((len(speakers), len(LABELS)), np.int64)
    for e, emotion in enumerate(LABELS):
        # Speakers without the emotion get weight 0; six or more have it, so that splits can.
        has = np.argsort(rng.random(len(speakers)), kind="stable")
        has = has[: max(6, round(PRESENCE[emotion] * len(speakers)))]
        weights = np.zeros(len(speakers))
        taste = np.exp(0.8 * rng.standard_normal(len(speakers)))
        taste *= np.where(woman, FEMALE_FACTOR[emotion], 1.0)
        weights[has] = (activity * taste)[has]
        first = np.zeros(len(speakers), np.int64)
        first[has[: min(6, int(classes[e]))]] = 1
        counts[:, e] = apportion(int(classes[e]), weights, at_least=first)
    for silent in np.flatnonzero(counts.sum(1) == 0):  # every speaker says something
        e = int(rng.random() < 0.5)
        counts[int(np.argmax(counts[:, e])), e] -= 1
        counts[silent, e] += 1
    return counts


def apportion(total: int, weights: NDArray[np.float64], at_least: NDArray[np.int64]) -> NDArray[np.int64]:
    """Split ``total`` into whole parts in proportion to ``weights`` (largest remainder).

    No part is below ``at_least``; what that takes is taken off the total first where the
    proportional share is smaller.
    """
    exact = total * weights / weights.sum()
    parts = np.maximum(np.floor(exact).astype(np.int64), at_least)
    while parts.sum() < total:
        parts[int(np.argmax(exact - parts))] += 1
    while parts.sum() > total:
        parts[int(np.argmax(np.where(parts > at_least, parts - exact, -np.inf)))] -= 1
    return parts
