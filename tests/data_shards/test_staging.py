"""Copies of shards on a node's own disk: right to the byte, shared, mended, and never half there."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from configs.beginning import Beginning
from configs.errors import InputError
from configs.load import load_recipe, run_folder, signature
from data_shards.copying import StagingStopped
from data_shards.index import MANIFEST, ShardIndex, open_index
from data_shards.reader import MicroBatches, Request
from data_shards.staging import stage_folder, stage_shards
from tests.faults.small_disk import (
    PAGE,
    fill,
    fill_up,
    free_pages,
    make_room,
    set_read_only,
    small_disk,
)
from tests.ranks import RankPool
from trainers.ranks import beside, staging
from trainers.ranks.stopping import Stopped
from trainers.ranks.world import World
from trainers.run import train

Ranks = Callable[[int], RankPool]


def contents(folder: Path) -> dict[str, bytes]:
    """What reading needs, by name."""
    names = [MANIFEST, *(f"index/{path.name}" for path in (folder / "index").iterdir())]
    names += [path.name for path in folder.glob("*.tar")]
    return {name: (folder / name).read_bytes() for name in names}


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def times(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_ino for name in contents(folder)}


@pytest.fixture
def index(text_shards: Path, tmp_path: Path) -> ShardIndex:
    """Shards that a test may damage."""
    shutil.copytree(text_shards, tmp_path / "shards")
    return open_index(tmp_path / "shards")


def test_a_copy_is_whole_and_private(index: ShardIndex, tmp_path: Path) -> None:
    folder = stage_shards(index, str(tmp_path / "node"))
    assert contents(folder) == contents(index.root)
    assert open_index(folder).keys() == index.keys()
    assert not (folder / "splits").exists()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_dir()}
    assert modes | {stat.S_IMODE(folder.parent.stat().st_mode)} == {0o700}
    assert not any((folder / name).stat().st_mode & 0o277 for name in contents(folder))


def test_only_what_is_not_right_is_copied(index: ShardIndex, tmp_path: Path) -> None:
    stage = str(tmp_path / "node")
    folder = stage_shards(index, stage)
    before, known = times(folder), contents(folder)
    tars = [shard.name for shard in index.manifest.shards]
    assert len(tars) >= 3
    assert stage_shards(index, stage) == folder and times(folder) == before
    damaged, lost = folder / tars[0], folder / tars[1]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.chmod(0o600)
    damaged.write_bytes(content)
    lost.unlink()
    (folder / tars[2]).touch()  # changed, as far as can be seen without reading it
    stage_shards(index, stage)
    assert contents(folder) == known
    after = times(folder)
    assert {name for name in known if before[name] != after[name]} <= {tars[0], tars[1]}
    assert before[tars[0]] != after[tars[0]]


@pytest.mark.parametrize("noted", ["", "[1]", '{"a": 1}', '{"a": [1, 2, 3]}'])
def test_damaged_notes_are_no_harm(noted: str, index: ShardIndex, tmp_path: Path) -> None:
    folder = stage_shards(index, str(tmp_path / "node"))
    (folder / "checked.json").write_text(noted)
    (folder / index.manifest.shards[0].name).unlink()
    stage_shards(index, str(tmp_path / "node"))
    assert contents(folder) == contents(index.root)


def test_other_shards_get_a_copy_of_their_own(index: ShardIndex, tmp_path: Path) -> None:
    folder = stage_shards(index, str(tmp_path / "node"))
    document = json.loads((index.root / MANIFEST).read_text())
    document["labels"] = [f"other {label}" for label in document["labels"]]  # the same columns
    (index.root / MANIFEST).write_text(json.dumps(document))
    other = stage_shards(open_index(index.root), str(tmp_path / "node"))
    assert other != folder and open_index(other).manifest.labels == tuple(document["labels"])


@pytest.mark.parametrize("what", ["tar", "column"])
def test_a_damaged_original(what: str, index: ShardIndex, tmp_path: Path) -> None:
    path = index.shard_path(1) if what == "tar" else index.root / "index" / "crc32.npy"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    named = path if what == "tar" else path.parent
    with pytest.raises(InputError, match=rf"{named}: not what was packed.*pack the corpus again"):
        stage_shards(open_index(index.root), str(tmp_path / "node"))
    assert [name for name in below(tmp_path / "node") if not name.endswith(".lock")] == []


def test_a_killed_copy_is_completed(index: ShardIndex, tmp_path: Path) -> None:
    """Killed at different places, also in the middle of a file."""
    stage = tmp_path / "node"
    context = get_context("fork")
    for limit in (1, 3, 6):
        process = context.Process(target=_stage_and_die, args=(index, str(stage), limit))
        process.start()
        process.join(60)
        assert process.exitcode == 9
    assert list(stage.rglob("*.partial"))
    folder = stage_shards(index, str(stage))
    assert contents(folder) == contents(index.root)
    assert not list(stage.rglob("*.partial"))


def _stage_and_die(index: ShardIndex, stage: str, files: int) -> None:
    """Copy so many files, and end in the middle of the next."""
    calls = 0
    sync = os.fsync

    def dies(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > files:
            os.ftruncate(descriptor, 10)
            os._exit(9)
        sync(descriptor)

    os.fsync = dies  # type: ignore[assignment]
    stage_shards(index, stage)


def test_processes_of_a_node_share_one_copy(index: ShardIndex, tmp_path: Path) -> None:
    """They come at once, and each file is written once."""
    counted = tmp_path / "copied"
    context = get_context("fork")
    jobs = [
        context.Process(target=_count_copies, args=(index, str(tmp_path / "node"), counted)) for _ in range(4)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0
    assert len(counted.read_text().splitlines()) == len(contents(index.root))


def _count_copies(index: ShardIndex, stage: str, counted: Path) -> None:
    sync = os.fsync

    def counts(descriptor: int) -> None:
        with counted.open("a") as stream:
            stream.write("one\n")
        sync(descriptor)

    os.fsync = counts  # type: ignore[assignment]
    assert contents(stage_shards(index, stage)) == contents(index.root)


def test_stopping_while_another_copies(index: ShardIndex, tmp_path: Path) -> None:
    folder = stage_shards(index, str(tmp_path / "node"))
    stop = Event()
    with (folder.parent / f"{folder.name}.lock").open() as lock, ThreadPoolExecutor(1) as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = pool.submit(stage_shards, index, str(tmp_path / "node"), stop)
        assert not waiting.done()
        stop.set()
        with pytest.raises(StagingStopped):
            waiting.result(60)


def test_stopping_keeps_whole_files(index: ShardIndex, tmp_path: Path) -> None:
    stop = Event()
    stop.set()
    with pytest.raises(StagingStopped):
        stage_shards(index, str(tmp_path / "node"), stop)
    assert [name for name in below(tmp_path / "node") if not name.endswith(".lock")] == []
    assert contents(stage_shards(index, str(tmp_path / "node"))) == contents(index.root)


def test_names_of_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISK", "/local")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("NOTHING", "")
    monkeypatch.delenv("UNKNOWN", raising=False)
    assert stage_folder("$DISK/${DISK}x") == Path("/local//localx")
    assert stage_folder("~/stage") == Path("/home/me/stage")
    for stage in ("$UNKNOWN/a", "/a/${UNKNOWN}", "/a/$NOTHING"):
        with pytest.raises(InputError, match=r"'data.stage'.*\$(UNKNOWN|NOTHING) is not set on"):
            stage_folder(stage)
    for stage in ("local", "./local", "~nobody-of-that-name/a"):
        with pytest.raises(InputError, match="whole path"):
            stage_folder(stage)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files to others needs root")
def test_a_name_laid_out_by_another_user(index: ShardIndex, tmp_path: Path) -> None:
    own = tmp_path / "node" / f"sokhan-{os.geteuid()}"
    own.mkdir(parents=True)
    os.chown(own, 61001, 61001)
    with pytest.raises(InputError, match=f"{own}: belongs to another user"):
        stage_shards(index, str(tmp_path / "node"))
    own.rmdir()
    own.symlink_to(tmp_path)
    with pytest.raises(InputError, match=f"{own}: belongs to another user"):
        stage_shards(index, str(tmp_path / "node"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 400) as disk:
        yield disk


def pages(index: ShardIndex) -> int:
    return sum(-(-len(content) // PAGE) for content in contents(index.root).values())


def test_a_disk_without_room(index: ShardIndex, disk: Path) -> None:
    """Known before anything is copied; with room it works, and then on a full or read-only disk."""
    needed = pages(index)
    fill(disk, needed - 1)
    line = rf"{disk}/\S+: no room for a copy of {index.root}: [\d,]+ bytes are needed, [\d,]+ bytes are free"
    with pytest.raises(InputError, match=line):
        stage_shards(index, str(disk))
    assert {name for name in below(disk) if not name.endswith(".lock")} == {"filler"}
    make_room(disk)
    folder = stage_shards(index, str(disk))
    fill_up(disk)
    assert stage_shards(index, str(disk)) == folder
    set_read_only(disk, True)
    assert stage_shards(index, str(disk)) == folder
    assert contents(folder) == contents(index.root)


def test_a_disk_that_others_fill_meanwhile(
    index: ShardIndex, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, calls = os.fsync, 0

    def fills(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            fill_up(disk)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fills)
    free = free_pages(disk)
    told = rf"^{disk}/\S+: cannot be written \(No space left on device\); [\d,]+ bytes are free there"
    with pytest.raises(InputError, match=told):
        stage_shards(index, str(disk))
    assert {name for name in below(disk) if not name.endswith(".lock")} == {"filler"}
    make_room(disk)
    assert free - free_pages(disk) <= 4
    assert contents(stage_shards(index, str(disk))) == contents(index.root)


def test_a_disk_that_may_not_be_written(index: ShardIndex, disk: Path) -> None:
    set_read_only(disk, True)
    with pytest.raises(InputError, match=rf"{disk}/\S+: cannot be written \(Read-only file system\)"):
        stage_shards(index, str(disk))


def recipe(shards: Path, out: Path, stage: str, *more: str) -> list[str]:
    return [
        "--data.shards",
        str(shards),
        "--data.workers",
        "0",
        "--output.folder",
        str(out),
        "--tracking.wandb",
        "off",
        "--data.stage",
        stage,
        *more,
    ]


TEXT = ("demo/bert_full", "--model.vocabulary", "300", "--batching.items", "32")
SPEECH = (
    "demo/hubert",
    "--batching.budget",
    "8",
    "--loop.epochs",
    "1",
    "--loop.max_steps",
    "3",
    "--model.max_seconds",
    "1",
    "--data.balance",
    "reference",
    "--data.split",
    "reference",
    "--data.augment.semitones",
    "[-1,0,1]",
)


def train_on_copy(world: World, name: str, overrides: list[str], stage: str = "") -> tuple[str, list[str]]:
    """The run directory, or what the user is told, and the folders that batches were read from."""
    read: set[str] = set()
    original = MicroBatches.__getitem__

    def notes(dataset: MicroBatches, request: Request) -> Any:
        read.update(str(shards.root) for shards in (dataset.shards, dataset.pitched) if shards)
        return original(dataset, request)

    MicroBatches.__getitem__ = notes  # type: ignore[method-assign]
    if stage:  # another for each rank, as on nodes of their own
        overrides = [*overrides, "--data.stage", f"{stage}/{world.rank}"]
    try:
        return str(train(load_recipe(name, overrides), world, Beginning())), sorted(read)
    except InputError as error:
        return f"error: {error}", []
    finally:
        MicroBatches.__getitem__ = original  # type: ignore[method-assign]


@pytest.mark.parametrize("which", [TEXT, SPEECH], ids=["text", "speech"])
def test_a_training_from_copies_is_the_same(
    which: tuple[str, ...], ranks: Ranks, text_shards: Path, speech_shards: Path, tmp_path: Path
) -> None:
    """On two ranks that each have a disk of their own; splits, pitch-shifted clips and token counts
    stay with the shards."""
    name, *more = which
    shards = tmp_path / "shards"
    shutil.copytree(text_shards if which is TEXT else speech_shards, shards)
    plain, _ = ranks(2).run(train_on_copy, name, recipe(shards, tmp_path / "plain", "", *more))[0]
    beside = {path.name for path in shards.iterdir()}
    overrides = recipe(shards, tmp_path / "staged", "", *more)
    answers = ranks(2).run(train_on_copy, name, overrides, str(tmp_path / "node"))
    staged = Path(answers[0][0])
    assert staged.name == Path(plain).name
    for file in ("metrics.jsonl", "eval/metrics.json", "eval/predictions-test.csv"):
        assert (staged / file).read_bytes() == (Path(plain) / file).read_bytes()
    for rank, (_, read) in enumerate(answers):
        assert len(read) == (1 if which is TEXT else 2)
        assert all(path.startswith(str(tmp_path / "node" / str(rank))) for path in read)
    assert {path.name for path in shards.iterdir()} == beside
    folders = {path.parent.name for path in (tmp_path / "node").rglob("*.npy")}
    assert folders == {"index"}


def test_the_name_of_a_run_says_nothing_of_copies(text_shards: Path, tmp_path: Path) -> None:
    recipes = [load_recipe("demo/bert_full", recipe(text_shards, tmp_path, s)) for s in ("", "/a")]
    assert len({signature(r) for r in recipes}) == len({run_folder(r) for r in recipes}) == 1


def test_ranks_fail_together(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    """One rank's node has no room for a copy: all say so, nothing is made, the next start works."""
    name, *more = TEXT
    node = tmp_path / "node"
    node.mkdir()
    overrides = recipe(text_shards, tmp_path / "runs", "", *more)
    with small_disk(node / "1", 400) as disk:
        fill(disk, 10)
        answers = ranks(2).run(train_on_copy, name, overrides, str(node))
        assert answers[0] == answers[1]
        assert f"error: {disk}/" in answers[0][0] and "no room for a copy" in answers[0][0]
        assert not (tmp_path / "runs" / "bert_full").exists()
        make_room(disk)
        answers = ranks(2).run(train_on_copy, name, overrides, str(node))
        assert (Path(answers[0][0]) / "summary.json").is_file()


