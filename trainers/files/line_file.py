"""Files of JSON lines that survive crashes: each line is written at once, or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"
PERFORMANCE = "perf.jsonl"


class LineFile:
    """A file of JSON lines. Each is written at once, so that there is no buffer to lose."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _naming(path):
            self._stream = path.open("ab", buffering=0)
            if (end := _end_of_lines(path)) < self._stream.tell():
                self._stream.truncate(end)

    def append(self, line: dict[str, Any]) -> None:
        """Write one line, or nothing."""
        rest = memoryview((json.dumps(line) + "\n").encode())
        with _naming(self._path):
            before = os.fstat(self._stream.fileno()).st_size
            try:
                while rest:
                    rest = rest[self._stream.write(rest) :]
            except OSError:
                with contextlib.suppress(OSError):
                    self._stream.truncate(before)
                raise

    def sync(self) -> int:
        """Have it on the disk; returns its length in bytes."""
        with _naming(self._path):
            os.fsync(self._stream.fileno())
            return os.fstat(self._stream.fileno()).st_size

    def close(self) -> None:
        """Let go of the file."""
        with _naming(self._path):
            self._stream.close()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of open files do not say which file it is."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _end_of_lines(path: Path) -> int:
    """The length of a file up to its last whole line: a crash may have cut one in two."""
    with path.open("rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 2**16)
            stream.seek(start)
            newline = stream.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file that a crash may have left with a broken one, which is passed over."""
    if not path.is_file():
        return
    with path.open("rb") as stream:
        for text in stream:
            with contextlib.suppress(ValueError):
                yield json.loads(text)
