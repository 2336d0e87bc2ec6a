"""The protocols: the reference report's supports, disjoint speakers, the corpus's and EmoBox's."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from configs.errors import InputError
from data_shards.index import ShardIndex
from data_shards.protocols import (
    apportion,
    emobox_split,
    official_split,
    reference_split,
    speaker_splits,
)
from data_shards.splits import TEST, TRAIN, UNUSED, VALIDATION, Split, speaker_overlap
from tests.data_shards.tiny import SHEMO, shemo_like, tiny_index

REFERENCE = {
    "train": {"A": 423, "N": 411, "S": 180, "F": 15, "W": 90, "H": 81},
    "validation": {"A": 424, "N": 411, "S": 179, "F": 16, "W": 90, "H": 80},
    "test": {"A": 212, "N": 206, "S": 90, "F": 7, "W": 45, "H": 40},
}


@pytest.fixture(scope="module", params=[0, 1])
def shemo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ShardIndex:
    """Samples with ShEMO's class counts, in two different orders."""
    return shemo_like(tmp_path_factory.mktemp("shemo") / "shards", request.param)


def supports(index: ShardIndex, split: Split) -> dict[str, dict[str, int]]:
    names = np.array(index.manifest.labels)
    return {p: dict(Counter(names[index.label[split.rows(p)]].tolist())) for p in split.names}


@pytest.mark.parametrize("seed", [0, 1, 2, 42, 12345])
def test_the_reference_split_has_the_reports_supports(shemo: ShardIndex, seed: int) -> None:
    split = reference_split(shemo, seed)
    assert supports(shemo, split) == REFERENCE
    assert (split.codes != UNUSED).all()


def test_the_reference_split_is_drawn_by_its_seed(shemo: ShardIndex) -> None:
    first, again, other = (reference_split(shemo, seed).codes for seed in (0, 0, 1))
    assert (first == again).all()
    # Two independent draws agree on .2*.2 + .4*.4 + .4*.4 = 36 % of the rows.
    assert 0.3 < (first == other).mean() < 0.42
    in_order = np.diff(np.flatnonzero(first == TEST))
    assert in_order.max() < 60, "drawn from the whole corpus, not from an end of it"


def test_shares_add_up_and_are_the_nearest() -> None:
    assert apportion(np.array([1, 1, 2]), 4).tolist() == [1, 1, 2]
    share = apportion(np.array([5, 5, 5]), 4)
    assert share.sum() == 4 and sorted(share.tolist()) == [1, 1, 2]
    exact = np.array(list(SHEMO.values())) * 0.2
    assert np.abs(apportion(np.array(list(SHEMO.values())), 600) - exact).max() < 1


@pytest.mark.parametrize("folds", [5, 10])
def test_speaker_folds(shemo: ShardIndex, folds: int) -> None:
    splits = speaker_splits(shemo, seed=3, folds=folds)
    assert [split.name for split in splits] == [f"speaker{folds}-fold{n}" for n in range(1, folds + 1)]
    for number, split in enumerate(splits):
        assert set(speaker_overlap(shemo, split).values()) == {0}
        assert (split.codes != UNUSED).all()
        following = splits[(number + 1) % folds]
        assert ((split.codes == VALIDATION) == (following.codes == TEST)).all()
    tested = sum((split.codes == TEST).astype(int) for split in splits)
    assert (np.asarray(tested) == 1).all(), "every sample is tested once over all folds"


def shares(index: ShardIndex, fold_of: np.ndarray, folds: int) -> np.ndarray:
    """(classes, folds) share of each class's samples that each fold has."""
    counts = np.zeros((len(index.manifest.labels), folds))
    np.add.at(counts, (np.asarray(index.label), fold_of), 1)
    return counts / counts.sum(1, keepdims=True)


def test_speaker_folds_are_stratified(shemo: ShardIndex) -> None:
    fold_of = np.zeros(len(shemo), int)
    for fold, split in enumerate(speaker_splits(shemo, seed=1, folds=5)):
        fold_of[split.codes == TEST] = fold
    ours = shares(shemo, fold_of, 5)
    rng = np.random.Generator(np.random.PCG64(0))
    speakers = np.asarray(shemo.speaker)
    drawn = [
        shares(shemo, rng.permutation(np.arange(speakers.max() + 1) % 5)[speakers], 5) for _ in range(50)
    ]
    uneven = [float(((one - 0.2) ** 2).sum()) for one in drawn]
    assert ((ours - 0.2) ** 2).sum() < min(uneven) and (ours > 0).all()
    assert np.abs(ours - 0.2).max() < 0.1
    frequent = [shemo.manifest.labels.index(label) for label in "ANS"]
    assert np.abs(ours[frequent] - 0.2).max() < 0.03


def test_one_speaker_split_is_the_first_of_five(shemo: ShardIndex) -> None:
    (single,) = speaker_splits(shemo, seed=3)
    first = speaker_splits(shemo, seed=3, folds=5)[0]
    assert single.name == "speaker" and (single.codes == first.codes).all()
    assert (single.codes == speaker_splits(shemo, seed=3)[0].codes).all()
    assert (single.codes != speaker_splits(shemo, seed=4)[0].codes).any()
    assert abs((single.codes == TRAIN).mean() - 0.6) < 0.05


