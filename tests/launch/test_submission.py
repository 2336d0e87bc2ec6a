"""A submission's folder: what is written is what is read back; the code is kept with its commit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from configs.errors import InputError
from configs.files import write_json
from launch.code_snapshot import PACKAGES, keep_code
from launch.slurm.submission import (
    FOLDER,
    Member,
    Submission,
    check_path,
    new_folder,
    newest_checkpoint,
    newest_submission,
    write_members,
    write_submission,
)
from tests.launch.submissions import saved, started, submitted

ROOT = Path(__file__).resolve().parents[2]


def test_written_and_read(tmp_path: Path) -> None:
    folder = new_folder(tmp_path / "sweep")
    assert folder.parent == tmp_path / "sweep" / FOLDER
    members = [
        Member(0, folder / "recipes/0.yaml", tmp_path / "a", 2, ("--resume", "a b")),
        Member(1, folder / "recipes/1.yaml", tmp_path / "b", 2),
    ]
    write_members(folder, members, {"command": "sokhan 'x y'", "failures": 1, "gpus": True})
    before = Submission(folder)
    assert before.members == members and before.job == "" and before.cluster == ""
    assert before.settings == {"command": "sokhan 'x y'", "failures": 1, "gpus": True}
    assert newest_submission(tmp_path / "a") is None
    facts = {"job": "12", "cluster": "slurm", "time": "now", "array": True}
    after = write_submission(before, facts)
    assert [after.job_of(member) for member in members] == ["12_0", "12_1"]
    assert newest_submission(tmp_path / "b") == (after, members[1])
    assert not list(tmp_path.rglob("*.partial"))


def test_a_moved_submission_finds_its_recipes(tmp_path: Path) -> None:
    submission = submitted(tmp_path / "run", [tmp_path / "run"])
    moved = submission.folder.rename(tmp_path / "moved")
    assert Submission(moved).members[0].recipe_file == moved / "recipes" / "0.yaml"


def test_the_newest_submission_counts(tmp_path: Path) -> None:
    run = tmp_path / "run"
    submitted(run, [run], job="1")
    submitted(run, [run], job="2")
    newest = newest_submission(run)
    assert newest is not None and newest[0].job == "2"


def test_starts_are_in_order_and_of_one_member(tmp_path: Path) -> None:
    submission = submitted(tmp_path, [tmp_path / str(number) for number in range(11)])
    for _ in range(12):
        started(submission, 1)
    started(submission, 10)
    numbers = [attempt.number for attempt in submission.attempts(submission.members[1])]
    assert numbers == list(range(12))
    assert len(submission.attempts(submission.members[10])) == 1


@pytest.mark.parametrize(
    ("cluster", "count", "name"),
    [("slurm", 1, "41_3_log.out"), ("slurm", 2, "41_0_3_log.out"), ("local", 1, "41_0_log.out")],
)
def test_logs_of_ranks(cluster: str, count: int, name: str, tmp_path: Path) -> None:
    runs = [tmp_path / str(number) for number in range(count)]
    submission = submitted(tmp_path, runs, cluster=cluster)
    out, err = submission.logs(submission.members[0], 3)
    assert out == submission.folder / name and err.name == name.replace(".out", ".err")


def test_the_newest_checkpoint_is_the_furthest(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for step in (20, 100, 3):
        saved(tmp_path, step)
    assert newest_checkpoint(tmp_path) == "step-100"


def test_damaged_files_are_named(tmp_path: Path) -> None:
    submission = submitted(tmp_path / "run", [tmp_path / "run"])
    (submission.folder / "submission.json").write_text('{"job": ')
    with pytest.raises(InputError, match=r"submission.json: damaged"):
        _ = Submission(submission.folder).job


def test_a_reader_never_finds_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"text": "سلام"})
    with pytest.raises(TypeError):
        write_json(path, {"text": object()})
    assert json.loads(path.read_text()) == {"text": "سلام"}


@pytest.mark.parametrize("name", ["a b", "دوره‌ها", "a(1)", "a#b", "a[1]", "x=1,y{2}", "é"])
def test_folders_that_may_stand_in_a_script(name: str, tmp_path: Path) -> None:
    assert new_folder(tmp_path / name).is_dir()


@pytest.mark.parametrize("mark", [*"'\"\\%$`!;&|<>*?~\n\t\x7f\x1b", "\u2028", "\udcff"])
def test_folders_that_may_not(mark: str, tmp_path: Path) -> None:
    for check in (new_folder, check_path):
        with pytest.raises(InputError, match=r"batch scripts need a path without") as caught:
            check(tmp_path / f"a{mark}b")
        assert str(caught.value).isprintable()
    assert not list(tmp_path.iterdir())


def test_the_kept_code_is_this_code(tmp_path: Path) -> None:
    keep_code(tmp_path)
    kept = {path.relative_to(tmp_path / "code") for path in (tmp_path / "code").rglob("*.*")}
    ours = {path.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    recipes = {path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml")}
    assert ours | recipes <= kept
    assert not [path for path in kept if "__pycache__" in path.parts]
    for path in sorted(ours):
        assert (tmp_path / "code" / path).read_bytes() == (ROOT / path).read_bytes()


def git(checkout: Path, *words: str) -> str:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    command = ["git", "-C", str(checkout), *who, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_commit_and_changes(tmp_path: Path) -> None:
    """Of a checkout that is clean, is changed, and is none; the changes make the kept code of the
    commit."""
    checkout = tmp_path / "checkout"
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, checkout / name, ignore=ignored)

    def kept(name: str) -> dict[str, object]:
        code = "import sys, pathlib, launch.code_snapshot as it; it.keep_code(pathlib.Path(sys.argv[1]))"
        (tmp_path / name).mkdir()
        command = [sys.executable, "-B", "-c", code, str(tmp_path / name)]
        elsewhere = {**os.environ, "GIT_DIR": str(tmp_path)}  # as in a hook of another repository
        subprocess.run(command, cwd=checkout, env=elsewhere, check=True, timeout=120)
        document: dict[str, object] = json.loads((tmp_path / name / "code.json").read_text())
        return document

    assert kept("none") == {"commit": None, "changed": False, "new_files": []}
    git(checkout, "init", "-q")
    for key, value in {"color.ui": "always", "diff.noprefix": "true"}.items():
        git(checkout, "config", key, value)
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "all")
    commit = git(checkout, "rev-parse", "HEAD").strip()
    assert kept("clean") == {"commit": commit, "changed": False, "new_files": []}
    assert (tmp_path / "clean" / "code.diff").read_bytes() == b""

    errors = checkout / "configs" / "errors.py"
    errors.write_text(errors.read_text() + "\nCHANGED = True\n")
    for name in ("new.py", "ش.txt"):
        (checkout / "trainers" / name).write_text("")
    assert kept("changed") == {
        "commit": commit,
        "changed": True,
        "new_files": ["trainers/new.py", "trainers/ش.txt"],
    }
    text = (tmp_path / "changed" / "code" / "configs" / "errors.py").read_text()
    git(checkout, "checkout", "-q", "configs/errors.py")
    git(checkout, "apply", str(tmp_path / "changed" / "code.diff"))
    assert errors.read_text() == text and "CHANGED" in text
    assert (tmp_path / "changed" / "code" / "trainers" / "new.py").is_file()
