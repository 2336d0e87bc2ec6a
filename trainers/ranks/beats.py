"""Which rank hangs? Every rank's heartbeat in the process group's store, beside the training.

A thread writes how many exchanges its rank has entered to the store once a second, without a
collective, so the training never waits for it. Ranks whose collective timed out read them all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from configs.errors import MachineFault

T = TypeVar("T")

INTERVAL = 1.0
"""Seconds between two beats."""
LOOK = 5.0
"""Seconds in which other waiting ranks say so too, and a living rank's heart beats."""


class RankHangs(MachineFault):
    """Other ranks do not answer; one line that names them."""


class Beats:
    """This rank's heartbeat, and what those of the others say. Without a store: alone."""

    def __init__(
        self, store: Any, rank: int, size: int, interval: float = INTERVAL, look: float = LOOK
    ) -> None:
        self.count = 0
        """Exchanges that this rank has entered."""
        self.place = ""
        """Where the training is, for messages."""
        self._rank, self._size = rank, size
        self._interval, self._look_time = interval, look
        self._ended = threading.Event()
        self._store: Any = store.clone() if store else None
        if store:
            # A client of its own: another's may be blocked in a wait.
            threading.Thread(target=self._beat, args=(store.clone(),), daemon=True).start()

    def stop(self) -> None:
        """Let the heart rest before the store goes."""
        self._ended.set()

    def first(self, key: str) -> bool | None:
        """Whether no other rank has asked this before; None: the store's keeper is gone or hangs."""
        if self._store is None:
            return True
        try:
            return within(self._look_time, lambda: int(self._store.add(f"sokhan/{key}", 1)) == 1)
        except RuntimeError:
            return None

    def find_hung(self) -> list[int]:
        """The ranks that all others seem to wait for: called when a collective has timed out.

        These have not given up themselves: first of all those whose heart stands still, else those
        that have entered the fewest exchanges. Empty: none can be told. Takes some seconds.
        """
        if self._store is None:
            return []
        try:
            found = within(2 * self._look_time, self._look)
        except RuntimeError:  # the store is gone: its keeper has died, not hung
            return []
        return [0] if found is None else found

    def _look(self) -> list[int]:
        self._store.set(f"sokhan/gave-up/{self._rank}", "")
        before = self._read()
        time.sleep(self._look_time)
        after = self._read()
        suspects = [r for r in range(self._size) if not self._store.check([f"sokhan/gave-up/{r}"])]
        still = [rank for rank in suspects if before[rank] == after[rank]]
        if still or not suspects:
            return still
        fewest = min(after[rank][0] for rank in suspects)
        return [rank for rank in suspects if after[rank][0] == fewest]

    def _read(self) -> list[tuple[int, int]]:
        """(exchanges, beats) of every rank."""
        found = []
        for rank in range(self._size):
            key = f"sokhan/beat/{rank}"
            words = self._store.get(key).split() if self._store.check([key]) else (0, 0)
            found.append((int(words[0]), int(words[1])))
        return found

    def _beat(self, store: Any) -> None:
        beat = 0
        while not self._ended.is_set():
            beat += 1
            try:
                store.set(f"sokhan/beat/{self._rank}", f"{self.count} {beat}")
            except RuntimeError:  # the rank that keeps the store has left
                return
            self._ended.wait(self._interval)


def within(seconds: float, action: Callable[[], T]) -> T | None:
    """What ``action`` returns or raises, or None if it takes longer; it is then left to itself."""
    answers: list[T] = []
    problems: list[Exception] = []

    def run() -> None:
        try:
            answers.append(action())
        except Exception as error:
            problems.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if problems:
        raise problems[0]
    return answers[0] if answers else None
