"""What a sweep is expected to cost: the arithmetic against published figures, and measured trainings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.load import AnyRecipe, load_recipe
from configs.study import GridMember
from launch.sweeps.arithmetic import Encoder, _forward, _share_of_forward, encoder_of, work_of
from launch.sweeps.cost import H100, START_UP, describe_cost, expect
from launch.sweeps.evaluations import passes_besides
from launch.sweeps.readings import Reading

BASE = Encoder(12, 768)


def recipe(name: str, *words: str) -> AnyRecipe:
    return load_recipe(name, words)


def member(name: str, shards: Path, out: Path, *words: str) -> GridMember:
    given = ("--data.shards", str(shards), "--output.folder", str(out), *words)
    return GridMember(name, given, load_recipe(name, given), {}, "part")


def test_forward_passes_are_those_published() -> None:
    """BERT-base at 64 tokens: 172 MFLOP a token; HuBERT-base on clips of 4.1 s: 13.8 GFLOP a second
    in convolutions, linear layers and attention."""
    text, speech = recipe("farstail/parsbert_full"), recipe("shemo/hubert_base_speaker")
    assert _forward(text, BASE, Reading(1, 1, 1, 64, 64**2)) / 64 == pytest.approx(172e6, rel=0.01)
    frames = 4.1 * 50
    flop = _forward(speech, BASE, Reading(1, 1, 1, frames, frames**2)) / 4.1
    assert flop == pytest.approx((4.91 + 8.49 + 0.38) * 1e9, rel=0.01)


@pytest.mark.parametrize(
    ("name", "words", "share"),
    [
        ("farstail/parsbert_full", [], 3),
        ("farstail/parsbert_freeze9", [], 1.5),
        ("farstail/parsbert_freeze9", ["--model.regime.layers=12"], 1),
        ("farstail/parsbert_embeddings_last", [], 2 + 1 / 12),
        # Forward 13.4, backward through the layers 17.0: as in 33.1 of 42.9 with all of it.
        ("shemo/hubert_base_speaker", [], 1 + 2 * 8.49 / 13.4),
        ("shemo/hubert_base_speaker", ["--model.trains=head"], 1),
        ("shemo/hubert_base_speaker", ["--model.trains=last", "--model.last_layers=3"], 1 + 4.25 / 13.4),
        ("shemo/hubert_base_speaker", ["--model.freeze_conv=false"], 3),
    ],
)
def test_frozen_layers_cost_no_backward_pass(name: str, words: list[str], share: float) -> None:
    assert _share_of_forward(recipe(name, *words), BASE) == pytest.approx(share, rel=0.01)


def test_cut_and_pruned_models_cost_less() -> None:
    reading = Reading(1, 1, 1, 1000, 0)
    whole = _forward(recipe("farstail/parsbert_full"), BASE, reading)
    cut = _forward(recipe("farstail/parsbert_intermediate"), BASE, reading)
    assert cut / whole == pytest.approx(8 / 12)
    pruned = _forward(recipe("farstail/parsbert_heads"), BASE, reading)
    assert pruned / whole == pytest.approx(1 - 0.3 / 3)


def test_sizes_of_encoders(tmp_path: Path) -> None:
    assert encoder_of(recipe("demo/bert_full")) == Encoder(2, 128)
    assert encoder_of(recipe("farstail/parsbert_full")) == BASE
    assert encoder_of(recipe("demo/mlm", "--model.layers=5")) == Encoder(5, 128)
    large = recipe("demo/hubert", "--model.pretrained=facebook/hubert-large-ll60k")
    assert encoder_of(large) == Encoder(24, 1024)
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 4, "hidden_size": 512}')
    own = recipe("demo/bert_full", f"--model.pretrained={tmp_path}")
    assert encoder_of(own) == Encoder(4, 512)
    assert encoder_of(recipe("farstail/bert_small_full")) is None  # its name says nothing


def test_steps_are_those_of_training(text_shards: Path, speech_shards: Path, tmp_path: Path) -> None:
    """Pairs 32 at a time; clips in buckets as they are planned."""
    text = member("demo/bert_full", text_shards, tmp_path).recipe
    work = work_of(text, BASE)
    assert work is not None
    train = json.loads((text_shards / "splits" / "official.json").read_text())["counts"]["train"]
    assert work.steps == 4 * -(-train // 32)
    short = replace(text, loop=replace(text.loop, max_steps=3))
    fewer = work_of(short, BASE)
    assert fewer is not None and fewer.steps == 3 and fewer.flop < work.flop

    from data_shards.index import open_index
    from data_shards.plan import Batching, plan_epoch, select_entries
    from data_shards.splits import load_split

    speech: Any = member("demo/hubert", speech_shards, tmp_path).recipe  # balanced, in buckets
    index = open_index(speech_shards)
    rows = load_split(index, "speaker").rows("train")
    frames = -(-index.length // 320)  # as EmotionTask counts them
    entries = select_entries(rows, index.label[rows], "clean", 0)
    cut = Batching(speech.batching.micro_batches, budget=int(speech.batching.budget * 50))
    planned = plan_epoch(entries, frames, index.shard, seed=0, epoch=1, batching=cut).steps
    work = work_of(speech, Encoder(2, 64))
    assert work is not None and work.steps == 4 * planned
    assert work_of(replace(speech, data=replace(speech.data, shards="nowhere")), BASE) is None


COUNTS = {"train": 1000, "validation": 100, "test": 100}


@pytest.mark.parametrize(
    ("name", "words", "passes"),
    [
        ("demo/bert_full", [], (1, 5, 1)),
        ("demo/bert_full", ["--evaluation.train=false", "--evaluation.test_each_epoch=true"], (0, 5, 5)),
        ("demo/bert_full", ["--analysis.probes=end"], (2, 6, 2)),
        # The whole model and 2 x (1 + 3) smaller ones; heads are scored twice on 200 of 1000 pairs.
        (
            "demo/bert_full",
            [
                "--analysis.pruning.shares=[0.2,0.5]",
                "--analysis.pruning.draws=3",
                "--analysis.pruning.score_items=200",
            ],
            (1 + 4 * 0.2, 5 + 9, 1 + 9),
        ),
        # Anew after .2 and .4 of the heads: four scorings, of the whole validation part.
        (
            "demo/bert_full",
            [
                "--analysis.pruning.shares=[0.2,0.5]",
                "--analysis.pruning.draws=3",
                "--analysis.pruning.score_on=validation",
                "--analysis.pruning.round_share=0.2",
            ],
            (1, 5 + 9 + 8, 1 + 9),
        ),
        ("demo/bert_heads", ["--model.regime.choose=importance"], (1 + 2, 5, 1)),
        (
            "demo/bert_heads",
            [
                "--model.regime.choose=importance",
                "--model.regime.round_share=0.1",
                "--model.regime.score_items=500",
            ],
            (1 + 5 * 2 * 0.5, 5, 1),
        ),
        ("demo/hubert", ["--analysis.noise=true"], (1, 5, 3)),
        ("demo/mlm", [], (0, 4, 1)),
    ],
)
def test_passes_besides_the_steps(name: str, words: list[str], passes: tuple[float, float, float]) -> None:
    one = recipe(name, *words)
    found = passes_besides(one, one.loop.epochs, COUNTS)
    assert tuple(found[part] for part in COUNTS) == pytest.approx(passes)


def finish(one: GridMember, seconds: float) -> None:
    one.run.mkdir(parents=True)
    (one.run / "summary.json").write_text(json.dumps({"finished": True, "seconds": seconds}))
    (one.run / "environment.json").write_text(json.dumps({"hardware": "1 x Abacus"}))


def test_finished_trainings_are_the_measure(text_shards: Path, tmp_path: Path) -> None:
    seeds = [member("demo/bert_full", text_shards, tmp_path, f"--seed={n}") for n in range(4)]
    longer = member("demo/bert_full", text_shards, tmp_path, "--loop.epochs=8")
    other = member("demo/bert_heads", text_shards, tmp_path)
    unknown = member("demo/bert_full", tmp_path / "nowhere", tmp_path)
    trainings = [*seeds, longer, other, unknown]
    parts = {"part": trainings}

    left = {one.run for one in trainings}
    expected = expect(trainings, left, H100)
    assert expected.keys() == left and expected[unknown.run].seconds is None
    assert {one.measured for one in expected.values()} == {""}
    told = describe_cost(parts, expected, H100)
    assert "on one H100, assumed, not measured: 250 TFLOP/s in bf16, 60 in fp32" in told
    assert "1 not known: their shards or splits are not there yet" in told
    assert "min without 1 of 7" in told.splitlines()[1]

    for one, seconds in zip(seeds[:3], (100.0, 300.0, 500.0), strict=True):
        finish(one, seconds)
        left.remove(one.run)
    expected = expect(trainings, left, H100)
    seconds = expected[seeds[3].run].seconds
    assert seconds == pytest.approx(300 + START_UP)  # the median
    assert expected[seeds[3].run].measured == expected[longer.run].measured == "1 x Abacus"
    more = expected[longer.run].seconds
    assert more is not None and 1.7 * 300 < more - START_UP < 2 * 300  # final scores come once
    assert expected[other.run].measured == ""  # another recipe
    told = describe_cost(parts, expected, H100)
    assert "measured by finished trainings on 1 x Abacus" in told
    rows = [line.split() for line in told.splitlines()]
    assert ["part", "7", "4"] == rows[1][:3] and ["together", "7", "4"] == rows[2][:3]


def test_no_cost_is_made_up_for_an_encoder_that_is_not_there(text_shards: Path, tmp_path: Path) -> None:
    known = member("demo/bert_full", text_shards, tmp_path)
    absent = [member("farstail/bert_small_full", text_shards, tmp_path, f"--seed={n}") for n in range(2)]
    alone = expect(absent, {one.run for one in absent}, H100)
    told = describe_cost({"": absent}, alone, H100).splitlines()
    assert told[1].endswith("not known")
    assert told[2] == "expected: 2 not known: their encoder models/bert_tiny_pairs is not there yet"
    trainings = [known, *absent]
    expected = expect(trainings, {one.run for one in trainings}, H100)
    assert all(expected[one.run].steps for one in absent)
    assert describe_cost({"": trainings}, expected, H100).splitlines()[1].endswith("min without 2 of 3")

    finish(absent[0], 100)  # which is a measure, whatever the encoder's size
    expected = expect(trainings, {known.run, absent[1].run}, H100)
    assert expected[absent[1].run].seconds == pytest.approx(100 + START_UP)
