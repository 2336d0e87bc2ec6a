"""A full or read-only disk is told in one line; what was saved before stays, and nothing half-written."""

from __future__ import annotations

import errno
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from configs.errors import InputError
from configs.schema import CheckpointConfig
from tests.faults.damage import Warnings, digest, facts_of, make_run
from tests.faults.small_disk import fill, free_pages, make_room, set_read_only, small_disk
from tests.ranks import RankPool
from trainers.checkpoints.checkpoint import CHECKPOINTS, Checkpoint, list_checkpoints
from trainers.checkpoints.rewind import rewind
from trainers.checkpoints.saving import Saver
from trainers.checkpoints.sharding import MOMENTS, WEIGHTS, Piece
from trainers.files.disk import telling_of_disks
from trainers.ranks.world import World

Ranks = Callable[[int], RankPool]
FIRST, NEXT = "step-10-evaluated", "step-20-evaluated"
OFFSETS = 100
GROUPS = ("optimizer", "weights")


def pieces(rank: int, elements: int = 50_000) -> list[Piece]:
    """A rank's own tensor and its moments."""
    tensor = torch.arange(elements, dtype=torch.float32) + rank
    name = f"rank{rank}"
    return [Piece(kind, name, (elements,), 0, tensor) for kind in (WEIGHTS, *MOMENTS)]


def save(world: World, run: Path, tag: str, own: list[Piece], config: CheckpointConfig) -> str:
    """Save through a Saver; returns what is wrong."""
    saver = Saver(run, world, config, "test")
    try:
        saver.start(tag, 0, own, facts_of(tag, FIRST), time.monotonic())
        saver.wait()
    except InputError as error:
        return str(error)
    return ""


def save_at_offsets(world: World, disk: Path) -> tuple[list[str], list[str]]:
    """Save into every amount of room from none to a page too little; returns what went wrong, and
    the files that could not be written."""
    run, config = disk / "run", CheckpointConfig(keep=9)
    assert not save(world, run, FIRST, pieces(0), config)
    expected = digest(Checkpoint(run / CHECKPOINTS / FIRST))
    before = free_pages(disk)
    assert not save(world, run, NEXT, pieces(0), config)
    size = before - free_pages(disk)
    for path in (run / CHECKPOINTS / NEXT).iterdir():
        path.unlink()
    (run / CHECKPOINTS / NEXT).rmdir()
    assert size > OFFSETS and free_pages(disk) == before

    wrong, files = [], set()
    for number in range(OFFSETS):
        left = round(number * (size - 1) / (OFFSETS - 1))
        fill(disk, left)
        problem = save(world, run, NEXT, pieces(0), config)
        files.add(re.split("[/:]", problem.partition(": cannot")[0])[-1])
        kept = [path.name for path in (run / CHECKPOINTS).iterdir()]
        first = Checkpoint(run / CHECKPOINTS / FIRST)
        first.verify()
        first.check_training()
        fine = is_full(problem, run) and kept == [FIRST] and digest(first) == expected
        if not fine or free_pages(disk) != left:
            wrong.append(f"{left} of {size} pages: {problem!r}, {kept}, {free_pages(disk)} free")
    make_room(disk)
    assert not save(world, run, NEXT, pieces(0), config)
    return wrong, sorted(files)


def is_full(problem: str, run: Path) -> bool:
    """Whether it is the one line that it should be."""
    line = r"/\S+: cannot be written \(No space left on device\); [\d,]+ bytes are free there"
    return re.fullmatch(re.escape(str(run)) + line, problem) is not None


def test_a_full_disk_at_100_offsets(ranks: Ranks, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1000) as disk:
        [(wrong, files)] = ranks(1).run(save_at_offsets, disk)
    assert not wrong, f"{len(wrong)} of {OFFSETS}, the first: {wrong[0]}"
    written = ["SHA256SUMS", "checkpoint.json", *(f"{group}-00000.safetensors" for group in GROUPS)]
    assert files == written


def save_with_little_room(world: World, disk: Path, left: int) -> tuple[str, list[str]]:
    """Rank 0 has nothing to write, so that only rank 1 can fail."""
    config, nothing = CheckpointConfig(), list[Piece]()
    assert not save(world, disk / "run", FIRST, pieces(world.rank), config)
    if world.main:
        fill(disk, left)
    world.barrier()
    own = pieces(1) if world.rank == 1 else nothing
    problem = save(world, disk / "run", NEXT, own, config)
    world.barrier()
    Checkpoint(disk / "run" / CHECKPOINTS / FIRST).verify(world.rank, world.size)
    return problem, [path.name for path in (disk / "run" / CHECKPOINTS).iterdir()]


