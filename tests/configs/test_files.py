"""Folders that take another one's place whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.files import new_folder


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
