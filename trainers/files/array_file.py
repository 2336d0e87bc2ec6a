"""Arrays kept beside the shards: a file is whole or it is not there.

Behind the array, where NumPy does not look, stand four bytes: the CRC-32 of all before them. What is
kept would else go into training with its flipped bits, unlike the shards that it comes from.
"""

from __future__ import annotations

import contextlib
import os
import platform
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Number = TypeVar("Number", bound=np.generic)
_SUM = 4
"""Bytes of the checksum."""


def open_array(place: Path, shape: tuple[int, ...], dtype: type[Number]) -> NDArray[Number] | None:
    """A whole file of that shape and type, memory-mapped; None where there is none."""
    try:
        array: NDArray[Number] = np.lib.format.open_memmap(place, mode="r")
    except (OSError, ValueError):
        return None
    fits = array.shape == shape and array.dtype == dtype
    return array if fits and _undamaged(place, array) else None


def save_array(place: Path, values: NDArray[Any]) -> bool:
    """Save an array that is in memory; False where the folder is read-only, as shared shards may be,
    or the disk is full."""
    partial = _beside(place)
    try:
        partial.parent.mkdir(exist_ok=True)
        _sweep(partial)
        with partial.open("w+b") as file:
            np.save(file, values)
            _add_sum(file, file.tell())
        partial.replace(place)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        return False
    return True


@contextmanager
def new_array(place: Path, shape: tuple[int, ...]) -> Iterator[FloatArray | None]:
    """A float32 array on disk that becomes ``place`` when the block ends well and vanishes else; None
    where it cannot be made: the folder is read-only, as shared shards may be, or the disk is full."""
    partial = _beside(place)
    try:
        array = _reserve(partial, shape)
        yield array
        if array is not None:
            array.flush()
            with partial.open("r+b") as file:
                _add_sum(file, array.offset + array.nbytes)
            # Others may have made it meanwhile and read it: replaced, it would be lost to them on NFS.
            if open_array(place, shape, np.float32) is None:
                partial.replace(place)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _beside(place: Path) -> Path:
    return place.with_suffix(f".{platform.node()}-{os.getpid()}.npy")


def _reserve(partial: Path, shape: tuple[int, ...]) -> Any:
    try:
        partial.parent.mkdir(exist_ok=True)
        _sweep(partial)
        array = np.lib.format.open_memmap(partial, "w+", np.float32, shape)
        with partial.open("r+b") as file:
            # Now or never: a mapped write that finds no space would kill the process.
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size + _SUM)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        return None
    return array


def _add_sum(file: IO[bytes], end: int) -> None:
    """Write the checksum of the bytes before ``end`` there."""
    found = _sum(file, end)
    file.seek(end)
    file.write(found)


def _undamaged(place: Path, array: Any) -> bool:
    end = array.offset + array.nbytes
    try:
        with place.open("rb") as file:
            return os.fstat(file.fileno()).st_size == end + _SUM and _sum(file, end) == file.read()
    except OSError:
        return False


def _sum(file: IO[bytes], end: int) -> bytes:
    """CRC-32 of the bytes before ``end``, behind which the file then stands."""
    found, left = 0, end
    file.seek(0)
    while left and (chunk := file.read(min(left, 1 << 20))):
        found, left = zlib.crc32(chunk, found), left - len(chunk)
    return found.to_bytes(_SUM, "little")


def _sweep(partial: Path) -> None:
    """Remove what processes of this machine that were killed have left."""
    prefix = f"{partial.name.split('.')[0]}.{platform.node()}-"
    for left in partial.parent.glob(f"{prefix}*.npy"):
        process = left.name.removeprefix(prefix).removesuffix(".npy")
        if process.isdigit() and not Path("/proc", process).exists():
            left.unlink(missing_ok=True)
