"""Packed folders made in no time: all an index needs, with payloads of two bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_shards.index import ShardIndex, open_index
from data_shards.sample import EncodedSample
from data_shards.writer import write_shards

SHEMO = {"A": 1059, "N": 1028, "S": 449, "W": 225, "H": 201, "F": 38}
"""ShEMO's class counts."""


def fake(key: str, label: str = "a", speaker: str = "", **groups: str) -> EncodedSample:
    """A sample whose payload is an empty JSON object."""
    return EncodedSample(key, label, speaker, groups, 1, {"json": b"{}"})


def tiny_index(
    out: Path,
    keys: Sequence[str],
    labels: Sequence[str],
    speakers: Sequence[str] | None = None,
    parts: Sequence[str] | None = None,
    samples_per_shard: int = 1000,
) -> ShardIndex:
    """An index of fake samples, in the order given; ``parts`` fill the group source_split."""
    out.mkdir()
    samples = (
        fake(
            key,
            labels[n],
            speakers[n] if speakers else "",
            **({"source_split": parts[n]} if parts else {}),
        )
        for n, key in enumerate(keys)
    )
    write_shards(
        samples,
        out,
        corpus="tiny",
        kind="text",
        synthetic=True,
        samples_per_shard=samples_per_shard,
        settings={},
    )
    return open_index(out)


def shemo_like(out: Path, seed: int = 0) -> ShardIndex:
    """3000 fake samples with ShEMO's class counts, in a random order; 87 speakers who speak
    unequally often and have emotions of their own, as in ShEMO."""
    rng = np.random.Generator(np.random.PCG64(seed))
    labels = np.repeat(list(SHEMO), list(SHEMO.values()))
    speakers = np.empty(len(labels), object)
    for label in SHEMO:
        rows = np.flatnonzero(labels == label)
        drawn = rng.choice(87, len(rows), p=rng.dirichlet(np.full(87, 0.8)))
        speakers[rows] = [f"{'M' if n > 30 else 'F'}{n:02d}" for n in drawn]
    order = rng.permutation(len(labels))
    keys = [f"clip-{n:04d}" for n in range(len(labels))]
    return tiny_index(out, keys, labels[order].tolist(), speakers[order].tolist())
