"""A finished run is done only while its shard folder holds what it has read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from data_shards.index import open_index
from data_shards.splits import split_names, table_digest
from launch.sweeps import other_data
from launch.sweeps.other_data import was_other_data


@pytest.fixture
def run(text_shards: Path, tmp_path: Path) -> Path:
    """A run directory that has read a corpus of its own."""
    other_data._digests.cache_clear()
    shards = tmp_path / "shards"
    shutil.copytree(text_shards, shards)
    index, name = open_index(shards), split_names(shards)[0]
    read = {
        "shards": str(shards), "digest": index.manifest.digest, "split": name,
        "split_digest": table_digest(shards, name),
    }  # fmt: skip
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "data.json").write_text(json.dumps(read))
    return folder


def test_the_same(run: Path) -> None:
    assert was_other_data(run) == ""


def test_packed_anew(run: Path) -> None:
    index = run.parent / "shards" / "index.json"
    document = json.loads(index.read_text())
    index.write_text(json.dumps({**document, "digest": "0" * 64}))
    assert was_other_data(run) == "shards"


def test_split_anew(run: Path) -> None:
    table = next((run.parent / "shards" / "splits").glob("*.npy"))
    codes = bytearray(table.read_bytes())
    codes[-1] ^= 1
    table.write_bytes(codes)
    name = json.loads((run / "data.json").read_text())["split"]
    assert was_other_data(run) == ("split" if table.stem == name else "")


def test_nothing_to_compare(run: Path) -> None:
    """Shards that were removed after training, and runs of earlier versions, count as they are."""
    read = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(
        json.dumps({k: v for k, v in read.items() if k != "split_digest"})
    )
    assert was_other_data(run) == ""
    (run / "data.json").write_text(json.dumps(read))
    shutil.rmtree(run.parent / "shards")
    assert was_other_data(run) == ""
    (run / "data.json").unlink()
    assert was_other_data(run) == ""
