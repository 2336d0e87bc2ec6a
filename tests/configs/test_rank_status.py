"""What ranks leave for the command that started them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs.rank_status import STATUS, read_statuses, report, supervised


def test_the_last_word_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATUS, str(tmp_path))
    for rank in ("0", "2"):
        monkeypatch.setenv("RANK", rank)
        assert report("started")
    assert report("failed", "Traceback\nValueError: سلام", 1)
    statuses = read_statuses(tmp_path, 4)
    assert list(statuses) == [0, 2]
    assert (statuses[0].state, statuses[0].pid) == ("started", os.getpid())
    assert (statuses[2].state, statuses[2].code) == ("failed", 1)
    assert statuses[2].text.endswith("ValueError: سلام")


def test_without_a_reader_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STATUS, raising=False)
    assert not supervised()
    assert not report("failed", "error: x", 2)
    monkeypatch.setenv(STATUS, str(tmp_path / "gone"))
    assert not report("failed", "error: x", 2)  # the rank must tell itself


def test_a_reader_never_sees_half_a_word(tmp_path: Path) -> None:
    """A process that rewrites its word all the time, read all the time."""
    script = (
        "from configs.rank_status import report\n"
        "for n in range(3000):\n"
        "    report('failed', f'{n} ' * 200, n)\n"
    )
    environment = {**os.environ, STATUS: str(tmp_path), "RANK": "0"}
    reads = 0
    with subprocess.Popen([sys.executable, "-c", script], env=environment) as writer:
        while writer.poll() is None:
            for status in read_statuses(tmp_path, 1).values():
                assert status.text == f"{status.code} " * 200
                reads += 1
    assert writer.returncode == 0
    assert reads > 10
