"""The benchmarks run, and what they are there to show holds; never how long anything takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import memory, reading, stopwatch, training
from benchmarks.corpora import packed, text_corpus
from data_shards.index import open_index
from data_shards.plan import Batching, Entries, plan_epoch
from tests.ranks import RankPool
from trainers.ranks.world import World

ROOT = Path(__file__).resolve().parents[1]
SMALL, LARGE = 1_000, 11_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's corpora are packed."""
    return tmp_path_factory.mktemp("benchmarks")


@pytest.mark.slow
def test_packing_takes_little_more_memory_for_ten_thousand_samples_more(folder: Path) -> None:
    small = memory.measure_packing("text", SMALL, folder)
    large = memory.measure_packing("text", LARGE, folder)
    assert small.worker > 0 and max(large.command, large.worker) < 1.5 * 2**30
    # The order and the columns: 100 bytes a sample. Allocators and libraries give some MB or so.
    assert large.own - small.own < 20e6 + 200 * (LARGE - SMALL)
    assert large.worker - small.worker < 20e6
    assert len(open_index(folder / f"text-{LARGE}")) == LARGE


def test_reading_takes_no_more_memory_for_a_larger_corpus(folder: Path) -> None:
    for samples in (SMALL, LARGE):
        packed("text", samples, folder, processes=1)
    small, large = (memory.measure_reading("text", samples, folder) for samples in (SMALL, LARGE))
    assert large.own - small.own < 5e6 and large.mapped - small.mapped < 5e6
    assert small.plan / SMALL < 14 and large.plan / LARGE < 14
    text = memory.table([], [small, large])
    assert "11 x the samples" in text and text.count("text") == 3


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves them
def test_all_readers_read_the_same_samples(folder: Path) -> None:
    root = packed("text", SMALL, folder, processes=1)
    files = reading.loose_files(root)
    for batches in (
        reading.read_ours(root, 64),
        reading.read_webdataset(root, 64),
        reading.read_files(files, 64),
    ):
        assert list(batches) == [64] * 15 + [40]


def test_buckets_pad_less_than_random_batches_on_lengths_like_shemos() -> None:
    lengths = reading.speech_lengths(3000)
    assert abs(np.median(lengths) / 50 - 3.1) < 0.2 and abs(np.quantile(lengths, 0.95) / 50 - 10.8) < 1
    entries, shards = Entries(np.arange(3000), np.zeros(3000, np.int32)), np.zeros(3000, np.int32)
    shares = [
        reading.padding(plan_epoch(entries, lengths, shards, seed=0, epoch=1, batching=cut), lengths)
        for cut in (Batching(1, budget=4000), Batching(1, items=16))
    ]
    assert shares[0] < 0.05 and 0.5 < shares[1] < 0.8


def test_a_listing_of_generated_text_takes_no_memory() -> None:
    corpus = text_corpus(10**9)
    assert len(corpus.items) == 10**9 and corpus.key(corpus.items[7]) == "pair-000000007"


def train_all(world: World, task: str, folder: Path) -> dict[str, Any]:
    """One pass of each way to train on five random batches; runs in a rank."""
    recipe = training.recipe_for(task, "tiny", 4, "fp32", workers=0)
    parties = training.open_parties(recipe, 5, folder, folder / task, world)
    passes = stopwatch.in_turn(parties, world.device, 1)
    return {
        "useful": {name: one.useful for name, [one] in passes.items()},
        "padding": {name: one.padding for name, [one] in passes.items()},
        "table": training.table(parties, passes, "units"),
        "hardware": stopwatch.hardware(world.device),
    }


@pytest.mark.parametrize("task", ["nli", "emotion"])
def test_all_trainings_see_the_same_samples_padded_as_planned(
    task: str, folder: Path, ranks: Callable[[int], RankPool]
) -> None:
    (folder / task).mkdir()
    [seen] = ranks(1).run(train_all, task, folder)
    index = open_index(folder / f"{training.CORPORA[task]}-24")
    useful, padding = seen["useful"], seen["padding"]
    assert {training.RANDOM, training.BUCKETS} < set(useful)
    if task == "emotion":
        expected = np.minimum(index.length[:20], 30 * 16_000).sum() / 16_000
    else:  # every word of these texts is a token; three more mark a pair
        expected = index.length[:20].sum() + 3 * 20
    assert list(useful.values()) == pytest.approx([float(expected)] * len(useful))
    for batches in ("random batches", "length buckets"):
        assert padding[f"ours, {batches}"] == padding[f"torch alone, {batches}"]
    lengths = index.length[:] + (3 if task == "nli" else 0)
    plan = plan_epoch(
        Entries(np.arange(20), np.zeros(20, np.int32)),
        lengths,
        index.shard,
        seed=0,
        epoch=1,
        batching=Batching(1, items=4),
    )
    assert padding[training.RANDOM] == pytest.approx(reading.padding(plan, lengths))
    assert padding[training.BUCKETS] < padding[training.RANDOM]
    assert len(seen["table"]) == 2 + len(useful)
    assert "CPU cores" in seen["hardware"] and "torch" in seen["hardware"]


def test_rates_are_over_whole_passes_without_padding() -> None:
    one = stopwatch.Pass(4, torch.device("cpu"))
    for _ in range(4):
        one.saw(torch.tensor(6.0), 8.0)
        one.stepped()
    one.marks[0], one.marks[-1] = (10.0, 1.0), (18.0, 5.0)
    assert (one.useful, one.padding, len(one.marks)) == (24, 0.25, 5)
    assert (one.rate, one.thrift, one.host) == (3, 6, 1)


def test_without_accelerate_the_trainer_is_left_out_and_the_report_says_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "available", lambda: False)
    monkeypatch.setattr(training, "open_parties", lambda *_: [])
    recipe = training.recipe_for("nli", "tiny", 4, "fp32", workers=0)
    world: Any = SimpleNamespace(device=torch.device("cpu"))
    text = "\n".join(training.compare(recipe, "tiny", 5, 1, folder, world))
    assert "left out" in text and "accelerate" in text and "CPU cores" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["memory", "reading", "training"])
def test_they_run_from_the_command_line(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    words = {
        "memory": ("packing", "reading"),
        "reading": ("padding", "planning"),
        "training": ("nli, tiny", "emotion, tiny", "ours, length buckets"),
    }
    for word in words[name]:
        assert word in done.stdout
