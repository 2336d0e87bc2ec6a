"""Corpora of any size for the benchmarks, and how their samples are put into batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.errors import InputError
from data_shards.corpora.corpus import Corpus
from data_shards.corpora.synthetic_speech import synthetic_shemo
from data_shards.pack import PackSettings, pack
from data_shards.reader import Item, Request
from data_shards.sample import Sample, TextPair

WORDS = "این آن کتاب خانه شهر مرد زن کودک رفت آمد بزرگ کوچک سیاه سفید امروز دیروز".split()


def text_corpus(rows: int) -> Corpus:
    """``rows`` short pairs made from their numbers, so that listing them takes no memory."""
    return Corpus("pairs", "text", True, range(rows), load_pair, pair_key, settings={})


def load_pair(number: int) -> Sample:
    """A pair of 6 to 21 words."""
    words = [WORDS[number * 7 % 16 - n % 5] for n in range(6 + number % 16)]
    premise, hypothesis = " ".join(words[:-3]), " ".join(words[-3:])
    return Sample(
        pair_key(number),
        "cen"[number % 3],
        text=TextPair(premise, hypothesis, premise, hypothesis),
        groups={"source_split": "test" if number % 10 == 0 else "train"},
    )


def inference_corpus(rows: int) -> Corpus:
    """``rows`` pairs whose lengths spread like those of FarsTail's training part."""
    return Corpus("inference", "text", True, range(rows), load_long_pair, pair_key, settings={})


def load_long_pair(number: int) -> Sample:
    """A pair of 12 to 140 words, half of all below 48 and 95 % below 86 (FarsTail: 48 and 83)."""
    rng = np.random.Generator(np.random.PCG64(number))
    count = int(np.clip(48 * np.exp(0.35 * rng.standard_normal()), 12, 140))
    words = [WORDS[n] for n in rng.integers(0, len(WORDS), count)]
    cut = count * 7 // 10  # a premise is 2.6 times as long as its hypothesis
    premise, hypothesis = " ".join(words[:cut]), " ".join(words[cut:])
    text = TextPair(premise, hypothesis, premise, hypothesis)
    return Sample(pair_key(number), "cen"[number % 3], text=text)


def pair_key(number: int) -> str:
    """The key of a pair."""
    return f"pair-{number:09d}"


def packed(kind: str, samples: int, folder: Path, processes: int | None = None) -> Path:
    """A packed corpus of that size in ``folder``, made unless it is there: ``text``, ``inference`` or
    ``speech``."""
    out = folder / f"{kind}-{samples}"
    if not (out / "index.json").exists():
        made = {"text": text_corpus, "inference": inference_corpus}
        corpus = made[kind](samples) if kind in made else synthetic_shemo(samples, seed=1)
        pack(corpus, out, PackSettings(processes=processes, overwrite=out.exists()))
    return out


def pad(clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(clips, longest) with zeros behind the shorter ones."""
    batch = np.zeros((len(clips), max(map(len, clips))), np.float32)
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    return batch


def collate(request: Request, items: Sequence[Item]) -> tuple[NDArray[np.float32] | list[str], int]:
    """Clips padded, or pairs as joined texts; and how many there are."""
    clips = [item.audio for item in items if item.audio is not None]
    if clips:
        return pad(clips), len(items)
    pairs = [item.text for item in items if item.text is not None]
    if len(pairs) != len(items):
        raise InputError("a batch holds clips or pairs")
    return [f"{pair.premise} {pair.hypothesis}" for pair in pairs], len(items)
