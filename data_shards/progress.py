"""Progress on stderr: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_EVERY = 10.0
"""Seconds between lines where stderr is not a terminal."""


@contextmanager
def stderr_progress(title: str, unit: str = "samples") -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (done, total) that shows count, rate and time left."""
    if sys.stderr.isatty():
        yield from _bar(title, unit)
    else:
        yield _lines(title, unit)


def _bar(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    from tqdm import tqdm

    with tqdm(desc=title, unit=f" {unit}", file=sys.stderr, dynamic_ncols=True, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def _lines(title: str, unit: str) -> Callable[[int, int], None]:
    first: tuple[float, int] | None = None
    last = 0.0

    def show(done: int, total: int) -> None:
        nonlocal first, last
        now = time.monotonic()
        if first is None:  # what came before was starting up, which says nothing of the rate
            first, last = (now, done), now
        if done < total and now - last < LINE_EVERY:
            return
        last = now
        text = line(title, unit, done, total, done - first[1], now - first[0])
        print(text, file=sys.stderr, flush=True)

    return show


def line(title: str, unit: str, done: int, total: int, timed: int, seconds: float) -> str:
    """One line of a log, e.g. ``shemo: 1200/3000 samples, 85 samples/s, 21 s left``.

    The rate is that of the ``timed`` samples that took ``seconds``.
    """
    if timed <= 0 or seconds <= 0:
        return f"{title}: {done}/{total} {unit}"
    rate = timed / seconds
    return f"{title}: {done}/{total} {unit}, {rate:.0f} {unit}/s, {(total - done) / rate:.0f} s left"
