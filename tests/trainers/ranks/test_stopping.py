"""Signals that ask a rank to stop: a flag, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from configs.rank_status import STATUS

RANK = """
import sys
from trainers.ranks.stopping import stop_asked, watch_signals
watch_signals()
try:
    print("ready", flush=True)
    for line in sys.stdin:
        print(stop_asked(), flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
WISHES = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@contextmanager
def rank(*ignored: signal.Signals, **extra: str) -> Iterator[subprocess.Popen[str]]:
    """A process that watches signals and tells its flag when asked."""

    def prepare() -> None:
        # The test run itself may have been started to ignore some (`nohup make test &`).
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in WISHES:
            signal.signal(number, signal.SIG_DFL)
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    environment = {k: v for k, v in os.environ.items() if k not in (STATUS, "WORLD_SIZE")}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", RANK],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        env={**environment, **extra},
        preexec_fn=prepare,
    ) as process:
        assert read(process) == "ready"
        try:
            yield process
        finally:
            process.kill()


def read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def asked(process: subprocess.Popen[str]) -> bool:
    assert process.stdin is not None
    process.stdin.write("?\n")
    process.stdin.flush()
    return read(process) == "True"


@pytest.mark.parametrize("number", WISHES)
def test_a_signal_only_sets_a_flag(number: signal.Signals) -> None:
    with rank() as process:
        assert not asked(process)
        for _ in range(50):
            process.send_signal(number)
        assert asked(process)
        for other in WISHES * 10:
            process.send_signal(other)
        assert asked(process)
        assert process.poll() is None


def test_the_second_interrupt_of_a_rank_alone_ends_it() -> None:
    with rank() as process:
        process.send_signal(signal.SIGINT)
        assert asked(process)
        process.send_signal(signal.SIGINT)
        assert read(process) == "interrupted"
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert "Ctrl-C again ends at once" in process.stderr.read()


@pytest.mark.parametrize("extra", [{STATUS: "/nowhere"}, {"WORLD_SIZE": "2"}])
def test_under_a_launcher_an_interrupt_is_one_more_wish(extra: dict[str, str]) -> None:
    with rank(**extra) as process:
        for _ in range(5):
            process.send_signal(signal.SIGINT)
        assert asked(process)
        assert process.poll() is None


def test_ignored_signals_stay_ignored() -> None:
    """As under ``nohup``."""
    with rank(signal.SIGHUP, signal.SIGINT) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        assert not asked(process)
        process.send_signal(signal.SIGTERM)
        assert asked(process)
