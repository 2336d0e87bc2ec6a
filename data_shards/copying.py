"""Copying files to a node's own disk: whole or not at all, by one process at a time, until told to stop."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import BinaryIO

from configs.errors import InputError

_CHUNK = 8 * 2**20
_LOOK = 0.2
PARTIAL = ".partial"
"""Ends the names of files that are being written."""


class StagingStopped(Exception):
    """Copying was given up because ``stop`` was set; what has been copied stays."""


def copy_file(source: Path, target: Path, stop: Event, sha256: str = "") -> None:
    """Copy to a read-only file, beside its place and renamed. Raises InputError for a source that
    cannot be read or has another SHA-256 than the given one, OSError for a target that cannot be
    written."""
    partial = target.with_name(target.name + PARTIAL)
    digest = hashlib.sha256()
    try:
        with _reading(source) as stream, partial.open("wb") as out:
            for chunk in _chunks(stream, stop):
                digest.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        if sha256 and digest.hexdigest() != sha256:
            raise InputError(f"{source}: not what was packed (SHA-256); pack the corpus again")
        partial.chmod(0o400)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sha256_until(path: Path, stop: Event) -> str:
    """Hex digest of a file, unless ``stop`` is set before its end."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in _chunks(stream, stop):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def locked(path: Path, stop: Event) -> Iterator[None]:
    """Hold the lock of that name on this node, waiting for it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        descriptor = os.open(path, os.O_RDONLY)  # a copy that is complete can be used all the same
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stop.wait(_LOOK):
                    raise StagingStopped from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def telling_of_disk(folder: Path) -> Iterator[None]:
    """Turn failures of the node's disk into one line; ``folder`` is named where they name no file."""
    try:
        yield
    except OSError as error:
        place = Path(str(error.filename2 or error.filename or folder))
        existing = next(path for path in (place, *place.parents) if path.exists())
        raise InputError(
            f"{place}: cannot be written ({error.strerror}); "
            f"{shutil.disk_usage(existing).free:,} bytes are free there; choose another data.stage, "
            "or none"
        ) from None


def _chunks(stream: BinaryIO, stop: Event) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        if stop.is_set():
            raise StagingStopped
        yield chunk


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    with stream:
        yield stream
