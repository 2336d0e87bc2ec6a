"""A real ``sokhan train`` that runs beside a test, with the processes it has started.

They are told from others by a mark in their environment, which their helpers inherit, wherever
these have moved in the process tree.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

_MARK = "SOKHAN_TEST_START"
PATIENCE = 240.0
"""Bound of a wait; how long it takes is not what is tested."""


def _heed_signals() -> None:
    """A test run may have been started to ignore some (`nohup make test &`), and that is inherited."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Launched:
    """One started command."""

    def __init__(self, command: Sequence[str], errors: Path) -> None:
        self.mark = uuid.uuid4().hex
        self._errors = errors
        environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
        with errors.open("ab") as stream:  # appending: all processes write at the end
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env={**environment, _MARK: self.mark},
                stdout=stream,
                stderr=stream,
                preexec_fn=_heed_signals,
            )

    @property
    def output(self) -> str:
        """All that was printed so far."""
        return self._errors.read_text(encoding="utf-8", errors="replace")

    def ranks(self) -> dict[int, psutil.Process]:
        """The rank processes, by rank."""
        found = {}
        for process in self.marked():
            with contextlib.suppress(psutil.Error):
                line = process.cmdline()
                if "trainers" in line and "deepspeed.launcher.launch" not in line:
                    found[int(process.environ().get("RANK", "0"))] = process
        return found

    def launcher(self) -> psutil.Process:
        """DeepSpeed's launcher."""
        return next(
            process
            for process in psutil.Process(self.process.pid).children()
            if "deepspeed.launcher.launch" in process.cmdline()
        )

    def marked(self) -> list[psutil.Process]:
        """Everything that this start has left in the process table, dead ones aside."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(_MARK) == self.mark:
                    found.append(process)
        return found

    def wait(self) -> int:
        """The exit code."""
        return self.process.wait(PATIENCE)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something while the command runs."""
        until(condition, lambda: self.process.poll() is None, lambda: self.output)


def until(
    condition: Callable[[], bool],
    meanwhile: Callable[[], bool] = lambda: True,
    explain: Callable[[], str] = str,
) -> None:
    """Wait for a condition; AssertionError if it does not come true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert meanwhile(), explain()
        assert time.monotonic() < end, explain()
        time.sleep(0.1)


@contextmanager
def launched(command: Sequence[str], errors: Path) -> Iterator[Launched]:
    """Start a command; whatever is left of it afterwards is killed."""
    started = Launched(command, errors)
    try:
        yield started
    finally:
        for process in started.marked():
            with contextlib.suppress(psutil.Error):
                process.kill()
        started.process.wait()