def stage_and_stop(world: World, root: Path, stage: str, asked: int) -> str:
    """What comes of it when rank ``asked`` is told to stop meanwhile."""
    original = beside.stop_asked
    beside.stop_asked = lambda: world.rank == asked
    try:
        return str(staging.stage(open_index(root), stage, world))
    except Stopped as stopped:
        return f"stopped: {stopped}"
    finally:
        beside.stop_asked = original


def test_ranks_stop_together(ranks: Ranks, index: ShardIndex, tmp_path: Path) -> None:
    """One of them is told to, while both wait for the copy that a third process makes."""
    node = str(tmp_path / "node")
    folder = stage_shards(index, node)
    with (folder.parent / f"{folder.name}.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answers = ranks(2).run(stage_and_stop, index.root, node, 1)
    assert answers == ["stopped: the shards were still being copied"] * 2
    assert ranks(2).run(stage_and_stop, index.root, node, -1) == [str(folder)] * 2


def test_a_copy_that_decays_is_mended(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    """A bit that flips without a trace in times is found when it is read, and mended by the next."""
    name, *more = TEXT
    index = open_index(text_shards)
    overrides = recipe(text_shards, tmp_path / "runs", str(tmp_path / "node"), *more)
    folder = stage_shards(index, str(tmp_path / "node"))
    tar = folder / index.manifest.shards[0].name
    status = tar.stat()
    content = bytearray(tar.read_bytes())
    content[int(index.offset[0]) + 5] ^= 1
    tar.chmod(0o600)
    tar.write_bytes(content)
    os.utime(tar, ns=(status.st_atime_ns, status.st_mtime_ns))
    line = ranks(1).run(train_on_copy, name, overrides)[0][0]
    assert f"{tar}: sample" in line and "which the next start mends" in line
    assert "error" not in ranks(1).run(train_on_copy, name, overrides)[0][0]
    assert contents(folder) == contents(text_shards)
