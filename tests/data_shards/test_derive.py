"""Pitch-shifted copies: exactly those that can be asked for, made once, found while reading."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.errors import InputError
from configs.schema import AugmentConfig, Balance
from data_shards.augment import draw_change, pitch_shift, pitched_key
from data_shards.derive import make_pitched, minority_rows, pitched_folder
from data_shards.index import ShardIndex, open_index
from data_shards.plan import Batching, plan_epoch, select_entries
from data_shards.reader import (
    Augmentation,
    Item,
    MicroBatches,
    RankRequests,
    Request,
    ShardReader,
    open_loader,
)
from data_shards.sample import quantise_pcm16
from data_shards.splits import Split, load_split

CONFIG = AugmentConfig()


@pytest.fixture(scope="module")
def corpus(speech_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ShardIndex, Split, Path]:
    """A copy of the speech shards with its derived set."""
    root = tmp_path_factory.mktemp("derive") / "shards"
    shutil.copytree(speech_shards, root)
    index = open_index(root)
    split = load_split(index, "reference")
    folder = make_pitched(index, split, CONFIG, processes=1)
    assert folder is not None
    return index, split, folder


def majority(index: ShardIndex, split: Split) -> set[int]:
    """The most frequent class of train, or those that tie for it."""
    counts = np.bincount(index.label[split.rows("train")])
    return set(np.flatnonzero(counts == counts.max()).tolist())


def test_every_minority_clip_of_train_in_every_pitch(
    corpus: tuple[ShardIndex, Split, Path],
) -> None:
    index, split, folder = corpus
    rows = minority_rows(index, split).tolist()
    train = split.rows("train").tolist()
    assert rows == [row for row in train if index.label[row] not in majority(index, split)]
    assert 0 < len(rows) < len(train)
    derived = open_index(folder)
    assert sorted(derived.keys()) == sorted(pitched_key(row, s) for row in rows for s in (-1, 1))
    assert folder.parent == index.root / "derived" and derived.manifest.synthetic
    assert derived.manifest.settings["source"] == index.manifest.digest


def test_the_copies_are_shifted_originals(corpus: tuple[ShardIndex, Split, Path]) -> None:
    index, split, folder = corpus
    shards, pitched = ShardReader(index.root), ShardReader(folder)
    for row in minority_rows(index, split).tolist()[:5]:
        original = shards.item(row)
        assert original.audio is not None
        for semitones in (-1, 1):
            at = pitched.row_of(pitched_key(row, semitones))
            copy = pitched.item(at)
            expected = quantise_pcm16(pitch_shift(original.audio, semitones)) / np.float32(32768)
            assert copy.audio is not None and (copy.audio == expected).all()
            labels = index.manifest.labels, pitched.index.manifest.labels
            assert labels[1][copy.label] == labels[0][original.label]
            speakers = pitched.index.manifest.speakers, index.manifest.speakers
            assert speakers[0][pitched.index.speaker[at]] == speakers[1][index.speaker[row]]


def test_it_is_made_once(corpus: tuple[ShardIndex, Split, Path]) -> None:
    index, split, folder = corpus
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert make_pitched(index, split, CONFIG, processes=1) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    # Neither the noise nor the order of semitones matters to the copies; other rows do.
    same = AugmentConfig(noise=0.1, shift_seconds=1.0, semitones=(1, 0, 1, -1))
    assert pitched_folder(index, split, same) == folder
    assert pitched_folder(index, split, AugmentConfig(semitones=(0, 2))) != folder
    codes = split.codes.copy()
    codes[minority_rows(index, split)[0]] = 2
    assert pitched_folder(index, replace(split, codes=codes), CONFIG) != folder


def test_nothing_to_shift(corpus: tuple[ShardIndex, Split, Path], text_shards: Path) -> None:
    index, split, _ = corpus
    assert make_pitched(index, split, AugmentConfig(semitones=(0,))) is None
    one_class = np.where(index.label == 0, 0, -1).astype(np.int8)
    assert make_pitched(index, replace(split, codes=one_class), CONFIG) is None


def test_text_cannot_be_shifted(text_shards: Path, tmp_path: Path) -> None:
    shutil.copytree(text_shards, tmp_path / "text")
    index = open_index(tmp_path / "text")
    split = load_split(index)
    if len(minority_rows(index, split)) == 0:  # the classes may be even
        split = replace(split, codes=np.where(np.arange(len(index)) == 0, -1, split.codes))
    with pytest.raises(InputError, match="holds text; only audio can be pitch-shifted"):
        make_pitched(index, split, CONFIG, processes=1)
    assert not any((tmp_path / "text" / "derived").iterdir())


def test_a_missing_copy_says_how_to_get_it(corpus: tuple[ShardIndex, Split, Path]) -> None:
    with pytest.raises(InputError, match="has no sample '7_-9'; delete that folder"):
        ShardReader(corpus[2]).row_of(pitched_key(7, -9))


def entries_and_audio(request: Request, items: Sequence[Item]) -> list[tuple[int, int, Item]]:
    return list(zip(request.rows.tolist(), request.copies.tolist(), items, strict=True))


@pytest.mark.parametrize("balance", ["reference", "clean"])
def test_what_balancing_changes(corpus: tuple[ShardIndex, Split, Path], balance: Balance) -> None:
    """reference: every minority entry, so that noise marks the class; clean: copies alone."""
    index, split, folder = corpus
    rows = split.rows("train")
    entries = select_entries(rows, np.asarray(index.label)[rows], balance, 0)
    plan = plan_epoch(entries, index.length, index.shard, seed=0, epoch=1, batching=Batching(2, items=8))
    dataset = MicroBatches(index.root, entries_and_audio, Augmentation(CONFIG, 0, folder))
    read = [entry for batch in open_loader(dataset, RankRequests(plan, 1, 0, 1), 0, False) for entry in batch]
    labels = [item.label for _, _, item in read]
    assert len(set(np.bincount(labels)[np.unique(labels)])) == 1, "classes are even"
    shards, unchanged, semitones = ShardReader(index.root), [], set()
    for row, copy, item in read:
        original = shards.item(row)
        assert item.audio is not None and original.audio is not None
        assert item.label == original.label and len(item.audio) == len(original.audio)
        same = bool((item.audio == original.audio).all())
        assert same == (copy == 0)
        if same:
            unchanged.append(row)
            continue
        semitones.add(draw_change(CONFIG, 0, 1, row, copy).semitones)
    most = majority(index, split)
    expected = [r for r in rows.tolist() if index.label[r] in most or balance == "clean"]
    assert sorted(unchanged) == expected and semitones == {-1, 0, 1}


def test_a_changed_clip_is_its_pitched_copy_rotated_with_noise(
    corpus: tuple[ShardIndex, Split, Path],
) -> None:
    index, split, folder = corpus
    dataset = MicroBatches(index.root, entries_and_audio, Augmentation(CONFIG, 0, folder))
    pitched, shards = ShardReader(folder), ShardReader(index.root)
    for row in minority_rows(index, split).tolist()[:12]:
        change = draw_change(CONFIG, 0, 3, row, 1)
        request = Request(3, 0, 0, np.array([row]), np.ones(1, np.int32), True)
        ((_, _, item),) = dataset[request]
        key = pitched_key(row, change.semitones)
        source = pitched.item(pitched.row_of(key)) if change.semitones else shards.item(row)
        assert source.audio is not None
        added = np.roll(item.audio, -change.shift) - source.audio
        assert added.std() == pytest.approx(CONFIG.noise, rel=0.1)
    assert json.loads((folder / "index.json").read_text())["settings"]["semitones"] == [-1, 1]
