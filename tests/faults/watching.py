"""What a run directory shows from outside while it trains: moments at which a kill can be placed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Moment = Literal["start-up", "opening", "step", "save", "commit", "validation", "final"]
MOMENTS: tuple[Moment, ...] = (
    "start-up",
    "opening",
    "step",
    "save",
    "commit",
    "validation",
    "final",
)
LASTING: tuple[Moment, ...] = ("save", "validation", "final")
"""Moments that end visibly: a kill that comes later would be of another kind."""
LOOK = 0.001
"""Seconds between looks: a save of a tiny model lasts some tens of milliseconds."""
_TAG = re.compile(r"step-(\d+)(-evaluated)?")


@dataclass(frozen=True)
class Shape:
    """What the metrics of the uninterrupted run say of any run of the same recipe."""

    epoch_ends: frozenset[int]
    """Last steps of epochs."""
    steps: int
    validations: int

    @staticmethod
    def of(metrics: bytes) -> Shape:
        """Read from the metrics.jsonl of a finished run."""
        lines = [json.loads(line) for line in metrics.splitlines()]
        ends = frozenset(line["step"] for line in lines if line["kind"] == "validation")
        return Shape(ends, max(ends), len(ends))


class Watched:
    """One start of a run. Looks at small files only, so that it can look a thousand times a second."""

    def __init__(self, run: Path, shape: Shape) -> None:
        self.run, self.shape = run, shape
        self._files: dict[Path, tuple[tuple[int, int], bytes]] = {}
        self._starts = self._count_starts()
        self._before_lock = self._when("lock")
        self._tags = set(tags(run))

    def listed(self) -> bool:
        """Whether this start has written down where it goes on."""
        return self._count_starts() > self._starts

    def opened(self) -> bool:
        """Whether this start has brought the run directory into the state it goes on from."""
        return self.listed() and self._when("environment.json") > 0

    def step(self) -> int:
        """The last step that has been logged; 0: none."""
        return self._last()[1]

    def validated(self) -> int:
        """How many validations have been logged."""
        return self._read("metrics.jsonl").count(b'"kind": "validation"')

    def mark(self, moment: Moment) -> object | None:
        """None unless it is that moment; else what tells its occurrences apart."""
        if moment == "start-up":
            return "started"
        if moment == "opening":
            # The first that is written; then come the checks and the cutting back of the directory.
            return "opening" if self._when("lock") != self._before_lock else None
        if not self.opened():
            return None
        if moment == "step":
            kind, step = self._last()
            return step if kind == "train" else None
        if moment == "save":
            return next(iter(names(self.run / "checkpoints", ".saving-")), None)
        if moment == "commit":
            new = [tag for tag in tags(self.run) if tag not in self._tags]
            return max(new, key=_order) if new else None
        kind, step = self._last()
        if moment == "validation":
            return step if kind == "train" and step in self.shape.epoch_ends else None
        return "final" if self.validated() == self.shape.validations else None

    def _last(self) -> tuple[str, int]:
        """(kind, step) of the last whole line of metrics.jsonl."""
        whole = self._read("metrics.jsonl").rpartition(b"\n")[0]
        if not whole:
            return "", 0
        line = json.loads(whole.rpartition(b"\n")[2])
        return line["kind"], line["step"]

    def _count_starts(self) -> int:
        text = self._read("run.json")
        return len(json.loads(text)["starts"]) if text else 0

    def _when(self, name: str) -> int:
        try:
            return (self.run / name).stat().st_mtime_ns
        except OSError:
            return 0

    def _read(self, name: str) -> bytes:
        """A file's content, read again only when the file has changed; empty if there is none."""
        path = self.run / name
        try:
            found = path.stat()
            key = (found.st_mtime_ns, found.st_size)
            if path not in self._files or self._files[path][0] != key:
                self._files[path] = (key, path.read_bytes())
        except OSError:
            return b""
        return self._files[path][1]


def wait_for(watched: Watched, moment: Moment, number: int, delay: float, alive: Callable[[], bool]) -> bool:
    """Wait for the ``number``-th occurrence of a moment in this start and ``delay`` seconds more.

    A moment that was over by then is waited for again, with half the delay. False: the run ended.
    """
    seen: list[Any] = []
    while alive():
        mark = watched.mark(moment)
        if mark is not None and mark not in seen:
            seen.append(mark)
            if len(seen) >= number:
                time.sleep(delay)
                if moment not in LASTING or watched.mark(moment) == mark:
                    return alive()
                delay /= 2
        time.sleep(LOOK)
    return False


def names(folder: Path, prefix: str) -> list[str]:
    """Names in a folder that begin so."""
    with contextlib.suppress(OSError):
        return [name for name in os.listdir(folder) if name.startswith(prefix)]
    return []


def tags(run: Path) -> list[str]:
    """Names of a run's checkpoints, the newest first."""
    found = [name for name in names(run / "checkpoints", "step-") if _TAG.fullmatch(name)]
    return sorted(found, key=_order, reverse=True)


def _order(tag: str) -> tuple[int, bool]:
    match = _TAG.fullmatch(tag)
    assert match
    return int(match[1]), bool(match[2])
