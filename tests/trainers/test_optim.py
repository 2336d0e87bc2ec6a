"""Schedules are pure functions of the step; groups have the rates that the recipe gives them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from configs.models import HubertConfig
from configs.schema import OptimConfig
from tests.ranks import RankPool
from tests.trainers.jobs import losses_after, losses_and_save, losses_of, moved_by_one_step
from tests.trainers.test_world_sizes import assert_close, bert, hubert
from tests.trainers.tiny_models import EMOTIONS, hubert_folder, small_bert
from trainers.models.hubert import EmotionModel, build_emotion_model
from trainers.optim import build_optimizer, learning_rate, parameter_groups, rate_scales, set_rate

Ranks = Callable[[int], RankPool]
LAYER_WISE = ["--optim.layer_decay", "0.5", "--optim.head_lr", "2e-2", "--optim.lr", "1e-2"]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_warmup_then_decay(schedule: str) -> None:
    config = OptimConfig(lr=1.0, schedule=schedule, warmup=0.1)  # type: ignore[arg-type]
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([(n + 1) / 10 for n in range(10)])
    assert max(rates) == 1.0
    after = rates[10:]
    if schedule == "constant":
        assert set(after) == {1.0}
    else:
        assert all(a > b for a, b in zip(after, after[1:], strict=False))
        assert 0 < after[-1] < 0.02
        assert after[45] == pytest.approx(0.5, abs=0.02)


def test_decay_spares_vectors() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    config = OptimConfig(weight_decay=0.1)
    groups = parameter_groups(model, config)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert [len(group["params"]) for group in groups] == [1, 3]
    assert [group["lr_scale"] for group in groups] == [1.0, 1.0]
    model[0].weight.requires_grad_(False)
    assert len(parameter_groups(model, config)) == 1


def emotion(folder: Path, norm: str) -> EmotionModel:
    config = HubertConfig(pretrained=str(hubert_folder(folder / norm, norm)), freeze_conv=False)
    return build_emotion_model(config, EMOTIONS, seed=0)


def expected_scales(names: list[str], table: dict[str, float]) -> dict[str, float]:
    """The longest prefix of ``table`` that a name starts with says its scale."""
    return {name: table[max((p for p in table if name.startswith(p)), key=len)] for name in names}


def test_rates_of_bert(tmp_path: Path) -> None:
    model = small_bert(tmp_path / "bert")
    scales = rate_scales(model, OptimConfig(lr=1e-4, head_lr=1e-3, layer_decay=0.5))
    table = {
        "bert.embeddings.": 0.125,
        "bert.encoder.layer.0.": 0.25,
        "bert.encoder.layer.1.": 0.5,
        "bert.encoder.layer.2.": 1.0,
        "bert.pooler.": 10.0,
        "classifier.": 10.0,
    }
    names = [name for name, _ in model.named_parameters()]
    assert scales == pytest.approx(expected_scales(names, table))


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_rates_of_hubert(norm: str, tmp_path: Path) -> None:
    model = emotion(tmp_path, norm)
    scales = rate_scales(model, OptimConfig(lr=1e-4, head_lr=1e-3, layer_decay=0.5))
    table = {
        "hubert.": 0.125,
        "hubert.encoder.layers.0.": 0.25,
        "hubert.encoder.layers.1.": 0.5,
        "hubert.encoder.layers.2.": 1.0,
        "head.": 10.0,
        # Behind the last layer in pre-norm models, before the first in the others.
        "hubert.encoder.layer_norm.": 1.0 if norm == "layer" else 0.125,
    }
    names = [name for name, _ in model.named_parameters()]
    assert scales == pytest.approx(expected_scales(names, table))


def test_groups_divide_what_trains(tmp_path: Path) -> None:
    model = emotion(tmp_path, "group")
    model.hubert.encoder.layers[0].requires_grad_(False)
    groups = parameter_groups(model, OptimConfig(layer_decay=0.5, weight_decay=0.1))
    held = [id(parameter) for group in groups for parameter in group["params"]]
    trainable = [id(p) for p in model.parameters() if p.requires_grad]
    assert sorted(held) == sorted(trainable)
    assert [(g["lr_scale"], g["weight_decay"]) for g in groups] == [
        (0.125, 0.1),
        (0.125, 0.0),
        (0.5, 0.1),
        (0.5, 0.0),
        (1.0, 0.1),
        (1.0, 0.0),
    ]
    for group in groups:
        assert all((p.ndim > 1) == bool(group["weight_decay"]) for p in group["params"])


def test_one_rate_makes_the_groups_that_no_setting_makes(tmp_path: Path) -> None:
    model = emotion(tmp_path, "group")
    plain = parameter_groups(model, OptimConfig(lr=1e-4))
    same = parameter_groups(model, OptimConfig(lr=1e-4, head_lr=1e-4, layer_decay=1.0))
    assert len(plain) == len(same) == 2
    for ours, theirs in zip(plain, same, strict=True):
        assert [id(p) for p in ours["params"]] == [id(p) for p in theirs["params"]]
        assert ours["lr_scale"] == theirs["lr_scale"] == 1.0


def test_one_step_is_torchs_adam() -> None:
    for kind, peer in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)):
        torch.manual_seed(0)
        ours, theirs = torch.nn.Linear(5, 2), torch.nn.Linear(5, 2)
        theirs.load_state_dict(ours.state_dict())
        config = OptimConfig(kind=kind, lr=0.1, betas=(0.8, 0.9))  # type: ignore[arg-type]
        first = build_optimizer(ours, config)
        second = peer(theirs.parameters(), lr=0.1, betas=(0.8, 0.9), weight_decay=0.0)
        for _ in range(3):
            x = torch.randn(7, 5)
            for model, optimizer in ((ours, first), (theirs, second)):
                optimizer.zero_grad()
                model(x).pow(2).sum().backward()
                optimizer.step()
        torch.testing.assert_close(ours.weight, theirs.weight)


def test_set_rate_keeps_the_ratios(tmp_path: Path) -> None:
    config = OptimConfig(lr=1e-3, head_lr=4e-3, layer_decay=0.5)
    optimizer = build_optimizer(small_bert(tmp_path / "bert"), config)
    set_rate(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {0.0625, 0.125, 0.25, 0.5, 2.0}


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_each_weight_moves_at_its_rate(stage: int, ranks: Ranks, text_shards: Path) -> None:
    """With a large eps a step of Adam is the gradient times the rate, so ratios of steps are ratios
    of rates."""
    recipe = bert(text_shards, "--engine.zero", str(stage), "--optim.eps", "1000.0")
    recipe += ["--optim.lr", "100.0", "--optim.clip", "0"]
    plain = ranks(2).run(moved_by_one_step, "demo/bert_full", recipe)[0]
    scaled = ["--optim.head_lr", "300.0", "--optim.layer_decay", "0.5"]
    moved = ranks(2).run(moved_by_one_step, "demo/bert_full", [*recipe, *scaled])[0]
    table = {
        "bert.embeddings.": 0.25,
        "bert.encoder.layer.0.": 0.5,
        "bert.encoder.layer.1.": 1.0,
        "bert.pooler.": 3.0,
        "classifier.": 3.0,
    }
    for name, scale in expected_scales(list(plain), table).items():
        size = float(plain[name].abs().max())
        far = float((moved[name] - scale * plain[name]).abs().max())
        assert far <= 1e-3 * scale * size + 1e-6, name
    sizes = sorted(float(value.abs().max()) for value in plain.values())
    assert sizes[len(sizes) // 4] > 1e-4, "steps too small to compare"


@pytest.mark.parametrize("kind", ["hubert", "bert"])
def test_groups_go_along_between_stages(
    kind: str, ranks: Ranks, speech_shards: Path, text_shards: Path, tmp_path: Path
) -> None:
    """Saved on 2 ranks at ZeRO 2, gone on with at ZeRO 0 and 3: the state to the bit, and the losses
    of the uninterrupted run. A large eps makes Adam show the size of gradients and moments."""
    name = "demo/hubert" if kind == "hubert" else "demo/bert_full"
    recipe = hubert(speech_shards) if kind == "hubert" else bert(text_shards)
    recipe += [*LAYER_WISE, "--optim.eps", "0.1", "--optim.weight_decay", "0.1"]
    steps, at = 12, 5
    saved = [*recipe, "--engine.zero", "2"]
    whole = ranks(2).run(losses_and_save, name, saved, steps, at, tmp_path)[0]
    assert min(whole["losses"][at:]) < whole["losses"][0], "nothing was learnt"
    for size, stage in ((1, 0), (2, 1), (2, 3)):
        overrides = [*recipe, "--engine.zero", str(stage)]
        rest = ranks(size).run(losses_after, name, overrides, steps, at, whole["path"])[0]
        assert rest["loaded"] == whole["saved"], f"{size} ranks, ZeRO {stage}: another state"
        assert_close(rest["losses"], whole["losses"][at:])
    again = ranks(2).run(losses_after, name, saved, steps, at, whole["path"])[0]
    assert again["losses"] == whole["losses"][at:] and again["end"] == whole["end"]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_groups_in_bf16(stage: int, ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    recipe = bert(text_shards, *LAYER_WISE, "--optim.eps", "0.1", "--engine.zero", str(stage))
    exact = ranks(2).run(losses_of, "demo/bert_full", recipe, 8)[0]["losses"]
    recipe += ["--engine.precision", "bf16"]
    whole = ranks(2).run(losses_and_save, "demo/bert_full", recipe, 8, 4, tmp_path)[0]
    rest = ranks(2).run(losses_after, "demo/bert_full", recipe, 8, 4, whole["path"])[0]
    assert rest["loaded"] == whole["saved"]
    assert rest["losses"] == whole["losses"][4:] and rest["end"] == whole["end"]
    deviations = [abs(a - b) / b for a, b in zip(whole["losses"], exact, strict=True)]
    assert sum(deviations) / len(deviations) < 0.05, deviations
