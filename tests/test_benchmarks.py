"""The benchmarks run, and what they are there to show holds; never how long anything takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import memory, reading
from benchmarks.corpora import packed, text_corpus
from data_shards.index import open_index
from data_shards.plan import Batching, Entries, plan_epoch

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
    assert (
        abs(np.median(lengths) / 50 - 3.1) < 0.2 and abs(np.quantile(lengths, 0.95) / 50 - 10.8) < 1
    )
    entries, shards = Entries(np.arange(3000), np.zeros(3000, np.int32)), np.zeros(3000, np.int32)
    shares = [
        reading.padding(
            plan_epoch(entries, lengths, shards, seed=0, epoch=1, batching=cut), lengths
        )
        for cut in (Batching(1, budget=4000), Batching(1, items=16))
    ]
    assert shares[0] < 0.05 and 0.5 < shares[1] < 0.8


def test_a_listing_of_generated_text_takes_no_memory() -> None:
    corpus = text_corpus(10**9)
    assert len(corpus.items) == 10**9 and corpus.key(corpus.items[7]) == "pair-000000007"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["memory", "reading"])
def test_they_run_from_the_command_line(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for word in {"memory": ("packing", "reading"), "reading": ("padding", "planning")}[name]:
        assert word in done.stdout
