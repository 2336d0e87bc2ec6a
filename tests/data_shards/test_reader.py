"""What is read is what was packed, whoever reads it, and damage is told and not trained on."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from configs.errors import InputError, MachineFault
from configs.schema import AugmentConfig
from data_shards.index import open_index
from data_shards.plan import Batching, Entries, EpochPlan, plan_epoch, select_entries
from data_shards.reader import (
    Augmentation,
    MicroBatches,
    RankRequests,
    Request,
    ShardReader,
    open_loader,
)
from data_shards.sample import decode_audio, decode_text
from data_shards.splits import load_split
from tests.data_shards.reading import as_it_is, deadly
from tests.data_shards.reads import stuck
from tests.data_shards.tiny import tiny_index


def members(root: Path) -> dict[str, bytes]:
    """Every member of every tar, read without our code."""
    found = {}
    for path in root.glob("*.tar"):
        with tarfile.open(path) as tar:
            for info in tar:
                content = tar.extractfile(info)
                assert content is not None
                found[info.name] = content.read()
    return found


def test_clips_are_what_was_packed(speech_shards: Path) -> None:
    shards, packed = ShardReader(speech_shards), members(speech_shards)
    labels = shards.index.manifest.labels
    assert 2 * len(shards.index) == len(packed)
    for row, key in enumerate(shards.index.keys()):
        item = shards.item(row)
        assert item.row == row and item.text is None and item.audio is not None
        assert (item.audio == decode_audio(packed[f"{key}.wav"])).all()
        assert len(item.audio) == shards.index.length[row]
        assert labels[item.label] == json.loads(packed[f"{key}.json"])["label"]


def test_pairs_are_what_was_packed(text_shards: Path) -> None:
    shards, packed = ShardReader(text_shards), members(text_shards)
    for row, key in enumerate(shards.index.keys()):
        item = shards.item(row)
        assert item.audio is None and item.text == decode_text(packed[f"{key}.json"])
        assert shards.payload(row) == packed[f"{key}.json"]


def test_rows_are_found_by_key(text_shards: Path) -> None:
    shards = ShardReader(text_shards)
    keys = shards.index.keys()
    assert [shards.row_of(key) for key in keys] == list(range(len(keys)))
    for key in ("", "a", "zzz", keys[0] + "x"):
        with pytest.raises(InputError, match="has no sample"):
            shards.row_of(key)


@pytest.fixture
def damaged(speech_shards: Path, tmp_path: Path) -> tuple[Path, int, str]:
    """A copy with one flipped bit in the middle of a clip: (folder, row, what must be named)."""
    root = tmp_path / "damaged"
    shutil.copytree(speech_shards, root)
    index, row = open_index(root), 17
    path = index.shard_path(int(index.shard[row]))
    with path.open("r+b") as stream:
        middle = int(index.offset[row]) + int(index.size[row]) // 2
        stream.seek(middle)
        (byte,) = stream.read(1)
        stream.seek(middle)
        stream.write(bytes([byte ^ 1]))
    return root, row, f"{path}: sample {index.key(row)!r} is damaged"


def test_a_flipped_bit_is_noticed(damaged: tuple[Path, int, str]) -> None:
    root, row, words = damaged
    shards = ShardReader(root)
    with pytest.raises(InputError) as caught:
        shards.item(row)
    assert str(caught.value).startswith(words) and len(str(caught.value).splitlines()) == 1
    assert shards.item(row + 1).audio is not None and shards.item(row - 1).audio is not None


def test_a_shard_cut_after_opening_is_noticed(damaged: tuple[Path, int, str]) -> None:
    shards = ShardReader(damaged[0])
    last = int(np.flatnonzero(shards.index.shard == shards.index.shard[0])[-1])
    shards.item(0)
    os.truncate(shards.index.shard_path(int(shards.index.shard[0])), int(shards.index.offset[last]))
    with pytest.raises(InputError, match="is damaged; pack the corpus again"):
        shards.item(last)


def open_tars(root: Path) -> int:
    """Tars of a folder that this process has open."""
    count = 0
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:  # the listing's own
            continue
        count += link.startswith(str(root)) and link.endswith(".tar")
    return count


def test_few_tars_are_open_at_a_time(tmp_path: Path) -> None:
    keys = [f"k{n}" for n in range(200)]
    root = tiny_index(tmp_path / "many", keys, ["x"] * 200, samples_per_shard=2).root
    shards = ShardReader(root)
    assert len(shards.index.manifest.shards) == 100 and open_tars(root) == 0
    most = 0
    for row in np.random.Generator(np.random.PCG64(0)).permutation(200).tolist():
        assert shards.payload(row) == b"{}"
        most = max(most, open_tars(root))
    assert 1 < most <= 32
    copy = pickle.loads(pickle.dumps(shards))
    assert copy.payload(3) == b"{}" and copy._tars.keys() == {1}
    del shards, copy
    assert open_tars(root) == 0


def plan_of(root: Path, balance: str = "none", micro_batches: int = 4, items: int = 12) -> EpochPlan:
    index = open_index(root)
    rows = load_split(index).rows("train")
    entries = select_entries(rows, np.asarray(index.label)[rows], balance, 0)  # type: ignore[arg-type]
    return plan_epoch(
        entries,
        index.length,
        index.shard,
        seed=0,
        epoch=1,
        batching=Batching(micro_batches, items=items),
    )


def facts(request: Request) -> tuple[object, ...]:
    where = (request.epoch, request.step, request.micro_batch, request.counted)
    return (*where, request.rows.tolist(), request.copies.tolist())


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_requests_of_all_ranks_are_the_plan(speech_shards: Path, ranks: int) -> None:
    plan = plan_of(speech_shards, "reference")
    expected = [
        (
            1,
            n // 4,
            n % 4,
            bool(plan.counted[n]),
            plan.rows[a:b].tolist(),
            plan.copies[a:b].tolist(),
        )
        for n, (a, b) in enumerate(zip(plan.offsets, plan.offsets[1:], strict=False))
    ]
    samplers = [RankRequests(plan, 1, rank, ranks) for rank in range(ranks)]
    assert {len(sampler) for sampler in samplers} == {plan.steps * 4 // ranks}
    asked = [facts(request) for sampler in samplers for request in sampler]
    assert sorted(asked, key=str) == sorted(expected, key=str)
    late = [facts(r) for rank in range(ranks) for r in RankRequests(plan, 1, rank, ranks, 2)]
    assert sorted(late, key=str) == sorted((e for e in expected if e[1] >= 2), key=str)


def read(root: Path, workers: int, rank: int = 0, ranks: int = 1) -> Iterator[tuple[object, ...]]:
    """An epoch with noise and shifts, which must not depend on who draws them."""
    changes = Augmentation(AugmentConfig(semitones=(0,)), seed=5, pitched=None)
    requests = RankRequests(plan_of(root, "reference"), 1, rank, ranks)
    return open_loader(MicroBatches(root, as_it_is, changes), requests, workers, pin=False)


def test_other_processes_read_the_same_batches(speech_shards: Path) -> None:
    here = list(read(speech_shards, workers=0))
    assert len(here) == plan_of(speech_shards, "reference").steps * 4
    assert list(read(speech_shards, workers=2)) == here
    both = [batch for rank in (0, 1) for batch in read(speech_shards, 0, rank, 2)]
    assert sorted(both, key=lambda b: b[1:3]) == here  # type: ignore[arg-type, return-value]


def whole(root: Path) -> RankRequests:
    """All rows in order, eight a step."""
    n = len(open_index(root))
    offsets = np.arange(0, n + 1, 8, dtype=np.int64)
    counted = np.ones(len(offsets) - 1, np.bool_)
    return RankRequests(EpochPlan(np.arange(n), np.zeros(n, np.int32), offsets, counted, 1), 1, 0, 1)


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_is_one_line_from_any_process(damaged: tuple[Path, int, str], workers: int) -> None:
    root, row, words = damaged
    loader = open_loader(MicroBatches(root, as_it_is, None), whole(root), workers, pin=False)
    for _ in range(row // 8):
        next(loader)  # what comes before it is read
    with pytest.raises(InputError) as caught:
        next(loader)
    assert str(caught.value).startswith(words) and len(str(caught.value).splitlines()) == 1


def test_a_killed_process_is_one_line(text_shards: Path) -> None:
    requests = whole(text_shards)
    loader = open_loader(MicroBatches(text_shards, deadly, None), requests, 1, pin=False)
    with pytest.raises(InputError, match="a reading process was killed.* --data.workers$"):
        list(loader)


def test_a_process_that_hangs_is_given_up(text_shards: Path) -> None:
    """A rank that trains alone has no others who would notice."""
    requests = whole(text_shards)
    loader = open_loader(MicroBatches(text_shards, stuck, None), requests, 1, False, patience=6.0)
    with pytest.raises(MachineFault, match="no batch has come for 0.1 min: a reading process hangs"):
        list(loader)


def test_what_is_sent_to_a_process_is_small(speech_shards: Path) -> None:
    dataset = MicroBatches(speech_shards, as_it_is, None)
    dataset[Request(1, 0, 0, np.arange(90), np.zeros(90, np.int32), True)]  # everything is open
    assert len(pickle.dumps(dataset)) < 1000


def test_entries_are_read_in_the_plans_order(text_shards: Path) -> None:
    entries = Entries(np.array([5, 3, 5, 0]), np.zeros(4, np.int32))
    request = Request(1, 0, 0, entries.rows, entries.copies, True)
    batch = MicroBatches(text_shards, as_it_is, None)[request]
    assert [fact[0] for fact in batch[-1]] == [5, 3, 5, 0]
