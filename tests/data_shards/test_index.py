"""An index opens where everything is there, and says in one line what is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from configs.errors import InputError
from data_shards.index import MANIFEST, digest_of, key_order, open_index
from tests.data_shards.tiny import tiny_index

KEYS = ["b", "گ-۲", "aa"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three samples in one shard."""
    return tiny_index(tmp_path / "shards", KEYS, ["x", "y", "x"]).root


def test_columns(folder: Path) -> None:
    index = open_index(str(folder))
    assert index.keys() == KEYS == [index.key(row) for row in range(3)] and len(index) == 3
    assert index.label.tolist() == [0, 1, 0] and index.manifest.labels == ("x", "y")
    assert isinstance(index.label, np.memmap) and not index.label.flags.writeable
    with pytest.raises(InputError, match=r"has no column 'gender'; there are \[\]"):
        index.group("gender")


def test_moving_a_folder_changes_nothing(folder: Path, tmp_path: Path) -> None:
    before = open_index(folder).manifest
    folder.rename(tmp_path / "elsewhere")
    assert open_index(tmp_path / "elsewhere").manifest == before


def edit(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        document = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps(document | changes))

    return change


def truncate_shard(folder: Path) -> None:
    tar = next(folder.glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:-1])


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda f: shutil.rmtree(f), "shards: not a packed corpus"),
    "no manifest": (lambda f: (f / MANIFEST).unlink(), "shards: not a packed corpus"),
    "half a manifest": (
        lambda f: (f / MANIFEST).write_text((f / MANIFEST).read_text()[:99]),
        "index.json: damaged",
    ),
    "not an object": (lambda f: (f / MANIFEST).write_text("[]"), "index.json: damaged"),
    "another format": (edit(format=99), "index.json: written by another version"),
    "an unknown field": (edit(colour="red"), "index.json: damaged"),
    "no shard": (lambda f: next(f.glob("*.tar")).unlink(), "000000.tar: missing or not"),
    "a truncated shard": (truncate_shard, "000000.tar: missing or not"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_folders_are_refused_in_one_line(folder: Path, name: str) -> None:
    damage, words = DAMAGE[name]
    damage(folder)
    with pytest.raises(InputError, match=words) as caught:
        open_index(folder)
    assert str(folder) in str(caught.value) and len(str(caught.value).splitlines()) == 1


def rewrite(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        rewrite(lambda data: data[:20]),
        rewrite(lambda data: data[:-1]),
        rewrite(lambda data: b""),
        lambda path: np.save(path, np.zeros(2, np.int16)),
    ],
)
def test_damaged_columns_are_refused_in_one_line(folder: Path, damage: Callable[[Path], object]) -> None:
    damage(folder / "index" / "label.npy")
    with pytest.raises(InputError, match=r"label.npy: .*; pack again") as caught:
        _ = open_index(folder).label
    assert len(str(caught.value).splitlines()) == 1


def test_the_digest_tells_any_change_of_a_column() -> None:
    columns: dict[str, NDArray[Any]] = {
        "a": np.arange(3, dtype=np.int32),
        "b": np.zeros(0, np.uint8),
    }
    same: dict[str, NDArray[Any]] = {
        "b": np.zeros(0, np.uint8),
        "a": np.arange(6, dtype=np.int32)[:3],
    }
    assert digest_of(columns) == digest_of(same)
    for changed in (
        columns | {"a": np.array([0, 1, 3], np.int32)},
        columns | {"a": np.arange(3, dtype=np.int64)},
        columns | {"c": np.zeros(0, np.uint8)},
    ):
        assert digest_of(changed) != digest_of(columns)


def test_the_order_of_keys_is_the_same_for_ever() -> None:
    """Repacking gives the same shards, also with other versions."""
    assert sorted(["a", "b", "c", "F03S02", "گ"], key=key_order) == ["a", "b", "گ", "c", "F03S02"]
