"""The ways to divide a corpus: the reference report's, by speaker, the corpus's own, EmoBox's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.errors import InputError
from data_shards.index import ShardIndex
from data_shards.plan import permutation, random_keys
from data_shards.splits import PARTS, TEST, TRAIN, UNUSED, VALIDATION, Split


def reference_split(index: ShardIndex, seed: int = 0, name: str = "reference") -> Split:
    """The reference report's: stratified by label, 20 % for test, the rest in halves.

    Speakers occur in several parts, so scores are those of a speaker-dependent system.
    """
    codes = np.full(len(index), TRAIN, np.int8)
    labels = np.asarray(index.label)
    codes = _draw_stratified(codes, labels, TRAIN, TEST, 0.2, seed)
    codes = _draw_stratified(codes, labels, TRAIN, VALIDATION, 0.5, seed + 1)
    protocol = "stratified by label: 20 % test, the rest in halves; speakers occur in several parts"
    return Split(name, codes, protocol, seed=seed)


def apportion(counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Share ``total`` over classes in proportion to ``counts``, by largest remainder.

    Equal remainders are drawn by lot, as scikit-learn's stratified splitting does, but from a
    constant seed: numpy.random.RandomState's stream is frozen, so class counts change neither with
    the split's seed nor with a library's version. With 0 they are the reference report's on ShEMO.
    """
    ties = np.random.RandomState(0)
    exact = counts / counts.sum() * total
    share = np.floor(exact).astype(np.int64)
    missing = total - int(share.sum())
    remainder = exact - share
    for value in np.sort(np.unique(remainder))[::-1]:
        if missing <= 0:
            break
        tied = np.flatnonzero(remainder == value)
        lucky = ties.choice(tied, size=min(len(tied), missing), replace=False)
        share[lucky] += 1
        missing -= len(lucky)
    return share


def _draw_stratified(
    codes: NDArray[np.int8],
    labels: NDArray[np.int16],
    source: int,
    target: int,
    share: float,
    seed: int,
) -> NDArray[np.int8]:
    """Move ``share`` of the rows coded ``source`` to ``target``, class by class."""
    codes = codes.copy()
    rows = np.flatnonzero(codes == source)
    classes, counts = np.unique(labels[rows], return_counts=True)
    moved = int(np.ceil(len(rows) * share))
    kept = apportion(counts, len(rows) - moved)
    for label, count, keep in zip(classes.tolist(), counts.tolist(), kept.tolist(), strict=True):
        members = rows[labels[rows] == label]
        codes[members[permutation(count, seed, 10, label)[: count - keep]]] = target
    return codes


def speaker_splits(index: ShardIndex, seed: int = 0, folds: int = 1, name: str = "speaker") -> list[Split]:
    """No speaker in two parts, labels as even as speakers allow.

    ``folds`` = k >= 3: k splits; the test part of split i is fold i, its validation part fold i+1.
    One split (the default) is the first of five.
    """
    if folds != 1 and folds < 3:
        raise InputError(f"--folds {folds}: use 1 (a single split) or at least 3")
    speakers = np.asarray(index.speaker)
    if (speakers < 0).any():
        row = int(np.flatnonzero(speakers < 0)[0])
        raise InputError(
            f"{index.root}: sample {index.key(row)!r} has no speaker, so no speaker split can be "
            "made; give the manifest a speaker column, or use the reference protocol"
        )
    number = len(np.unique(speakers))
    parts = folds if folds > 1 else min(5, number)
    if number < max(parts, 3):
        raise InputError(f"{index.root}: {number} speaker(s) are too few for {max(parts, 3)} disjoint parts")
    fold_of = _best_folds(np.asarray(index.label), speakers, parts, seed)
    splits = []
    for fold in range(folds):
        codes = np.full(len(index), TRAIN, np.int8)
        codes[fold_of == fold] = TEST
        codes[fold_of == (fold + 1) % parts] = VALIDATION
        own_name = name if folds == 1 else f"{name}{folds}-fold{fold + 1}"
        protocol = f"speaker-disjoint, stratified: fold {fold + 1} of {parts} tests, the next validates"
        splits.append(Split(own_name, codes, protocol, seed=seed))
    return splits


