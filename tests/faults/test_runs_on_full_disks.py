"""Whole trainings on a disk that is full, read-only, or grows: one line each time, and in the end the
numbers of a run that was never disturbed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.beginning import Beginning
from configs.errors import InputError
from configs.load import load_recipe, run_folder
from tests.faults.small_disk import fill, fill_up, free_pages, make_room, set_read_only, small_disk
from tests.launch.launched import Launched, launched
from tests.ranks import RankPool
from trainers.checkpoints.checkpoint import CHECKPOINTS, Checkpoint, list_checkpoints
from trainers.files.disk import telling_of_disks
from trainers.ranks.world import World
from trainers.run import train

Ranks = Callable[[int], RankPool]
NAME = "demo/bert_full"
PAGES = 6000
"""A run takes about 4000."""


def overrides(shards: Path, out: Path, items: int) -> list[str]:
    return [
        "--data.shards",
        str(shards),
        "--data.workers",
        "0",
        "--model.vocabulary",
        "300",
        "--batching.items",
        str(items),
        "--batching.micro_batches",
        "2",
        "--loop.epochs",
        "2",
        "--loop.log_every",
        "1",
        "--output.folder",
        str(out),
        "--output.name",
        "run",
        "--tracking.wandb",
        "off",
    ]


def try_train(world: World, arguments: list[str]) -> str:
    """Train; returns the line that a user would see."""
    recipe = load_recipe(NAME, arguments)
    try:
        with telling_of_disks(run_folder(recipe)):
            train(recipe, world, Beginning())
    except InputError as error:
        return str(error)
    return ""


def is_told(line: str, disk: Path) -> bool:
    """Whether a line says which file could not be written, and the room that is left."""
    told = r"/\S+: cannot be written \(No space left on device\); [\d,]+ bytes are free there"
    return re.fullmatch(re.escape(str(disk)) + told, line) is not None


def leftovers(disk: Path) -> list[Path]:
    """What is only there while something is written."""
    return [path for path in disk.rglob("*") if re.match(r"\.|.*\.partial", path.name)]


@pytest.fixture(scope="module")
def undisturbed(
    ranks: Ranks, text_shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int, int], bytes]:
    """metrics.jsonl of a run on so many ranks with batches of so many items."""

    def metrics(size: int, items: int) -> bytes:
        out = tmp_path_factory.mktemp("undisturbed")
        assert not any(ranks(size).run(try_train, overrides(text_shards, out, items)))
        return (out / "bert_full" / "run" / "metrics.jsonl").read_bytes()

    return metrics


def test_a_run_whose_disk_grows(
    ranks: Ranks, text_shards: Path, undisturbed: Callable[[int, int], bytes], tmp_path: Path
) -> None:
    """From no room at all, through every file of a start, the saves and the export, to enough."""
    with small_disk(tmp_path / "disk", PAGES) as disk:
        arguments = overrides(text_shards, disk, 16)
        run = disk / "bert_full" / "run"
        lines = []
        room = [*range(17), 300, 800, 1200, 1500, 2000, 2700, 3100, 3200, 3400, PAGES]
        for pages in room:
            (disk / "filler").unlink(missing_ok=True)
            used = PAGES - free_pages(disk)
            fill(disk, max(0, pages - used))
            saved = [path.name for path in list_checkpoints(run / CHECKPOINTS)]
            line = ranks(1).run(try_train, arguments)[0]
            if not line:
                break
            assert is_told(line, disk), line
            assert leftovers(disk) == [], line
            kept = list_checkpoints(run / CHECKPOINTS)
            assert {path.name for path in kept} >= set(saved)
            for path in kept:
                Checkpoint(path).verify()
            lines.append(line)
        assert not line
        assert any(".saving-step-9-" in line for line in lines)
        assert any(".saving-step-18-" in line for line in lines)
        assert ".saving-" not in lines[0] and ".saving-" not in lines[-1]
        assert (run / "metrics.jsonl").read_bytes() == undisturbed(1, 16)


@pytest.mark.slow
def test_commands_on_full_and_read_only_disks(
    text_shards: Path, undisturbed: Callable[[int, int], bytes], tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", PAGES) as disk:
        command = ["launch", "train", NAME, "--ranks", "2", *overrides(text_shards, disk, 2)]
        run = disk / "bert_full" / "run"

        fill(disk, 10)  # too little even for what is written before the first step
        with launched(command, tmp_path / "little.txt") as started:
            _assert_fails_with_a_line(started, disk)
        make_room(disk)

        with launched(command, tmp_path / "full.txt") as started:
            started.until(lambda: bool(list_checkpoints(run / CHECKPOINTS)))
            fill_up(disk)  # the next line of metrics.jsonl, or the next checkpoint, does not fit
            _assert_fails_with_a_line(started, disk)
        saved = list_checkpoints(run / CHECKPOINTS)
        for path in saved:
            Checkpoint(path).verify()

        set_read_only(disk, True)
        with launched(command, tmp_path / "read-only.txt") as started:
            assert started.wait() == 2, started.output
            assert not started.marked()
            [line] = started.output.splitlines()
            assert line.startswith(f"error: {disk}/bert_full") and "Read-only file system" in line
        set_read_only(disk, False)
        assert list_checkpoints(run / CHECKPOINTS) == saved

        make_room(disk)
        with launched(command, tmp_path / "room.txt") as started:
            assert started.wait() == 0, started.output
            assert "goes on after step" in started.output
        assert (run / "metrics.jsonl").read_bytes() == undisturbed(2, 2)


def _assert_fails_with_a_line(started: Launched, disk: Path) -> None:
    assert started.wait() == 2, started.output
    assert not started.marked()
    *_, last = started.output.splitlines()
    assert is_told(last.removeprefix("error: "), disk), started.output
    assert started.output.count("error: ") == 1 and "Traceback" not in started.output
    assert leftovers(disk) == []
