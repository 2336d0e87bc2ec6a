"""Ranks that meet, exchange, and tell each other's trouble from their own."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from configs.errors import InputError
from configs.rank_status import FAILED, STATUS, read_statuses
from tests.conftest import REPOSITORY
from tests.ranks import RankPool
from trainers.ranks.beats import RankHangs
from trainers.ranks.world import World, _meet

Ranks = Callable[[int], RankPool]
SOON = timedelta(seconds=2)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Where ranks meet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = int(probe.getsockname()[1])
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(free))
    return free


@pytest.mark.usefixtures("port")
def test_ranks_that_do_not_come_are_named() -> None:
    with pytest.raises(RankHangs, match=r"rank\(s\) \[1, 2\] have not started within 0\.03"):
        _meet(0, 3, SOON)


@pytest.mark.usefixtures("port")
def test_a_missing_first_rank_is_named() -> None:
    with pytest.raises(RankHangs, match="rank 0 has not started"):
        _meet(1, 2, SOON)


def test_a_taken_port_is_worth_another_start(port: int, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        ended = subprocess.run(
            [sys.executable, "-m", "trainers", "--config", "demo/bert_full", "--data.shards", "none"],
            cwd=REPOSITORY,
            timeout=300,
            env={**os.environ, "RANK": "0", "WORLD_SIZE": "2", STATUS: str(tmp_path)},
        )
    word = read_statuses(tmp_path, 1)[0]
    assert (ended.returncode, word.code, word.state) == (FAILED, FAILED, "hung_peer")
    assert word.text == f"error: port {port} of 127.0.0.1 is taken by another process; start again"


def test_ranks_of_another_start_are_not_taken_for_ones_own(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Theirs found the port taken, by us."""
    other = dist.TCPStore("127.0.0.1", port, 2, is_master=True, wait_for_workers=False)
    other.set("sokhan/joined/theirs/0", "")
    monkeypatch.setenv(STATUS, "ours")
    with pytest.raises(RankHangs, match=r"rank\(s\) \[0\] have not started"):
        _meet(1, 2, SOON)
    assert other.check(["sokhan/joined/ours/1"])


def exchange(world: World) -> list[Any]:
    """Every kind of exchange, and how many were counted."""
    before = world.beats.count
    answers = [
        world.sum([1.0, world.rank]),
        world.gather(world.rank),
        world.on_main(lambda: f"made by {world.rank}"),
        world.main_first(lambda: f"made by {world.rank}"),
    ]
    world.barrier()
    return [*answers, world.beats.count - before]


def test_exchanges_are_counted(ranks: Ranks) -> None:
    first, second = ranks(2).run(exchange)
    assert first == [[2.0, 1.0], [0, 1], "made by 0", "made by 0", 5]
    assert second == [[2.0, 1.0], [0, 1], "made by 0", "made by 1", 5]


def work_of_main(world: World) -> list[Any]:
    """Which ranks did it, the exchanges that were counted meanwhile, and what every rank raised."""
    done: list[int] = []
    before = world.beats.count

    def work() -> int:
        done.append(world.rank)
        return world.beats.count - before

    def fail() -> None:
        done.append(world.rank)
        raise InputError(f"shards: rank {world.rank} finds none")

    counted = world.on_main(work)
    told = []
    for share in (world.on_main, world.main_first):
        with pytest.raises(InputError) as error:
            share(fail)
        told.append(str(error.value))
    return [done, counted, told, world.gather(world.rank)]


def test_rank_0_works_for_all_and_fails_for_all(ranks: Ranks) -> None:
    """While it works it has not entered the exchange: if it hangs, it is seen to be the one that does."""
    told = ["shards: rank 0 finds none"] * 2
    assert ranks(2).run(work_of_main) == [[[0, 0, 0], 0, told, [0, 1]], [[], 0, told, [0, 1]]]
    assert ranks(1).run(work_of_main) == [[[0, 0, 0], 0, told, [0]]]


def kept_by_an_error(world: World) -> bool:
    """Whether what a caller held outlives the error that it was told."""

    def fail() -> None:
        raise InputError("shards: none")

    def caller() -> weakref.ref[Any]:
        held = {"a lock"}
        with contextlib.suppress(InputError):
            inner(held)
        return weakref.ref(held)

    def inner(held: Any) -> None:
        world.on_main(fail)

    gc.disable()
    try:
        return caller()() is not None
    finally:
        gc.enable()


def test_an_error_keeps_nothing(ranks: Ranks) -> None:
    """Such as the lock on a run directory, which another start could not get."""
    assert ranks(2).run(kept_by_an_error) == [False, False]


def whose_errors(world: World) -> list[bool]:
    """Whether errors are taken for another rank's trouble."""
    found: list[bool] = []
    for provoke in (
        lambda: dist.new_group([0, 99]),
        lambda: torch.ones(2) @ torch.ones(3),
        # Nobody sets it, so this times out.
        lambda: dist.distributed_c10d._get_default_store().wait(["never"], timedelta(seconds=0.1)),
    ):
        try:
            provoke()
        except Exception as error:
            found.append(world.lost_peer(error))
    return found


def test_own_errors_are_told_from_those_of_connections(ranks: Ranks) -> None:
    assert ranks(2).run(whose_errors) == [[False, False, True]] * 2
    assert ranks(1).run(whose_errors) == [[False, False, False]]