def _best_folds(
    labels: NDArray[np.int16], speakers: NDArray[np.int32], folds: int, seed: int
) -> NDArray[np.int64]:
    """(samples,) fold of each sample: the evenest of up to 50 greedy divisions of the speakers."""
    _, speaker_of = np.unique(speakers, return_inverse=True)
    _, class_of = np.unique(labels, return_inverse=True)
    counts = np.zeros((speaker_of.max() + 1, class_of.max() + 2))
    np.add.at(counts, (speaker_of, class_of), 1)
    counts[:, -1] = counts.sum(1)  # the number of samples counts like one more class
    weights = counts / counts.sum(0)
    best, best_score = np.zeros(len(counts), np.int64), np.inf
    for attempt in range(max(1, min(50, 100_000 // len(counts)))):
        fold_of, shares = _divide(weights, folds, random_keys(len(counts), seed, 11, attempt))
        # An absent class costs more than any unevenness.
        score = float(((shares - 1 / folds) ** 2).sum() + 10 * (shares == 0).sum())
        if score < best_score:
            best, best_score = fold_of, score
    return best[speaker_of]


def _divide(
    weights: NDArray[np.float64], folds: int, keys: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Deal speakers, large ones first, to the folds that have least of what they bring.

    ``weights``: (speakers, classes) share of each class's samples; ``keys`` shuffle speakers whose
    sizes are within a factor of two. Returns (speakers,) folds and (folds, classes) shares.
    """
    jitter = 1 - keys / 2.0**65
    shares = np.zeros((folds, weights.shape[1]))
    fold_of = np.zeros(len(weights), np.int64)
    for speaker in np.argsort(-weights.max(1) * jitter, kind="stable").tolist():
        fold = int((shares * weights[speaker]).sum(1).argmin())
        fold_of[speaker] = fold
        shares[fold] += weights[speaker]
    return fold_of, shares


def official_split(index: ShardIndex, seed: int = 0, name: str = "official") -> Split:
    """The corpus's own parts (FarsTail's files, a manifest's split column). A corpus without a
    validation part gets one: 20 % of train, stratified."""
    values = index.manifest.groups.get("source_split")
    if values is None:
        raise InputError(f"{index.root}: the corpus has no split of its own; use reference or speaker")
    table = np.array([PARTS.index(v) if v in PARTS else UNUSED for v in values], np.int8)
    codes = table[index.group("source_split")]
    return _with_validation(index, Split(name, codes, "the corpus's own"), seed)


def _with_validation(index: ShardIndex, split: Split, seed: int) -> Split:
    """The split itself, or, where it has no validation part, one with 20 % of train for it."""
    if (split.codes == VALIDATION).any():
        return split
    codes = _draw_stratified(split.codes, np.asarray(index.label), TRAIN, VALIDATION, 0.2, seed)
    protocol = f"{split.protocol}, 20 % of train for validation"
    return replace(split, codes=codes, protocol=protocol, seed=seed)


def heldout_split(index: ShardIndex, seed: int = 0, name: str = "heldout") -> Split:
    """For text without classes: all but 1 % of the samples for validation and 1 % for test, at least
    one and at most 2000 each, drawn at random."""
    held = min(2000, max(1, len(index) // 100))
    codes = np.full(len(index), TRAIN, np.int8)
    drawn = permutation(len(index), seed, 12)
    codes[drawn[:held]] = TEST
    codes[drawn[held : 2 * held]] = VALIDATION
    return Split(name, codes, f"drawn at random: {held} for validation and for test", seed=seed)


def emobox_split(index: ShardIndex, files: Sequence[Path], seed: int = 0, name: str = "emobox") -> Split:
    """EmoBox's lists (one JSON object a line, ``key`` = corpus-name): train and test, or with a
    validation list of its own. Without one, 20 % of the train list, stratified, are drawn for it.

    Raises InputError for unreadable lines, keys in two parts and lists that match no sample.
    """
    row_of = {key: row for row, key in enumerate(index.keys())}
    codes = np.full(len(index), UNUSED, np.int8)
    missing = 0
    for path in files:
        part = _part_of(path)
        for number, key in _emobox_keys(path):
            row = row_of.get(key, row_of.get(key.partition("-")[2]))
            if row is None:
                missing += 1
            elif codes[row] not in (UNUSED, part):
                raise InputError(f"{path}: line {number}: {key!r} is in two parts")
            else:
                codes[row] = part
    if (codes == UNUSED).all():
        raise InputError(f"{files[0]}: none of its keys is in {index.root}; is it the same corpus?")
    notes = {
        "keys without a sample": missing,
        "samples without a key": int((codes == UNUSED).sum()),
    }
    split = Split(name, codes, "EmoBox's lists", seed=seed, notes=notes)
    return _with_validation(index, split, seed)


def _part_of(path: Path) -> int:
    for word, part in (
        ("train", TRAIN),
        ("valid", VALIDATION),
        ("dev", VALIDATION),
        ("test", TEST),
    ):
        if word in path.name.lower():
            return part
    raise InputError(f"{path}: the name must contain train, valid, dev or test")


def _emobox_keys(path: Path) -> list[tuple[int, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable: {error}") from None
    keys = []
    for number, line in enumerate(lines, 1):
        try:
            keys.append((number, str(json.loads(line)["key"])))
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path}: line {number} is no JSON object with a key") from None
    return keys
