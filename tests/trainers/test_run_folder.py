"""Holding a run directory: what may be in it before, what stays, and who keeps others out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from configs.errors import InputError, MachineFault
from configs.load import AnyRecipe, load_recipe, run_folder
from configs.rank_status import FAILED, read_statuses
from tests.conftest import REPOSITORY
from trainers import folder as run_directory
from trainers.folder import RunLock, clear, hold_run_folder, list_start

HOLDER = """
import sys, time
from pathlib import Path
from trainers.folder import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
time.sleep(float(sys.argv[2]))
"""


@contextmanager
def holder(folder: Path, job: str, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """A process of a job that holds the folder; it ends so long after its input has."""
    environment = {k: v for k, v in os.environ.items() if k != "SLURM_JOB_ID"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), str(seconds)],
        stdin=pipe,
        stdout=pipe,
        text=True,
        cwd=REPOSITORY,
        env={**environment, **({"SLURM_JOB_ID": job} if job else {})},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def recipe(text_shards: Path, tmp_path: Path) -> AnyRecipe:
    out = ["--data.shards", str(text_shards), "--output.folder", str(tmp_path)]
    return load_recipe("demo/bert_full", out)


def test_what_is_left_of_the_same_job_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with holder(tmp_path, "7", 1.0) as process:
        assert process.stdin is not None
        process.stdin.close()
        lock = RunLock(tmp_path)
        assert process.wait(60) == 0
    assert (
        (tmp_path / "lock")
        .read_text()
        .endswith(f"process {os.getpid()} on {os.uname().nodename} (SLURM job 7)\n")
    )
    lock.release()


def test_what_does_not_end_is_a_fault_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(run_directory, "_REMAINS", 0.5)
    with holder(tmp_path, "7", 0) as process:
        told = rf"{tmp_path}: process {process.pid} on \S+ \(SLURM job 7\) has not left it"
        with pytest.raises(MachineFault, match=told):
            RunLock(tmp_path)


RANK = """
import sys
import trainers.folder
from trainers.__main__ import main
trainers.folder._REMAINS = 0.5
main()
"""


def test_a_rank_that_could_not_hold_the_folder_is_worth_another_start(
    text_shards: Path, tmp_path: Path
) -> None:
    words = [
        "--data.shards",
        str(text_shards),
        "--data.workers",
        "0",
        "--tracking.wandb",
        "off",
        "--output.folder",
        str(tmp_path),
        "--output.name",
        "one",
    ]
    folder, status = run_folder(load_recipe("demo/bert_full", words)), tmp_path / "status"
    folder.mkdir(parents=True)
    status.mkdir()
    with holder(folder, "7", 0) as process:
        ended = subprocess.run(
            [sys.executable, "-c", RANK, "--config", "demo/bert_full", *words],
            cwd=REPOSITORY,
            timeout=300,
            env={**os.environ, "SLURM_JOB_ID": "7", "SOKHAN_STATUS": str(status)},
        )
    word = read_statuses(status, 1)[0]
    assert (ended.returncode, word.code, word.state) == (FAILED, FAILED, "hung_peer")
    assert word.text.startswith(f"error: {folder}: process {process.pid} on ")
    assert sorted(path.name for path in folder.iterdir()) == ["lock"]


@pytest.mark.parametrize(("own", "other"), [("7", "17"), ("7", ""), ("", "7"), ("", "")])
def test_another_is_refused_at_once(
    own: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_directory, "_REMAINS", float("inf"))  # it would wait for ever
    monkeypatch.setenv("SLURM_JOB_ID", own)
    with holder(tmp_path, other, 0) as process:
        with pytest.raises(InputError, match=f"process {process.pid} on .* trains there"):
            RunLock(tmp_path)


def test_a_folder_with_submissions_is_not_yet_a_run(recipe: AnyRecipe) -> None:
    folder = run_folder(recipe)
    (folder / "slurm" / "20261123-143000-ab12").mkdir(parents=True)
    (folder / "lock").touch()
    hold_run_folder(recipe, False)[1].release()
    (folder / "other").touch()
    with pytest.raises(InputError, match="not a run directory"):
        hold_run_folder(recipe, False)


def test_submissions_stay(recipe: AnyRecipe) -> None:
    folder = run_folder(recipe)
    for name in ("slurm", "checkpoints"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").touch()
    clear(folder)
    assert [path.name for path in folder.rglob("*")] == ["slurm", "file"]
    clear(folder, ("run.json",))
    assert (folder / "slurm" / "file").is_file()


@pytest.mark.parametrize("job", ["20261123-143000-ab12/0", None])
def test_a_start_names_its_job(job: str | None, recipe: AnyRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    if job is None:
        monkeypatch.delenv("SOKHAN_JOB", raising=False)
    else:
        monkeypatch.setenv("SOKHAN_JOB", job)
    folder = run_folder(recipe)
    folder.mkdir(parents=True)
    list_start(folder, {"ranks": 2})
    assert json.loads((folder / "run.json").read_text())["starts"] == [{"ranks": 2, "job": job}]
