"""Array files: whole or not there."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from trainers.array_file import new_array, open_array

SHAPE = (40, 3, 8)


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "cache" / "a.npy"
    assert open_array(place, SHAPE) is None
    with new_array(place, SHAPE) as array:
        assert array is not None
        array[:] = np.arange(960, dtype=np.float32).reshape(SHAPE)
        assert not place.exists()
    found = open_array(place, SHAPE)
    assert found is not None and (found.ravel() == np.arange(960)).all()
    assert list(place.parent.iterdir()) == [place]
    assert open_array(place, (40, 24)) is None


def test_what_others_made_meanwhile_stays(tmp_path: Path) -> None:
    place = tmp_path / "a.npy"
    with new_array(place, SHAPE) as array:
        assert array is not None
        np.save(place, np.ones(SHAPE, np.float32))
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
