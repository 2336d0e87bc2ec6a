"""Ranks that start in a moment and end in a chosen way, what starts two of them, and the command
around it all: ``python -m tests.launch.tiny_rank rank|two ENDING`` or ``... supervise RANKS ENDING``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from configs.rank_status import STATUS, State, report, status_path
from launch.supervise import run_ranks
from trainers.ranks.stopping import stop_asked, watch_signals

TRACEBACK = "Traceback (most recent call last):\n  ...\nValueError: boom"


def rank_main(ending: str) -> int:
    """One rank; where the ranks differ, rank 1 is the culprit and rank 0 loses it."""
    watch_signals()
    rank = int(os.environ.get("RANK", "0"))
    culprit = rank == 1 or "RANK" not in os.environ
    if ending == "never" and culprit:
        return 3
    if ending == "late" and culprit:
        time.sleep(3600)
    report("started")
    if ending == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    if ending == "finish":
        return leave("finished", 0)
    if ending == "input":
        return leave("failed", 2, "error: wrong in every rank")
    if ending in ("save", "never save", "late"):
        os.write(1, b"waiting\n")  # in one piece, between those of other ranks
        while not stop_asked() or ending != "save":
            time.sleep(0.05)
        return leave("saved", 75)
    if ending == "helper":
        # It has a session of its own, ignores SIGTERM and forgets who started it.
        helper = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(3600)"
        subprocess.Popen([sys.executable, "-c", helper], start_new_session=True)
        return leave("finished", 0)
    if ending.startswith("deaf") and not culprit:
        os.kill(os.getpid(), signal.SIGSTOP)
    if not culprit:
        time.sleep(2)
        return leave("lost_peer", 1, "Connection closed by peer")
    while not status_path(Path(os.environ[STATUS]), 0).is_file():
        time.sleep(0.05)  # or the end of this rank ends the other before it has started
    if ending.endswith("vanish"):
        os.kill(os.getpid(), signal.SIGKILL)
    return leave("failed", 1, TRACEBACK)


def leave(state: State, code: int, text: str = "") -> int:
    """The last word."""
    report(state, text, code)
    return code


def start_two(ending: str) -> int:
    """Like DeepSpeed's launcher: fails with the first rank that does, and ends the other."""
    command = [sys.executable, "-m", "tests.launch.tiny_rank", "rank", ending]
    ranks = [subprocess.Popen(command, env={**os.environ, "RANK": str(n)}) for n in range(2)]
    while None in (codes := [rank.poll() for rank in ranks]) and not any(codes):
        time.sleep(0.05)
    for rank in ranks:
        rank.terminate()
        rank.wait()
    return next((code for code in codes if code), 0)


def supervise(ranks: int, ending: str) -> int:
    """As `sokhan train` does."""
    starter = "two" if ranks == 2 else "rank"
    command = [sys.executable, "-m", "tests.launch.tiny_rank", starter, ending]
    return run_ranks(command, os.environ, ranks, timeout=2.0)


if __name__ == "__main__":
    if sys.argv[1] == "supervise":
        sys.exit(supervise(int(sys.argv[2]), sys.argv[3]))
    sys.exit({"rank": rank_main, "two": start_two}[sys.argv[1]](sys.argv[2]))
