"""A finished run is done only while its shard and model folders hold what it has read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from configs.files import write_json
from configs.pretrained import PRETRAINED, folder_digest
from data_shards.index import open_index
from data_shards.splits import split_names, table_digest
from launch.sweeps import inputs
from launch.sweeps.inputs import changed_input


@pytest.fixture
def run(text_shards: Path, tmp_path: Path) -> Path:
    """A run directory that has read a corpus of its own."""
    inputs._digests.cache_clear()
    inputs._digest.cache_clear()
    shards = tmp_path / "shards"
    shutil.copytree(text_shards, shards)
    index, name = open_index(shards), split_names(shards)[0]
    read = {
        "shards": str(shards),
        "digest": index.manifest.digest,
        "split": name,
        "split_digest": table_digest(shards, name),
    }
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "data.json").write_text(json.dumps(read))
    return folder


def test_the_same(run: Path) -> None:
    assert changed_input(run) == ""


def test_packed_anew(run: Path) -> None:
    index = run.parent / "shards" / "index.json"
    document = json.loads(index.read_text())
    index.write_text(json.dumps({**document, "digest": "0" * 64}))
    assert changed_input(run) == "shards"


def test_split_anew(run: Path) -> None:
    table = next((run.parent / "shards" / "splits").glob("*.npy"))
    codes = bytearray(table.read_bytes())
    codes[-1] ^= 1
    table.write_bytes(codes)
    name = json.loads((run / "data.json").read_text())["split"]
    assert changed_input(run) == ("split" if table.stem == name else "")


def test_nothing_to_compare(run: Path) -> None:
    """Shards that were removed after training, and runs of earlier versions, count as they are."""
    read = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({k: v for k, v in read.items() if k != "split_digest"}))
    assert changed_input(run) == ""
    (run / "data.json").write_text(json.dumps(read))
    shutil.rmtree(run.parent / "shards")
    assert changed_input(run) == ""
    (run / "data.json").unlink()
    assert changed_input(run) == ""


def test_other_start_weights(run: Path) -> None:
    model = run.parent / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "README.md").write_text("card")
    write_json(run / PRETRAINED, {"folder": str(model), "digest": folder_digest(model)})
    assert changed_input(run) == ""
    (model / "README.md").write_text("another card")
    inputs._digest.cache_clear()
    assert changed_input(run) == ""
    (model / "model.safetensors").write_bytes(b"others")
    inputs._digest.cache_clear()
    assert changed_input(run) == "model.pretrained"
    shutil.rmtree(model)
    inputs._digest.cache_clear()
    assert changed_input(run) == ""
