"""A small disk of its own for a test: a tmpfs, which can be filled to the page and made read-only."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = 4096
_FILLER = "filler"


@contextmanager
def small_disk(folder: Path, pages: int) -> Iterator[Path]:
    """Mount a disk of so many pages at a new folder. Skips the test where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={pages * PAGE},huge=never", "tmpfs", str(folder)]
    answer = subprocess.run(mount, capture_output=True, text=True)
    if answer.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {answer.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: ranks that are kept for other tests may still have mapped files of it.
        subprocess.run(["umount", "-l", str(folder)], check=True)


def free_pages(disk: Path) -> int:
    """What can still be written."""
    return os.statvfs(disk).f_bavail


def fill(disk: Path, left: int = 0) -> None:
    """Leave exactly so many pages free."""
    (disk / _FILLER).unlink(missing_ok=True)
    with (disk / _FILLER).open("wb", buffering=0) as stream:
        for _ in range(free_pages(disk) - left):
            stream.write(bytes(PAGE))
    assert free_pages(disk) == left


def fill_up(disk: Path) -> None:
    """Leave nothing, whoever else writes there meanwhile."""
    with contextlib.suppress(OSError), (disk / _FILLER).open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(PAGE))


def make_room(disk: Path) -> None:
    """Undo the filling."""
    (disk / _FILLER).unlink()


def set_read_only(disk: Path, on: bool) -> None:
    """For root too, whom permissions do not stop."""
    subprocess.run(["mount", "-o", f"remount,{'ro' if on else 'rw'}", str(disk)], check=True)
