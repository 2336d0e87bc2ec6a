"""Reading processes work on when all of a job is signalled, and end with the one they read for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from configs.lifetime import STOP_SIGNALS


@contextmanager
def reading(shards: Path, collate: str) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """The process, and those that it has started. "stuck": both that read are so."""
    command = [sys.executable, "-m", "tests.data_shards.reads", str(shards), collate]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            expected = ["ready", "stuck", "stuck"] if collate == "stuck" else ["ready"]
            assert sorted(answer(process) for _ in expected) == expected
            yield process, psutil.Process(process.pid).children(recursive=True)
        finally:
            process.kill()


def answer(process: subprocess.Popen[str], question: str = "") -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    if question:
        process.stdin.write(question + "\n")
        process.stdin.flush()
    return process.stdout.readline().strip()


def test_signals_leave_them_at_work(text_shards: Path) -> None:
    with reading(text_shards, "step_of") as (process, helpers):
        assert len(helpers) >= 4  # the fork server, two that read, Python's resource tracker
        for helper in helpers:
            for number in STOP_SIGNALS:
                helper.send_signal(number)
        # More than are read ahead.
        assert [answer(process, "next") for _ in range(60)] == [str(n) for n in range(60)]
        assert all(helper.is_running() for helper in helpers)
        assert answer(process, "close") == "closed"
        assert process.wait(60) == 0
        assert psutil.wait_procs(helpers, timeout=60)[1] == []


@pytest.mark.parametrize("collate", ["step_of", "stuck"])
def test_they_end_with_a_killed_process(collate: str, text_shards: Path) -> None:
    with reading(text_shards, collate) as (process, helpers):
        process.kill()
        process.wait(60)
        assert psutil.wait_procs(helpers, timeout=60)[1] == []


def test_a_loader_that_is_stuck_can_be_given_up(text_shards: Path) -> None:
    with reading(text_shards, "stuck") as (process, helpers):
        assert answer(process, "close") == "closed"
        assert process.wait(60) == 0
        assert psutil.wait_procs(helpers, timeout=60)[1] == []


def test_an_open_loader_does_not_keep_a_process_from_ending(text_shards: Path) -> None:
    with reading(text_shards, "stuck") as (process, helpers):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0
        assert psutil.wait_procs(helpers, timeout=60)[1] == []
