"""Split tables beside the shards: which part (train, validation, test) each sample belongs to.

A split is ``splits/<name>.npy`` (one small integer a sample, in index order) and
``splits/<name>.json``, written last. Shards hold each sample once, whatever the number of splits.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.errors import InputError
from data_shards.index import ShardIndex

PARTS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
UNUSED = -1
# What a run takes when its recipe names no split.
_PREFERENCE = ("official", "speaker", "heldout", "reference")


@dataclass(frozen=True)
class Split:
    """One division of a corpus."""

    name: str
    codes: NDArray[np.int8]
    """(samples,) position in ``names``; -1: not used."""
    protocol: str
    """How it was made, in words."""
    names: tuple[str, ...] = PARTS
    seed: int | None = None
    notes: dict[str, int] = field(default_factory=dict)

    def rows(self, part: str) -> NDArray[np.int64]:
        """Index rows of one part, in shard order."""
        return np.flatnonzero(self.codes == self.names.index(part)).astype(np.int64)


def save_split(index: ShardIndex, split: Split) -> None:
    """Write a split table; an older one of the same name is replaced."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", split.name):
        raise InputError(f"split name {split.name!r}: use letters, digits, '.', '_' and '-'")
    folder = index.root / "splits"
    folder.mkdir(exist_ok=True)
    manifest = {
        "name": split.name,
        "names": split.names,
        "protocol": split.protocol,
        "seed": split.seed,
        "notes": split.notes,
        "index": index.manifest.digest,
        "counts": {part: int((split.codes == n).sum()) for n, part in enumerate(split.names)},
    }
    (folder / f"{split.name}.json").unlink(missing_ok=True)
    np.save(folder / f"{split.name}.npy", split.codes)
    partial = folder / f"{split.name}.json.partial"
    partial.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(folder / f"{split.name}.json")


def saved_split(index: ShardIndex, name: str) -> Split | None:
    """The table of that name; None if there is none that counts: damaged, or made for other shards."""
    try:
        return load_split(index, name) if name in split_names(index.root) else None
    except InputError:
        return None


def split_names(root: Path) -> list[str]:
    """Names of all splits of a shard folder, the preferred one first."""
    names = sorted(p.stem for p in (root / "splits").glob("*.json"))
    preferred = [name for name in _PREFERENCE if name in names]
    return preferred + [name for name in names if name not in preferred]


def load_split(index: ShardIndex, name: str = "") -> Split:
    """Read a split; an empty name means the preferred one (official, speaker, heldout, reference)."""
    names = split_names(index.root)
    if not names:
        made = "speaker" if index.manifest.speakers else "reference"
        made = "heldout" if index.manifest.kind == "prose" else made
        raise InputError(f"{index.root}: has no split; make one with `sokhan split {index.root} {made}`")
    name = name or names[0]
    if name not in names:
        raise InputError(f"{index.root}: has no split {name!r}; there are {', '.join(names)}")
    path = index.root / "splits" / f"{name}.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        codes = np.load(path.with_suffix(".npy"))
        belongs = document["index"] == index.manifest.digest and len(codes) == len(index)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: damaged ({error}); make it again with `sokhan split`") from None
    if not belongs:
        raise InputError(f"{path}: made for other shards; make it again with `sokhan split`")
    return Split(
        name,
        codes,
        document["protocol"],
        tuple(document["names"]),
        document["seed"],
        document["notes"],
    )


def table_digest(root: Path, name: str) -> str:
    """SHA-256 of a split's table; empty where there is none."""
    path = root / "splits" / f"{name}.npy"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def check_classes(index: ShardIndex, split: Split, parts: tuple[str, ...] = PARTS) -> None:
    """Raise InputError if a part is empty or lacks one of the corpus's classes."""
    for part in parts:
        rows = split.rows(part)
        if len(rows) == 0:
            raise InputError(f"split {split.name!r}: its {part} part is empty; choose another protocol")
        present = label_counts(index, split, part).tolist()
        for label, count in zip(index.manifest.labels, present, strict=True):
            if count == 0:
                all_of_it = int(np.count_nonzero(index.label == index.manifest.labels.index(label)))
                raise InputError(
                    f"split {split.name!r}: its {part} part has no sample of class {label!r} (the corpus "
                    f"has {all_of_it}: is the label right?); choose another protocol, seed or number of "
                    "folds, or make it with --allow-empty-class"
                )


def label_counts(index: ShardIndex, split: Split, part: str) -> NDArray[np.int64]:
    """(labels,) samples of each label in a part."""
    return np.bincount(index.label[split.rows(part)], minlength=len(index.manifest.labels))


def speaker_overlap(index: ShardIndex, split: Split) -> dict[str, int]:
    """Speakers that two parts share: {"train/test": 83, ...}, known speakers only."""
    speakers = _speakers(index, split)
    pairs = [(a, b) for n, a in enumerate(split.names) for b in split.names[n + 1 :]]
    return {f"{a}/{b}": len(speakers[a] & speakers[b]) for a, b in pairs}


def speaker_counts(index: ShardIndex, split: Split) -> dict[str, int]:
    """Known speakers of each part: of so many ``speaker_overlap`` is a share."""
    return {part: len(speakers) for part, speakers in _speakers(index, split).items()}


def _speakers(index: ShardIndex, split: Split) -> dict[str, set[int]]:
    return {p: set(index.speaker[split.rows(p)].tolist()) - {-1} for p in split.names}
