"""Disks that are full or may not be written: told in one line that names the file and the room left."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from configs.errors import InputError

_NUMBER = re.compile(r"\[Errno (\d+)\]|\(os error (\d+)\)")
"""How Python's and Rust's messages tell the number of an error."""
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failed write into InputError: around code that does nothing but write."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise _told(error, path) from None


@contextmanager
def telling_of_disks(folder: Path) -> Iterator[None]:
    """The same around anything: errors that do not come from the disk go through as they are.
    ``folder`` is named where the error names no file."""
    try:
        yield
    except Exception as error:
        if isinstance(error, InputError) or _number(error) not in _DISK:
            raise
        raise _told(error, folder) from None


def room(path: Path) -> str:
    """How much the file system of a path can still take, in words."""
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    return f"{shutil.disk_usage(existing).free:,} bytes are free there"


def one_line(error: Exception) -> str:
    """An error's message for the middle of another."""
    return " ".join(str(error).split())


def _told(error: Exception, path: Path) -> InputError:
    # Copying and renaming name two files, the one to be written second.
    place = getattr(error, "filename2", None) or getattr(error, "filename", None) or path
    number, why = _number(error), getattr(error, "strerror", None)
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        place = error.args[0][0][1]  # of (from, to, message) for each file
    if why is None:
        why = os.strerror(number) if number in _DISK else one_line(error)
    return InputError(f"{place}: cannot be written ({why}); {room(Path(str(place)))}")


def _number(error: Exception) -> int | None:
    """An error's number, from its message where it has none: of copied folders, or from libraries."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    match = _NUMBER.search(str(error))
    return int(match[1] or match[2]) if match else None