def test_all_ranks_tell_of_the_one_that_could_not_write(ranks: Ranks, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1000) as disk:
        (one, kept), (other, _) = ranks(2).run(save_with_little_room, disk, 30)
        assert one == other and is_full(one, disk / "run")
        assert f".saving-{NEXT}-test/weights-00001.safetensors" in one
        assert kept == [FIRST]


def save_and_drop(world: World, run: Path, config: CheckpointConfig) -> tuple[str, list[str], list[str]]:
    """What is wrong, what is warned of, and the files that there are then."""
    with Warnings() as warnings:
        problem = save(world, run, NEXT, pieces(0), config)
    for path in list_checkpoints(run / CHECKPOINTS):
        Checkpoint(path).verify()
    return (
        problem,
        warnings.lines,
        sorted(str(path.relative_to(run)) for path in run.glob("checkpoints/*/*")),
    )


def test_no_room_to_drop_what_is_kept_no_longer(ranks: Ranks, tmp_path: Path) -> None:
    """The new checkpoint is safe by then, and dropping the older one's optimizer takes a page: training
    goes on, with a warning."""
    config = CheckpointConfig(optimizer="newest")
    with small_disk(tmp_path / "disk", 1000) as disk:
        empty = free_pages(disk)
        assert ranks(1).run(save, disk / "run", FIRST, pieces(0), config) == [""]
        fill(disk, empty - free_pages(disk))
        [(problem, [line], files)] = ranks(1).run(save_and_drop, disk / "run", config)
        assert not problem and f"{FIRST}/SHA256SUMS: cannot be written (No space left" in line
        assert len(files) == 8 and not any("/." in file for file in files)
        make_room(disk)
        assert ranks(1).run(save, disk / "run", "step-30", pieces(0), config) == [""]
        assert len(list(disk.glob("run/checkpoints/*/optimizer-*"))) == 1


def test_no_room_for_another_runs_checkpoint(tmp_path: Path) -> None:
    """Going on from it takes a copy: what has no room leaves nothing half-copied."""
    run = make_run(tmp_path / "other", FIRST) / "run"
    checkpoint = Checkpoint(run / CHECKPOINTS / NEXT)
    with small_disk(tmp_path / "disk", 1000) as disk:
        own = disk / "run" / CHECKPOINTS
        own.mkdir(parents=True)
        told = []
        for left in range(free_pages(disk)):
            fill(disk, left)
            try:
                rewind(disk / "run", checkpoint)
                break
            except InputError as error:
                told.append(str(error))
            make_room(disk)
            assert {path.name for path in own.iterdir()} <= {FIRST}
            for path in list_checkpoints(own):
                Checkpoint(path).verify()
        assert len(told) > 5 and all(is_full(line, disk / "run") for line in told)
        assert digest(Checkpoint(own / NEXT)) == digest(checkpoint)


def test_a_read_only_disk(ranks: Ranks, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1000) as disk:
        run, config = disk / "run", CheckpointConfig()
        assert ranks(1).run(save, run, FIRST, pieces(0), config) == [""]
        set_read_only(disk, True)
        [(problem, _, files)] = ranks(1).run(save_and_drop, run, config)
        assert problem.startswith(f"{run / CHECKPOINTS}/.saving-{NEXT}-test: cannot be written (Read-only")
        assert len(files) == 4
        set_read_only(disk, False)
        [(problem, _, files)] = ranks(1).run(save_and_drop, run, config)
        assert not problem and len(files) == 8


FULL = "cannot be written (No space left on device)"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a"), f"/a: {FULL}"),
        (OSError(errno.ENOSPC, "No space left on device", "/from", None, "/to"), f"/to: {FULL}"),
        (OSError(errno.ENOSPC, "No space left on device"), f"/run: {FULL}"),
        (shutil.Error([("/from", "/to", "[Errno 28] No space: '/from'")]), f"/to: {FULL}"),
        (Exception("No space left on device (os error 28)"), f"/run: {FULL}"),  # of tokenizers
        (
            OSError(errno.EROFS, "Read-only file system", "/a"),
            "/a: cannot be written (Read-only file",
        ),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), None),
        (FileNotFoundError(errno.ENOENT, "No such file", "/a"), None),
        (RuntimeError("28"), None),
        (InputError("[Errno 28] is what the user typed"), None),
    ],
)
def test_only_a_disks_errors_are_told_as_such(error: Exception, told: str | None) -> None:
    with pytest.raises(Exception) as caught, telling_of_disks(Path("/run")):
        raise error
    if told is None:
        assert caught.value is error
    else:
        assert isinstance(caught.value, InputError) and str(caught.value).startswith(told)
        assert str(caught.value).endswith(" bytes are free there")
