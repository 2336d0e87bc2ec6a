"""Processes that end with their parents, and helpers that outlive a stop signal."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import psutil

from configs.lifetime import STOP_SIGNALS, signals_blocked

SLEEP = "import time; time.sleep(600)"


def run(script: str) -> subprocess.Popen[str]:
    """A Python process whose first line of output tells that it is ready."""
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_helpers_outlive_stop_signals_but_not_a_kill() -> None:
    ready = f"print('ready', flush=True); {SLEEP}"
    with signals_blocked():
        helper = run(ready)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []).isdisjoint(STOP_SIGNALS)
    with helper, run(ready) as other:
        assert first_line(helper) == first_line(other) == "ready"
        for process in (helper, other):
            for number in STOP_SIGNALS:
                process.send_signal(number)
        assert other.wait(60) < 0  # they are not harmless
        assert helper.poll() is None
        helper.kill()
        assert helper.wait(60) == -signal.SIGKILL


def test_a_child_ends_with_its_parent() -> None:
    child = (
        "import os; from configs.lifetime import end_with_parent\n"
        f"end_with_parent(os.getppid()); print(os.getpid(), flush=True); {SLEEP}"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with run(parent) as process:
        started = psutil.Process(int(first_line(process)))
        process.kill()
        process.wait(60)
        assert psutil.wait_procs([started], timeout=60)[1] == []


def test_a_child_whose_parent_is_gone_already_ends() -> None:
    script = f"from configs.lifetime import end_with_parent; end_with_parent(1 << 30); {SLEEP}"
    with run(script) as process:
        assert process.wait(60) == 1


def test_orphans_are_adopted() -> None:
    """A grandchild whose parent has ended is a child of the adopter, and no longer afterwards."""
    grandchild = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}])"
    script = (
        "import subprocess, sys, psutil, ctypes\n"
        "from configs.lifetime import adopting_orphans\n"
        "with adopting_orphans():\n"
        f"    subprocess.run([sys.executable, '-c', {grandchild!r}], check=True)\n"
        "    adopted = psutil.Process().children()\n"
        "    print(len(adopted), flush=True)\n"
        "    for one in adopted: one.kill(); one.wait()\n"
        "is_adopter = ctypes.c_int(-1)\n"
        "ctypes.CDLL(None).prctl(37, ctypes.byref(is_adopter))\n"
        "print(is_adopter.value)\n"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert answer.stdout.split() == ["1", "0"], answer.stderr


def test_blocking_lasts_only_inside() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with signals_blocked():
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)  # or pytest would die of it
        assert signal.sigtimedwait([signal.SIGUSR1], 10) is not None
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
