"""Array files: whole or not there."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from trainers.files.array_file import new_array, open_array, save_array

SHAPE = (40, 3, 8)


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "cache" / "a.npy"
    assert open_array(place, SHAPE, np.float32) is None
    with new_array(place, SHAPE) as array:
        assert array is not None
        array[:] = np.arange(960, dtype=np.float32).reshape(SHAPE)
        assert not place.exists()
    found = open_array(place, SHAPE, np.float32)
    assert found is not None and (found.ravel() == np.arange(960)).all()
    assert (np.load(place) == found).all(), "the checksum behind the array is not in NumPy's way"
    assert list(place.parent.iterdir()) == [place]
    assert open_array(place, (40, 24), np.float32) is None
    assert open_array(place, SHAPE, np.int32) is None


def test_damaged_files_are_none(tmp_path: Path) -> None:
    """Cut anywhere, a bit flipped, or something else altogether."""
    place = tmp_path / "a.npy"
    assert save_array(place, np.arange(40, dtype=np.int32))
    data = place.read_bytes()
    assert open_array(place, (40,), np.int32) is not None
    flipped = [bytes(b ^ (n == at) for n, b in enumerate(data)) for at in (130, len(data) - 1)]
    for content in (*flipped, data[:-1], data[:100], data[:9], b"", b"PK\x03\x04 a zip", b"text"):
        place.write_bytes(content)
        assert open_array(place, (40,), np.int32) is None


def test_what_others_made_meanwhile_stays(tmp_path: Path) -> None:
    place = tmp_path / "a.npy"
    with new_array(place, SHAPE) as array:
        assert array is not None
        assert save_array(tmp_path / "b.npy", np.ones(SHAPE, np.float32))
        (tmp_path / "b.npy").rename(place)
        before = place.stat()
    assert place.stat().st_ino == before.st_ino
    assert list(tmp_path.iterdir()) == [place]


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyError), new_array(tmp_path / "a.npy", SHAPE):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_no_room(tmp_path: Path) -> None:
    """Space is asked for before the first write, which could not fail gracefully."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    try:
        with new_array(tmp_path / "a.npy", SHAPE) as array:
            assert array is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