def test_speaker_splits_need_speakers(tmp_path: Path) -> None:
    keys, labels = [f"k{n}" for n in range(8)], ["x", "y"] * 4
    unknown = tiny_index(tmp_path / "a", keys, labels, ["s1", "s2", "", "s3", "s4", "s1", "", ""])
    with pytest.raises(InputError, match="sample 'k2' has no speaker, so no speaker split"):
        speaker_splits(unknown)
    few = tiny_index(tmp_path / "b", keys, labels, ["s1", "s1", "s2", "s2"] * 2)
    with pytest.raises(InputError, match=r"2 speaker\(s\) are too few for 3 disjoint parts"):
        speaker_splits(few)
    three = tiny_index(tmp_path / "c", keys, labels, ["s1", "s1", "s2", "s2", "s3", "s3"] + ["s1"] * 2)
    apart = speaker_splits(three)[0]
    assert set(speaker_overlap(three, apart).values()) == {0}
    assert sorted(len(apart.rows(part)) for part in apart.names) == [2, 2, 4]
    with pytest.raises(InputError, match=r"3 speaker\(s\) are too few for 5 disjoint parts"):
        speaker_splits(three, folds=5)
    with pytest.raises(InputError, match="--folds 2: use 1 .* or at least 3"):
        speaker_splits(three, folds=2)


def test_speakers_of_one_label_each_still_fill_all_folds(tmp_path: Path) -> None:
    keys = [f"k{n}" for n in range(9)]
    index = tiny_index(tmp_path / "one", keys, ["x", "y", "z"] * 3, ["s1", "s2", "s3"] * 3)
    for split in speaker_splits(index, folds=3):
        assert [len(split.rows(part)) for part in split.names] == [3, 3, 3]


def test_the_corpus_may_have_a_split_of_its_own(tmp_path: Path) -> None:
    parts = ["test", "train", "", "validation", "elsewhere"]
    index = tiny_index(tmp_path / "own", list("abcde"), ["x"] * 5, parts=parts)
    assert official_split(index).codes.tolist() == [TEST, TRAIN, UNUSED, VALIDATION, UNUSED]
    none = tiny_index(tmp_path / "none", list("ab"), ["x"] * 2)
    with pytest.raises(InputError, match="has no split of its own; use reference or speaker"):
        official_split(none)


def emobox_list(path: Path, keys: list[str]) -> Path:
    lines = [json.dumps({"key": f"shemo-{key}", "emo": "angry"}) for key in keys]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def ten(tmp_path: Path) -> ShardIndex:
    """Samples k0 to k9 of two labels."""
    return tiny_index(tmp_path / "ten", [f"k{n}" for n in range(10)], ["x", "y"] * 5)


def test_emobox_lists(ten: ShardIndex, tmp_path: Path) -> None:
    train = emobox_list(tmp_path / "train_fold_1.jsonl", ["k0", "k1", "k2", "k3", "unheard"])
    test = emobox_list(tmp_path / "test_fold_1.jsonl", ["k8", "k9"])
    valid = emobox_list(tmp_path / "valid_fold_1.jsonl", ["k5"])
    split = emobox_split(ten, [train, valid, test])
    assert split.codes.tolist() == [0, 0, 0, 0, -1, 1, -1, -1, 2, 2]
    assert split.notes == {"keys without a sample": 1, "samples without a key": 3}
    drawn = emobox_split(ten, [train, test])
    assert (drawn.codes[:4] == VALIDATION).sum() == 1 and (drawn.codes[8:] == TEST).all()


def test_bad_emobox_lists(ten: ShardIndex, tmp_path: Path) -> None:
    train = emobox_list(tmp_path / "train.jsonl", ["k0", "k1"])
    cases = {
        "test.jsonl": ('{"key": "shemo-k1"}', r"test.jsonl: line 1: 'shemo-k1' is in two parts"),
        "test2.jsonl": ('{"key": "a"}\nno', r"test2.jsonl: line 2 is no JSON object with a key"),
        "test3.jsonl": ('["key"]', r"test3.jsonl: line 1 is no JSON object with a key"),
        "fold.jsonl": ("", r"fold.jsonl: the name must contain train, valid, dev or test"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=words) as caught:
            emobox_split(ten, [train, tmp_path / name])
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(InputError, match="test4.jsonl: not readable"):
        emobox_split(ten, [train, tmp_path / "test4.jsonl"])
    strange = emobox_list(tmp_path / "train-other.jsonl", ["z1"])
    with pytest.raises(InputError, match="none of its keys is in .*; is it the same corpus"):
        emobox_split(ten, [strange])


def test_the_real_emobox_lists(shared_data: Path, tmp_path: Path) -> None:
    names = zipfile.ZipFile(shared_data / "shemo" / "transcript.zip").namelist()
    keys = sorted(Path(name).stem for name in names if name.endswith(".ort"))
    index = tiny_index(tmp_path / "shemo", keys, [key[3] for key in keys], [key[:3] for key in keys])
    files = [shared_data / "shemo" / f"emobox_{part}_fold_1.jsonl" for part in ("train", "test")]
    split = emobox_split(index, files)
    train, validation, test = (split.rows(part) for part in split.names)
    assert len(test) == 707 and len(train) + len(validation) == 2131
    assert len(validation) == 427, "20 % of the train list, rounded up"
    assert split.notes == {"keys without a sample": 0, "samples without a key": 162}
    assert len(np.unique(index.speaker[test])) == 83
    assert speaker_overlap(index, split)["train/test"] == 83
    (own,) = speaker_splits(index)
    assert set(speaker_overlap(index, own).values()) == {0}
    assert np.abs(shares(index, own.codes, 3)[:, TEST] - 0.2).max() < 0.03
