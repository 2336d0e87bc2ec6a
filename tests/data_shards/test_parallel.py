"""Packing processes that die at the worst moment, and errors that come back from them."""

from __future__ import annotations

import multiprocessing
import time

import psutil
import pytest

from configs.errors import InputError
from data_shards.parallel import encode_in_pool
from data_shards.sample import Sample, TextPair

LARGE = 1 << 20
"""Letters of a text, more than a pipe holds: its sender waits for us to read."""


def load_large(number: int) -> Sample:
    text = "a" * LARGE
    return Sample(key_of(number), "e", text=TextPair(text, text, text, text))


def load_bad(number: int) -> Sample:
    raise ZeroDivisionError("planted")


def key_of(number: int) -> str:
    return f"row-{number}"


def test_a_worker_killed_in_the_middle_of_an_answer() -> None:
    encoded = encode_in_pool(load_large, key_of, iter(range(40)), "flac", processes=2, chunk=2)
    assert next(encoded).key == "row-0"
    workers = [psutil.Process(worker.pid) for worker in multiprocessing.active_children()]
    victim = workers[-1]
    asleep = 0
    while asleep < 20:  # it has answers for us that we do not take
        asleep = asleep + 1 if victim.status() == psutil.STATUS_SLEEPING else 0
        time.sleep(0.01)
    victim.kill()
    with pytest.raises(InputError, match="a packing process was killed"):
        list(encoded)
    assert not any(worker.is_running() for worker in workers)


def test_large_items_and_large_answers_do_not_wait_for_each_other() -> None:
    items = ["b" * LARGE + str(number) for number in range(24)]
    encoded = encode_in_pool(load_long, len_key, iter(items), "flac", processes=2, chunk=2)
    assert [sample.key for sample in encoded] == [len_key(item) for item in items]


def load_long(item: str) -> Sample:
    return Sample(len_key(item), "e", text=TextPair(item, item, item, item))


def len_key(item: str) -> str:
    return f"row-{item[LARGE:]}"


def test_the_traceback_of_an_error_comes_with_it() -> None:
    with pytest.raises(RuntimeError, match="row-0.*planted") as caught:
        list(encode_in_pool(load_bad, key_of, iter(range(4)), "flac", processes=2, chunk=2))
    assert "in load_bad" in "".join(caught.value.__notes__)
