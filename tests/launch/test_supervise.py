"""How a start ends, told from its ranks' last words: real processes that only end."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from launch.supervise import ONE_CAUSE
from tests.launch.launched import Launched, launched
from tests.launch.tiny_rank import TRACEBACK


@contextmanager
def supervised(ranks: int, ending: str, folder: Path) -> Iterator[Launched]:
    command = ["tests.launch.tiny_rank", "supervise", str(ranks), ending]
    with launched(command, folder / "output") as started:
        yield started


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("ending", "code", "last"),
    [
        ("finish", 0, None),
        ("input", 2, "error: wrong in every rank"),
        ("fail", 1, "error: rank {rank} (process {pid}) failed: ValueError: boom"),
        ("vanish", 1, "error: rank {rank} (process {pid}) was killed (signal 9)"),
        ("never", 1, "error: rank {rank} did not start"),
        ("helper", 0, None),
    ],
)
def test_endings(ranks: int, ending: str, code: int, last: str | None, tmp_path: Path) -> None:
    with supervised(ranks, ending, tmp_path) as started:
        assert started.wait() == code, started.output
        assert not started.marked()
        lines = started.output.splitlines()
        if last is None:
            assert lines == []
            return
        before, _, after = last.format(rank=ranks - 1, pid="\n").partition("\n")
        assert lines[-1].startswith(before)
        assert after in lines[-1]
        if ending == "fail":
            assert "\n".join(lines[:-1]) == TRACEBACK
        elif ending != "never" or ranks == 1:
            assert len(lines) == 1
        assert "Connection closed" not in started.output


@pytest.mark.parametrize(("ending", "why"), [("deaf", "boom"), ("deaf vanish", "signal 9")])
def test_a_rank_that_cannot_end_is_killed(ending: str, why: str, tmp_path: Path) -> None:
    with supervised(2, ending, tmp_path) as started:
        assert started.wait() == 1, started.output
        assert not started.marked()
        last = started.output.splitlines()[-1]
        assert last.startswith("error: rank 1")
        assert why in last
        assert "rank 0" not in started.output


@pytest.mark.parametrize("ranks", [1, 2])
def test_ranks_that_are_all_suspended_hang(ranks: int, tmp_path: Path) -> None:
    """Nobody else could tell."""
    with supervised(ranks, "freeze", tmp_path) as started:
        assert started.wait() == 1, started.output
        assert not started.marked()
        (line,) = started.output.splitlines()
        assert line.startswith("error: rank 0 (process")
        assert line.count("(process") == ranks and "was suspended (SIGSTOP) for too long" in line


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
)
def test_a_signal_is_passed_on(ranks: int, number: signal.Signals, tmp_path: Path) -> None:
    with supervised(ranks, "save", tmp_path) as started:
        started.until(lambda: started.output.count("waiting\n") == ranks)
        started.process.send_signal(number)
        assert started.wait() == 75, started.output
        assert (
            started.output.removeprefix("waiting\n" * ranks)
            == "stopping after a save; Ctrl-C again ends at once\n"
        )
        assert not started.marked()


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_ends_everything_at_once(ranks: int, number: signal.Signals, tmp_path: Path) -> None:
    with supervised(ranks, "never save", tmp_path) as started:
        started.until(lambda: started.output.count("waiting\n") == ranks)
        for other in (signal.SIGUSR1, signal.SIGHUP, number):
            started.process.send_signal(other)
        started.until(lambda: "Ctrl-C again" in started.output)
        assert started.process.poll() is None
        time.sleep(4 * ONE_CAUSE)  # what comes sooner is no second wish
        started.process.send_signal(number)
        assert started.wait() == 128 + number
        assert not started.marked()
        assert started.output.splitlines()[-1].startswith("stopped at once")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_cause_may_send_several(number: signal.Signals, tmp_path: Path) -> None:
    """As `timeout` does, which signals a process and then its group."""
    with supervised(1, "save", tmp_path) as started:
        started.until(lambda: "waiting" in started.output)
        started.process.send_signal(number)
        time.sleep(0.05)  # or the kernel may make one of them
        started.process.send_signal(number)
        assert started.wait() == 75, started.output
        assert not started.marked()


def test_what_has_not_started_is_ended(tmp_path: Path) -> None:
    """One rank comes, one does not: nothing can be lost."""
    with supervised(2, "late", tmp_path) as started:
        started.until(lambda: "waiting" in started.output)
        started.process.send_signal(signal.SIGUSR1)
        assert started.wait() == 128 + signal.SIGUSR1
        assert not started.marked()
