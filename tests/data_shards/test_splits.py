"""Split tables: written beside the shards, read back, refused where they do not belong."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from configs.errors import InputError
from data_shards.index import ShardIndex
from data_shards.splits import (
    Split,
    check_classes,
    load_split,
    save_split,
    speaker_counts,
    speaker_overlap,
    split_names,
)
from tests.data_shards.tiny import tiny_index

LABELS = ["x", "y", "x", "y", "x", "y", "x"]
SPEAKERS = ["a", "a", "b", "b", "c", "c", ""]


@pytest.fixture
def index(tmp_path: Path) -> ShardIndex:
    """Seven samples of two labels and three speakers."""
    return tiny_index(tmp_path / "shards", [f"k{n}" for n in range(7)], LABELS, SPEAKERS)


def split_of(codes: list[int], name: str = "mine") -> Split:
    return Split(name, np.array(codes, np.int8), "by hand", seed=3, notes={"left out": 1})


def test_what_is_saved_is_loaded(index: ShardIndex) -> None:
    saved = split_of([0, 0, 1, 1, 2, 2, -1])
    save_split(index, saved)
    loaded = load_split(index, "mine")
    assert loaded.codes.tolist() == saved.codes.tolist()
    assert (loaded.name, loaded.protocol, loaded.seed) == ("mine", "by hand", 3)
    assert loaded.notes == {"left out": 1} and loaded.names == ("train", "validation", "test")
    assert [loaded.rows(part).tolist() for part in loaded.names] == [[0, 1], [2, 3], [4, 5]]
    document = json.loads((index.root / "splits" / "mine.json").read_text())
    assert document["counts"] == {"train": 2, "validation": 2, "test": 2}


def test_a_split_replaces_one_of_the_same_name(index: ShardIndex) -> None:
    save_split(index, split_of([0, 0, 1, 1, 2, 2, -1]))
    save_split(index, split_of([2, 2, 1, 1, 0, 0, 0]))
    assert load_split(index).rows("train").tolist() == [4, 5, 6]
    assert sorted(p.name for p in (index.root / "splits").iterdir()) == ["mine.json", "mine.npy"]


def test_the_preferred_split_comes_first(index: ShardIndex) -> None:
    for name in ("another", "reference", "speaker"):
        save_split(index, split_of([0, 0, 1, 1, 2, 2, 0], name))
    assert split_names(index.root) == ["speaker", "reference", "another"]
    assert load_split(index).name == "speaker"


def test_missing_and_unknown_splits(index: ShardIndex) -> None:
    for kind, speakers, protocol in (
        ("audio", ("a", "b", "c"), "speaker"),
        ("audio", (), "reference"),
        ("text", (), "reference"),
        ("prose", (), "heldout"),
    ):
        manifest = dataclasses.replace(index.manifest, kind=kind, speakers=speakers)
        told = f"has no split; make one with `sokhan split {index.root} {protocol}`"
        with pytest.raises(InputError, match=re.escape(told)):
            load_split(dataclasses.replace(index, manifest=manifest))
    save_split(index, split_of([0] * 7))
    with pytest.raises(InputError, match="has no split 'yours'; there are mine"):
        load_split(index, "yours")
    for name in ("", "a/b", "../x", "a b", "x" * 65):
        with pytest.raises(InputError, match="split name"):
            save_split(index, split_of([0] * 7, name))


def test_a_split_of_other_shards_is_refused(index: ShardIndex, tmp_path: Path) -> None:
    other = tiny_index(tmp_path / "other", [f"j{n}" for n in range(7)], LABELS)
    save_split(other, split_of([0] * 7))
    (other.root / "splits").rename(index.root / "splits")
    with pytest.raises(InputError, match=r"mine.json: made for other shards"):
        load_split(index, "mine")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:30])


def edit(path: Path) -> None:
    document = json.loads(path.read_text())
    del document["index"]
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("file", "damage"),
    [("mine.npy", Path.unlink), ("mine.npy", cut), ("mine.json", cut), ("mine.json", edit)],
)
def test_a_damaged_split_is_one_line(index: ShardIndex, file: str, damage: Callable[[Path], None]) -> None:
    save_split(index, split_of([0] * 7))
    damage(index.root / "splits" / file)
    with pytest.raises(InputError, match=r"mine.json: damaged \(.*make it again") as caught:
        load_split(index, "mine")
    assert len(str(caught.value).splitlines()) == 1


def test_every_part_needs_every_class(index: ShardIndex) -> None:
    check_classes(index, split_of([0, 0, 1, 1, 2, 2, -1]))
    lacking = split_of([0, 0, 1, -1, 2, 2, 1])
    with pytest.raises(InputError, match="'mine': its validation part has no sample of class 'y'"):
        check_classes(index, lacking)
    check_classes(index, lacking, ("train", "test"))
    with pytest.raises(InputError, match="'mine': its test part is empty"):
        check_classes(index, split_of([0, 0, 1, 1, 0, 0, 0]))


def test_shared_speakers_are_counted_and_unknown_ones_are_not(index: ShardIndex) -> None:
    split = split_of([0, 1, 0, 2, 2, 2, 0])
    overlap = speaker_overlap(index, split)
    assert overlap == {"train/validation": 1, "train/test": 1, "validation/test": 0}
    known = {p: {s for s in index.speaker[split.rows(p)].tolist() if s >= 0} for p in split.names}
    assert speaker_counts(index, split) == {part: len(own) for part, own in known.items()}
    unknown = speaker_overlap(index, split_of([0, 0, 1, 1, 2, 2, 0]))
    assert set(unknown.values()) == {0}
