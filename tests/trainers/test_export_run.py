"""`sokhan export`: any checkpoint of a run as a model folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BertForMaskedLM

from configs.errors import InputError
from configs.rank_status import COMMAND
from launch.cli import main
from tests.ranks import RankPool
from tests.trainers.jobs import train_recipe
from trainers.export_run import export_run
from trainers.tasks.mlm import MlmTask

Ranks = Callable[[int], RankPool]


@pytest.fixture(scope="module")
def run(ranks: Ranks, text_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs of pre-training, all checkpoints kept."""
    folder = tmp_path_factory.mktemp("exported")
    overrides = [
        "--data.shards",
        str(text_shards),
        "--data.workers",
        "0",
        "--model.vocabulary",
        "300",
        "--batching.budget",
        "256",
        "--model.max_tokens",
        "32",
        "--checkpoint.keep",
        "5",
        "--output.folder",
        str(folder),
        "--output.name",
        "run",
        "--tracking.wandb",
        "off",
    ]
    return Path(ranks(1).run(train_recipe, "demo/mlm", overrides)[0])


def words(folder: Path) -> torch.Tensor:
    model = BertForMaskedLM.from_pretrained(folder)
    return model.bert.embeddings.word_embeddings.weight.detach()


def test_checkpoints_become_models(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMAND, "sokhan export")  # the process's own, which trained nothing
    tags = sorted((path.name for path in (run / "checkpoints").iterdir()), key=lambda t: int(t.split("-")[1]))
    assert len(tags) == 3  # one an epoch
    for tag in tags:
        assert main(["export", str(run), "--checkpoint", tag, "--out", str(tmp_path / tag)]) == 0
    first, last = words(tmp_path / tags[0]), words(tmp_path / tags[-1])
    assert not torch.equal(first, last)
    assert torch.equal(last, words(run / "model")), "the last epoch was the best"
    card = (tmp_path / tags[0] / "README.md").read_text()
    assert tags[0] in card
    assert f"## Training\n\n```\n{(run / 'command.txt').read_text()}```\n" in card


def test_a_failure_leaves_the_ranks_world(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next export of the same process joins anew."""

    def fail(*_: object) -> None:
        raise InputError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(MlmTask, "export", fail)
        with pytest.raises(InputError, match="no room"):
            export_run(run, "", tmp_path / "model", False)
    assert export_run(run, "", tmp_path / "model", False)
    assert (tmp_path / "model" / "config.json").is_file()


def test_what_cannot_be_exported(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*words: str) -> str:
        assert main(["export", *words]) == 2
        return capsys.readouterr().err

    out = str(tmp_path / "out")
    assert "not a run directory" in refused(str(tmp_path), "--out", out)
    assert "has no checkpoint 'step-7'; there are" in refused(
        str(run), "--checkpoint", "step-7", "--out", out
    )
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    assert "exists already" in refused(str(run), "--out", str(mine))
    assert "is no model folder" in refused(str(run), "--out", str(mine), "--overwrite")
    assert (mine / "notes.txt").read_text() == "mine"
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    [weights, *_] = sorted((damaged / "checkpoints").glob("*/weights-*"))
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    error = refused(str(damaged), "--checkpoint", weights.parent.name, "--out", out)
    assert weights.parent.name in error and "weights-00000.safetensors" in error
    assert not Path(out).exists()
