"""Long work before a training: ranks exchange words meanwhile, and fail and stop as one."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event

import pytest

from configs.errors import InputError
from tests.ranks import RankPool
from trainers.ranks import beside as module
from trainers.ranks.beside import beside, main_first_beside
from trainers.ranks.stopping import Stopped
from trainers.ranks.world import World

Ranks = Callable[[int], RankPool]


def work_long(world: World) -> tuple[int, int]:
    """Rank 0 works until the ranks have exchanged three words; what comes of it, and words since."""
    before = world.beats.count

    def work(stop: Event) -> int:
        for _ in range(600):
            if world.rank or world.beats.count >= before + 3:
                return world.rank
            time.sleep(0.1)
        raise AssertionError("the ranks have exchanged nothing")

    return beside(world, work, "working"), world.beats.count - before


def work_badly(world: World) -> str:
    """Rank 1 finds something wrong at once; rank 0 ends when it is told to."""

    def work(stop: Event) -> None:
        if world.rank == 1:
            raise InputError("row 7 is wrong")
        assert stop.wait(60)
        raise RuntimeError("given up")

    try:
        beside(world, work, "working")
    except InputError as error:
        return str(error)
    return "no error"


def work_and_stop(world: World) -> str:
    """Rank 1 hears a signal while rank 0 works."""

    def work(stop: Event) -> None:
        assert world.rank == 1 or stop.wait(60)

    original = module.stop_asked
    module.stop_asked = lambda: world.rank == 1
    try:
        beside(world, work, "working")
    except Stopped as stopped:
        return str(stopped)
    finally:
        module.stop_asked = original
    return "not stopped"


def find_made(world: World) -> list[int]:
    """Who works, in this order of ranks."""
    order: list[int] = []

    def work(stop: Event) -> int:
        order.append(world.rank)
        return world.rank

    main_first_beside(world, work, "working")
    return order


def test_ranks_exchange_words_while_one_works(ranks: Ranks) -> None:
    answers = ranks(2).run(work_long)
    assert [result for result, _ in answers] == [0, 1]
    assert all(words >= 3 for _, words in answers)


def test_the_error_of_one_ends_all(ranks: Ranks) -> None:
    assert ranks(2).run(work_badly) == ["row 7 is wrong"] * 2


def test_a_signal_to_one_stops_all(ranks: Ranks) -> None:
    assert ranks(2).run(work_and_stop) == ["working"] * 2


@pytest.mark.parametrize("size", [1, 2])
def test_every_rank_works_once(size: int, ranks: Ranks) -> None:
    assert ranks(size).run(find_made) == [[rank] for rank in range(size)]
