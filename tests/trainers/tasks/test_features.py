"""Pooled features: what they are, and that a kept file is the same thing computed once."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_shards.reader import ShardReader
from tests.ranks import RankPool
from tests.trainers.jobs import open_data
from tests.trainers.tiny_models import hubert_folder
from trainers.models.bert_classifier import NliModel
from trainers.models.hubert import EmotionModel, normalise_clip
from trainers.ranks import stopping
from trainers.ranks.world import World
from trainers.tasks.features import kept_features, main_features

Ranks = Callable[[int], RankPool]


def speech(shards: Path, *more: str) -> list[str]:
    return [
        "--data.shards",
        str(shards),
        "--data.workers",
        "0",
        "--model.max_seconds",
        "1",
        *more,
    ]


def text(shards: Path, *more: str) -> list[str]:
    return [
        "--data.shards",
        str(shards),
        "--data.workers",
        "0",
        "--model.vocabulary",
        "300",
        *more,
    ]


@pytest.fixture
def shards(speech_shards: Path, tmp_path: Path) -> Path:
    """A copy without features."""
    copy = tmp_path / "shards"
    shutil.copytree(speech_shards, copy, ignore=shutil.ignore_patterns("cache"))
    return copy


def hubert_alone(world: World, recipe: list[str], rows: list[int], top: bool) -> float:
    """The largest difference between kept features and those of single clips."""
    data = open_data(world, "demo/hubert", recipe)
    model = data.task.build_model()
    assert isinstance(model, EmotionModel)
    kept = kept_features(data, model, top=top)
    reader, worst = ShardReader(data.index.root), 0.0
    for row in rows:
        clip = reader.item(row).audio
        assert clip is not None
        audio = torch.from_numpy(normalise_clip(clip[:16_000]))[None]
        with torch.no_grad():
            states, _ = model.eval().hubert(audio, None, all_layers=not top)
        alone = torch.stack([state[0].mean(0) for state in states]).numpy()
        assert kept[row].shape == alone.shape
        worst = max(worst, float(np.abs(kept[row] - alone).max()))
    return worst


@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("padding", ["exact", "stock"])
def test_a_clips_features_are_its_own(
    padding: str, norm: str, top: bool, ranks: Ranks, shards: Path, tmp_path: Path
) -> None:
    """Whatever it is batched with, and however the head under training pools."""
    encoder = hubert_folder(tmp_path / "encoder", norm)
    recipe = speech(shards, "--model.pretrained", str(encoder), "--model.padding", padding)
    assert ranks(1).run(hubert_alone, recipe, [0, 17, 40, 95], top)[0] < 1e-5


def bert_alone(world: World, recipe: list[str], rows: list[int]) -> float:
    data = open_data(world, "demo/bert_full", recipe)
    model = data.task.build_model()
    assert isinstance(model, NliModel)
    found = main_features(data, model, np.array(rows))
    assert found is not None
    reader, worst = ShardReader(data.index.root), 0.0
    for row in rows:
        pair = reader.item(row).text
        assert pair is not None
        collate: Any = data.task.collate
        texts = pair.premise_processed, pair.hypothesis_processed
        tokens = collate.encode([texts], return_tensors="pt")
        with torch.no_grad():
            states = model.bert(
                tokens["input_ids"],
                token_type_ids=tokens["token_type_ids"],
                output_hidden_states=True,
            ).hidden_states
        alone = torch.stack([torch.cat([state[0, 0], state[0].mean(0)]) for state in states])
        worst = max(worst, float(np.abs(found[row] - alone.numpy()).max()))
    return worst


def test_a_pairs_features_are_its_own(ranks: Ranks, text_shards: Path) -> None:
    assert ranks(1).run(bert_alone, text(text_shards), [3, 0, 50, 179, 77])[0] < 1e-5


def compute(world: World, name: str, recipe: list[str], change: float = 0.0) -> np.ndarray:
    data = open_data(world, name, recipe)
    model: Any = data.task.build_model()
    with torch.no_grad():
        next(model.hubert.encoder.layers.parameters()).add_(change)
    return np.array(kept_features(data, model))


def test_features_are_computed_once(ranks: Ranks, shards: Path, tmp_path: Path) -> None:
    encoder = hubert_folder(tmp_path / "encoder", "group")
    recipe = speech(shards, "--model.pretrained", str(encoder))
    first = ranks(2).run(compute, "demo/hubert", recipe)
    (file,) = (shards / "cache").glob("features-*")
    assert (first[0] == first[1]).all()
    written = file.stat()
    # Neither the head, nor its seed, nor what only training does changes an encoder's features.
    others = [
        "--seed",
        "5",
        "--model.head",
        "mlp",
        "--model.dropout",
        "0.3",
        "--model.specaugment",
        "true",
        "--evaluation.items",
        "7",
    ]
    again = ranks(1).run(compute, "demo/hubert", recipe + others)[0]
    assert (again == first[0]).all()
    assert file.stat() == written
    # What does change them gives another file.
    changed = ranks(1).run(compute, "demo/hubert", recipe, 0.1)[0]
    shorter = ranks(1).run(compute, "demo/hubert", [*recipe, "--model.max_seconds", "0.2"])[0]
    assert (changed != again).any() and (shorter != again).any()
    assert len(list((shards / "cache").glob("features-*"))) == 3
    assert file.stat() == written


def bert_features(world: World, recipe: list[str]) -> np.ndarray:
    data = open_data(world, "demo/bert_full", recipe)
    model: Any = data.task.build_model()
    return np.array(kept_features(data, model))


def test_a_tokenizer_that_was_used_finds_the_same_file(
    ranks: Ranks, text_shards: Path, tmp_path: Path
) -> None:
    """Rank 0 alone counts tokens, and a later run none: its tokenizer cuts and pads nothing yet."""
    copy = tmp_path / "shards"
    shutil.copytree(text_shards, copy, ignore=shutil.ignore_patterns("cache"))
    recipe = text(copy)
    first = ranks(2).run(bert_features, recipe)
    (file,) = (copy / "cache").glob("features-*")
    written = file.stat()
    again = ranks(2).run(bert_features, recipe)
    assert all((found == first[0]).all() for found in (*first, *again))
    assert list((copy / "cache").glob("features-*")) == [file]
    assert file.stat() == written


def test_ranks_share_the_work_and_nothing_else(ranks: Ranks, shards: Path) -> None:
    recipe = speech(shards)
    alone = ranks(1).run(compute, "demo/hubert", recipe)[0]
    shutil.rmtree(shards / "cache")
    for theirs in ranks(2).run(compute, "demo/hubert", recipe):
        assert (theirs == alone).all()


def test_a_damaged_file_is_made_again(ranks: Ranks, shards: Path) -> None:
    recipe = speech(shards)
    whole = ranks(1).run(compute, "demo/hubert", recipe)[0]
    (file,) = (shards / "cache").glob("features-*")
    left = file.with_name(f"{file.stem}.{platform.node()}-4194999.npy")  # no process has this number
    left.write_bytes(b"of a process that was killed")
    file.write_bytes(file.read_bytes()[:-100])
    assert (ranks(1).run(compute, "demo/hubert", recipe)[0] == whole).all()
    assert list((shards / "cache").glob("features-*")) == [file]
    assert (np.load(file) == whole).all()
    content = bytearray(file.read_bytes())
    content[-100] ^= 1  # a flipped bit is damage too
    file.write_bytes(content)
    assert (ranks(1).run(compute, "demo/hubert", recipe)[0] == whole).all()


def test_shards_that_cannot_be_written_to(ranks: Ranks, shards: Path) -> None:
    recipe = speech(shards)
    expected = ranks(1).run(compute, "demo/hubert", recipe)[0]
    shutil.rmtree(shards / "cache")
    (shards / "cache").write_text("in the way")
    for theirs in ranks(2).run(compute, "demo/hubert", recipe):
        assert (theirs == expected).all()


def stopped(world: World, recipe: list[str]) -> str:
    data = open_data(world, "demo/hubert", recipe)
    model: Any = data.task.build_model()
    if not world.main:
        stopping._wishes.append(15)
    try:
        kept_features(data, model)
    except stopping.Stopped as reason:
        return str(reason)
    finally:
        stopping._wishes.clear()
    return "finished"


def test_a_signal_ends_the_work_on_all_ranks(ranks: Ranks, shards: Path) -> None:
    assert ranks(2).run(stopped, speech(shards)) == ["features were still being computed"] * 2
    assert not list((shards / "cache").glob("features-*"))


def test_features_that_are_not_finite(ranks: Ranks, shards: Path) -> None:
    with pytest.raises(RuntimeError, match="InputError: .*features of sample '.*' are not finite"):
        ranks(2).run(compute, "demo/hubert", speech(shards), float("nan"))
    assert not list((shards / "cache").glob("features-*"))
