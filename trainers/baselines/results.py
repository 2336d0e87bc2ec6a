"""All baselines that fit a corpus, scored on one split and written where runs lie.

``<out>/<baseline>/`` holds ``metrics.json`` and ``predictions-test.csv``; ``<out>/baselines.json``,
written last, holds them all and which shards and split they are of.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import InputError
from configs.files import write_json
from data_shards.index import ShardIndex, open_index
from data_shards.reader import ShardReader
from data_shards.splits import PARTS, Split, load_split
from trainers.baselines.baseline import EVALUATED, Baseline, LeftOut, Parts, majority, parts_of
from trainers.baselines.functionals import functionals
from trainers.baselines.speech import functionals_baselines, speaker_majority
from trainers.baselines.text import Pair, text_baselines
from trainers.files.disk import writing
from trainers.metrics import SplitMetrics, class_metrics
from trainers.predictions import write_predictions
from trainers.subsets import subset_scores

SUMMARY = "baselines.json"
VERSION = 2
"""Changes when the same shards and split give other results: what is kept is made anew then."""


@dataclass(frozen=True)
class Result:
    """One baseline's scores."""

    baseline: Baseline
    splits: dict[str, SplitMetrics]
    """Of validation and test."""
    subsets: dict[str, dict[str, float]]
    """Of test, by the columns of the index."""
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        own = self.baseline
        return {
            "name": own.name,
            "title": own.title,
            "what": own.what,
            "settings": own.settings,
            "seconds": round(self.seconds, 3),
            "splits": {part: metrics.as_dict() for part, metrics in self.splits.items()},
            "subsets": self.subsets,
        }


@dataclass(frozen=True)
class Baselines:
    """All that fit a corpus."""

    corpus: str
    digest: str
    """Of the index."""
    split: str
    seconds: float
    results: tuple[Result, ...]
    folder: Path
    left_out: tuple[str, ...] = ()
    """One line for each baseline that the corpus cannot have."""


def run_baselines(shards: Path, split: str = "", out: Path | None = None) -> Baselines:
    """Fit and score them on one split (empty: the preferred one), and write the results.

    ``out`` is by default ``baselines_folder`` in ``runs/baselines``. The same shards and split give the
    same results, times aside. Raises InputError for what is no packed corpus, an unknown split, an empty
    part, a class that train lacks, a train part of one class, and a folder that cannot be written.
    """
    start = time.perf_counter()
    index = open_index(shards)
    if not index.manifest.labels:
        raise InputError(f"{shards}: holds no labels, so there is nothing to classify")
    table = load_split(index, split)
    parts = parts_of(index, table)
    digest, corpus = index.manifest.digest, index.manifest.corpus
    folder = out or baselines_folder(Path("runs") / "baselines", corpus, table.name, digest)
    with writing(folder):
        # An older summary must not stand over results of which some are new.
        (folder / SUMMARY).unlink(missing_ok=True)
    results = []
    left_out = []
    lap = start
    for baseline in _fitted(index, parts):
        if isinstance(baseline, LeftOut):
            left_out.append(str(baseline))
            continue
        result = _scored(index, parts, baseline, lap)
        lap = time.perf_counter()
        with writing(folder):
            _write(folder / baseline.name, index, parts, result)
        results.append(result)
    seconds = time.perf_counter() - start
    found = Baselines(corpus, digest, table.name, seconds, tuple(results), folder, tuple(left_out))
    summary = {
        "version": VERSION,
        "corpus": corpus,
        "digest": digest,
        "split": table.name,
        "parts": part_digests(table),
        "labels": list(index.manifest.labels),
        "seconds": round(seconds, 3),
        "baselines": [result.as_dict() for result in results],
        "left_out": left_out,
    }
    with writing(folder):
        write_json(folder / SUMMARY, summary)
    return found


def baselines_folder(folder: Path, corpus: str, split: str, digest: str) -> Path:
    """Where the baselines of a corpus, as it was packed, and a split lie: packings of one corpus, such as
    with and without stop words, differ in the digest of their index."""
    return folder / f"{corpus}-{split}-{digest[:8]}"


def part_digests(split: Split) -> dict[str, str]:
    """Part -> digest of its rows: a split made again under the same name has other ones."""
    return {part: hashlib.sha256(split.rows(part).astype("<i8").tobytes()).hexdigest()[:16] for part in PARTS}


def _fitted(index: ShardIndex, parts: Parts) -> Iterator[Baseline | LeftOut]:
    yield majority(parts)
    if index.manifest.kind == "text":
        yield from text_baselines(_pairs(index, parts), parts)
        return
    speakers = np.asarray(index.speaker)
    if (speakers >= 0).any():
        yield speaker_majority(speakers, parts)
    yield from functionals_baselines(functionals(index), parts)


def _pairs(index: ShardIndex, parts: Parts) -> dict[str, list[Pair]]:
    """Texts in the form that recipes read by default."""
    shards = ShardReader(index.root)
    pairs: dict[str, list[Pair]] = {}
    for part, rows in parts.rows.items():
        texts = [shards.item(row).text for row in rows.tolist()]
        pairs[part] = [(t.premise_processed, t.hypothesis_processed) for t in texts if t]
    return pairs


def _scored(index: ShardIndex, parts: Parts, baseline: Baseline, since: float) -> Result:
    labels = index.manifest.labels
    splits = {}
    for part in EVALUATED:
        predicted = baseline.probabilities[part].argmax(1)
        splits[part] = class_metrics(parts.codes[part], predicted, labels, _losses(parts, baseline, part))
    test = baseline.probabilities["test"].argmax(1)
    subsets = subset_scores(index, parts.rows["test"], parts.codes["test"], test, labels)
    return Result(baseline, splits, subsets, time.perf_counter() - since)


def _losses(parts: Parts, baseline: Baseline, part: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    own = baseline.probabilities[part]
    right = own[np.arange(len(own)), parts.codes[part]]
    return np.asarray(-np.log(np.maximum(right, 1e-12)))


def _write(folder: Path, index: ShardIndex, parts: Parts, result: Result) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    keys = [index.key(row) for row in parts.rows["test"].tolist()]
    write_predictions(
        folder / "predictions-test.csv",
        keys,
        index.manifest.labels,
        parts.codes["test"],
        _losses(parts, result.baseline, "test"),
        result.baseline.probabilities["test"],
    )
    write_json(folder / "metrics.json", result.as_dict())
