"""Telling which rank hangs: real stores, with several ranks' heartbeats in one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from trainers.ranks.beats import Beats, within

INTERVAL, LOOK = 0.1, 2.0


@pytest.fixture
def ranks() -> Iterator[list[Beats]]:
    """Three ranks that have met."""
    store = dist.TCPStore(
        "127.0.0.1", 0, 3, is_master=True, timeout=timedelta(seconds=60), wait_for_workers=False
    )
    beats = [Beats(store, rank, 3, INTERVAL, LOOK) for rank in range(3)]
    store.wait([f"sokhan/beat/{rank}" for rank in range(3)])
    yield beats
    for one in beats:
        one.stop()


def found_by(ranks: list[Beats], *survivors: int) -> list[list[int]]:
    """What those find whose exchange has timed out, all at about the same time."""
    with ThreadPoolExecutor(len(survivors)) as pool:
        return list(pool.map(lambda rank: ranks[rank].find_hung(), survivors))


def beaten(ranks: list[Beats]) -> None:
    """Wait until every heart has beaten again with the counts of now."""
    time.sleep(1.0)


def test_a_rank_whose_heart_stands_still(ranks: list[Beats]) -> None:
    """A stopped process or a lost machine; that others have entered less counts less."""
    ranks[0].count = ranks[2].count = 10
    beaten(ranks)
    ranks[2].stop()
    beaten(ranks)
    assert found_by(ranks, 0) == [[2]]


def test_a_rank_that_lives_but_does_not_come(ranks: list[Beats]) -> None:
    """In an endless loop, say. The other that waits has told so."""
    for rank, count in enumerate((10, 10, 9)):
        ranks[rank].count = count
    beaten(ranks)
    assert found_by(ranks, 0, 1) == [[2], [2]]


def test_fewest_exchanges_where_a_third_rank_is_slow_to_give_up(ranks: list[Beats]) -> None:
    for rank, count in enumerate((10, 10, 9)):
        ranks[rank].count = count
    beaten(ranks)
    assert found_by(ranks, 0) == [[2]]


def test_nobody_is_named_when_all_have_given_up(ranks: list[Beats]) -> None:
    assert found_by(ranks, 0, 1, 2) == [[], [], []]


def test_only_one_is_first(ranks: list[Beats]) -> None:
    assert [rank.first("failed") for rank in ranks] == [True, False, False]
    assert Beats(None, 0, 1).first("failed") is True
    assert Beats(None, 0, 1).find_hung() == []


def test_an_answer_is_not_waited_for_too_long() -> None:
    gate = threading.Event()
    assert within(60, lambda: 3) == 3
    assert within(0.1, gate.wait) is None
    gate.set()
    with pytest.raises(ZeroDivisionError):
        within(60, lambda: 1 / 0)
