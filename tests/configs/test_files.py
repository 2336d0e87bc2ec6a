"""Folders that take another one's place whole or not at all."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from configs.files import new_folder, settle


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_folder_replaces_an_older_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with new_folder(tmp_path / "model") as folder:
            (folder / text).write_text(text)
        assert content(tmp_path / "model") == {text: text}
        assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_fails_leaves_the_older_one(tmp_path: Path) -> None:
    with new_folder(tmp_path / "model") as folder:
        (folder / "old").write_text("old")
    with pytest.raises(ValueError, match="half"), new_folder(tmp_path / "model") as folder:
        (folder / "new").write_text("new")
        raise ValueError("half")
    assert content(tmp_path / "model") == {"old": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_rename_that_fails_puts_the_older_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with new_folder(tmp_path / "model") as folder:
        (folder / "old").write_text("old")
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if (path / "new").exists():
            assert not target.exists(), "the older one must be set aside, not deleted"
            raise OSError("no room")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no room"), new_folder(tmp_path / "model") as folder:
        (folder / "new").write_text("new")
    assert content(tmp_path / "model") == {"old": "old"}


KILLED_BETWEEN = """
import os, sys
from pathlib import Path
from configs.files import put_in_place
calls, rename = [], Path.rename
def renamed(path, target):
    if len(calls) == int(sys.argv[2]):
        os._exit(9)
    calls.append(path)
    return rename(path, target)
Path.rename = renamed
if sys.argv[2] == "2":  # both renames are made, the older one is not deleted yet
    import shutil
    shutil.rmtree = lambda *_: os._exit(9)
folder = Path(sys.argv[1])
put_in_place(folder.with_name("made"), folder)
"""


@pytest.mark.parametrize(("renames", "holds"), [(0, "old"), (1, "old"), (2, "new")])
def test_one_killed_in_replacing_is_settled(tmp_path: Path, renames: int, holds: str) -> None:
    folder = tmp_path / "shards"
    for name, text in (("shards", "old"), ("made", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / text).write_text(text)
    command = [sys.executable, "-c", KILLED_BETWEEN, str(folder), str(renames)]
    assert subprocess.run(command, check=False).returncode == 9
    left = [path for path in tmp_path.iterdir() if path.name.endswith(".replaced")]
    assert len(left) == (renames > 0) and folder.exists() == (renames != 1)
    assert settle(folder) == (left[0] if renames == 1 else None)
    assert content(folder) == {holds: holds}
    assert not any(path.name.endswith(".replaced") for path in tmp_path.iterdir())
    assert settle(folder) is None


def test_what_living_processes_and_other_machines_set_aside_stays(tmp_path: Path) -> None:
    own = f".model.{platform.node()}@{os.getpid()}.00000000.replaced"
    for name in (own, ".model.elsewhere@1.00000000.replaced", ".model.two.replaced"):
        (tmp_path / name).mkdir()
    assert settle(tmp_path / "model") is None
    with new_folder(tmp_path / "model") as folder:
        (folder / "new").write_text("new")
    assert len(list(tmp_path.iterdir())) == 4
