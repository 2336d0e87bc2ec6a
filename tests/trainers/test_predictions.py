"""Files of predictions, and scores of subsets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from configs.errors import InputError
from data_shards.index import ShardIndex, open_index
from data_shards.splits import load_split
from tests.faults.small_disk import fill, small_disk
from trainers.metrics import class_metrics
from trainers.predictions import read_predictions, write_predictions
from trainers.subsets import MIN_ITEMS, subset_scores

LABELS = ("a", "p(b)", "خوشحالی, c")
KEYS = ("test-2", "کلید", "test-1", "test-10")
PROBABILITIES = np.array([[0.2, 0.3, 0.5], [0.6, 0.2, 0.2], [0.1, 0.8, 0.1], [0.4, 0.35, 0.25]])


def write(path: Path) -> None:
    truth = np.array([2, 0, 0, 1])
    losses = -np.log(PROBABILITIES[np.arange(4), truth])
    write_predictions(path, KEYS, LABELS, truth, losses, PROBABILITIES)


def test_predictions_come_back_in_the_order_of_their_keys(tmp_path: Path) -> None:
    path = tmp_path / "predictions-test.csv"
    write(path)
    table = read_predictions(path)
    assert table.labels == LABELS
    assert table.keys == ("test-1", "test-10", "test-2", "کلید")
    assert table.truth.tolist() == [0, 1, 2, 0]
    assert table.predicted.tolist() == [1, 0, 2, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["predictions-test.csv"]


def test_the_format_is_that_of_a_runs_predictions(tmp_path: Path) -> None:
    path = tmp_path / "predictions-test.csv"
    write(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == 'key,label,prediction,loss,p(a),p(p(b)),"p(خوشحالی, c)"'
    assert lines[3] == "test-1,a,p(b),2.302585,0.100000,0.800000,0.100000"


def test_a_full_disk_leaves_no_half_of_a_file(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 20) as disk:
        fill(disk)
        with pytest.raises(OSError, match="No space left"):
            write(disk / "predictions-test.csv")
        assert [path.name for path in disk.iterdir()] == ["filler"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("key,label", "name,label", "holds no predictions"),
        ("test-1,a,p(b)", "test-1,a,d", "row 4 is damaged"),
        (",0.100000\ntest-10", "\ntest-10", "row 4 is damaged"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "predictions-test.csv"
    write(path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_predictions(path)


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not readable"):
        read_predictions(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match="holds no predictions"):
        read_predictions(tmp_path / "empty.csv")


def test_subsets_are_scored_by_the_columns_of_the_index(speech_shards: Path) -> None:
    index = open_index(speech_shards)
    labels = index.manifest.labels
    rows = np.arange(len(index))
    truth = np.asarray(index.label, np.int64)
    predicted = np.where(rows % 3 == 0, (truth + 1) % len(labels), truth)
    scores = subset_scores(index, rows, truth, predicted, labels)
    assert set(scores) == {"gender=F", "gender=M"}
    gender = index.manifest.groups["gender"].index("F")
    members = np.flatnonzero(np.asarray(index.group("gender")) == gender)
    expected = class_metrics(truth[members], predicted[members], labels, np.zeros(len(members)))
    assert scores["gender=F"] == {
        "items": len(members),
        "accuracy": expected.accuracy,
        "uar": expected.uar,
        "macro_f1": expected.macro_f1,
    }
    assert sum(s["items"] for s in scores.values()) == len(index)


def test_small_subsets_and_columns_of_one_value_are_left_out(speech_shards: Path) -> None:
    index = open_index(speech_shards)
    gender = np.asarray(index.group("gender"))
    first, second = (np.flatnonzero(gender == value) for value in (0, 1))

    def subsets(rows: np.ndarray) -> set[str]:
        truth = np.asarray(index.label, np.int64)[rows]
        return set(subset_scores(index, rows, truth, truth, index.manifest.labels))

    assert subsets(first) == set()
    few = np.concatenate([first, second[: MIN_ITEMS - 1]])
    assert subsets(few) == {f"gender={index.manifest.groups['gender'][0]}"}
    assert len(subsets(np.concatenate([first, second[:MIN_ITEMS]]))) == 2


def test_the_column_of_the_corpus_own_split_is_no_subset(text_shards: Path) -> None:
    index: ShardIndex = open_index(text_shards)
    rows = np.arange(len(index))
    truth = np.asarray(index.label, np.int64)
    names = subset_scores(index, rows, truth, truth, index.manifest.labels)
    assert names and all(name.startswith("family=") for name in names)
    assert len(load_split(index).rows("train")) < len(rows)
