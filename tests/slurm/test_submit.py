"""What `sokhan submit` hands to a real cluster: its code, no secrets, and nothing where it is refused."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from launch.code_snapshot import PACKAGES
from launch.slurm.submission import Attempt, newest_submission
from tests.launch.test_local import arguments
from tests.launch.test_submission import ROOT, git
from tests.slurm.cluster import Cluster

PATIENCE = 240.0
"""Bound of a wait; how long it takes is not what is tested."""
SIZE = [
    "--slurm.nodes",
    "2",
    "--slurm.gpus_per_task",
    "0",
    "--slurm.cpus_per_task",
    "1",
    "--cluster",
    "slurm",
]
SECRETS = {"WANDB_API_KEY": "canary" + "0" * 34, "HF_TOKEN": "hf_canary1"}
# Run directories must not be told from Persian, or awkward, folders.
FOLDER = "a (b) [c] #d é دوره‌ها"


def typed(cluster: Cluster, words: Sequence[str], cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """`sokhan` with these words, in this folder."""
    environment = {**cluster.environment, "OMP_NUM_THREADS": "1", **more}
    return subprocess.run(
        [sys.executable, "-m", "launch", *words],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@contextmanager
def occupied(cluster: Cluster) -> Iterator[None]:
    """All nodes are taken meanwhile; what is submitted waits."""
    blocker = cluster.submit("sleep 600", "-N", "2", "--exclusive", "-p", "low", "-o", "/dev/null")
    try:
        cluster.wait_for(blocker, "RUNNING")
        yield
    finally:
        cluster.run("scancel", blocker)


def on_a_terminal_that_closes(command: Sequence[str], last_word: str) -> str:
    """What a command printed on a terminal that is closed at this word; that hangs up all processes
    which it has started there."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", *command])
    shown = b""
    end = time.monotonic() + PATIENCE
    while last_word.encode() not in shown and time.monotonic() < end:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # it has ended
            break
    os.close(terminal)
    os.waitpid(pid, 0)
    return shown.decode()


def finished(cluster: Cluster, run: Path) -> Attempt:
    """Wait for the end of a run's only start."""
    newest = newest_submission(run)
    assert newest is not None
    submission, member = newest
    end = time.monotonic() + PATIENCE
    while not (attempts := submission.attempts(member)) or not attempts[-1].end:
        logs = "".join(path.read_text() for path in submission.folder.glob("*_log.err"))
        assert time.monotonic() < end, f"{cluster.job(submission.job)}\n{logs}"
        time.sleep(0.1)
    assert len(attempts) == 1
    return attempts[0]


def environments(attempt: Attempt, ranks: int) -> dict[int, tuple[str, str]]:
    """Environment and command line of each rank, as soon as it has begun; it then imports torch for
    some seconds."""
    found: dict[int, tuple[str, str]] = {}
    end = time.monotonic() + PATIENCE
    while len(found) < ranks:
        assert time.monotonic() < end, found
        for rank, word in attempt.statuses(ranks).items():
            with contextlib.suppress(OSError):
                process = Path("/proc", str(word.pid))
                environment = (process / "environ").read_text(errors="replace")
                found.setdefault(rank, (environment, (process / "cmdline").read_text()))
        time.sleep(0.05)
    return found


def with_secret(folder: Path) -> list[Path]:
    """Files that hold one of the secrets."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 100
    marks = [value.encode() for value in SECRETS.values()]
    return [path for path in files if any(mark in path.read_bytes() for mark in marks)]


def checkout_of_ours(folder: Path) -> str:
    """A copy of the packages with one commit and a change; gives the commit."""
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "all")
    (folder / "trainers" / "__init__.py").write_text("# changed before it was submitted\n")
    return git(folder, "rev-parse", "HEAD").strip()


def test_a_job_runs_the_submitted_code_and_has_secrets_in_its_environment_only(
    cluster: Cluster, text_shards: Path, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    commit = checkout_of_ours(checkout)
    run = tmp_path / "runs" / "bert_full" / "run"
    words = [*arguments(text_shards, tmp_path / "runs"), "--tracking.wandb", "offline"]
    with occupied(cluster):
        done = typed(cluster, ["submit", "demo/bert_full", *words, *SIZE], checkout, **SECRETS)
        assert done.returncode == 0, done.stderr
        newest = newest_submission(run)
        assert newest is not None
        submission, member = newest
        assert cluster.state(submission.job) == "PENDING"
        assert {path.stat().st_mode & 0o777 for path in (run, submission.folder)} == {0o700}
        # Whoever would run the checkout now, fails.
        for package in PACKAGES:
            (checkout / package / "__init__.py").write_text("raise SystemExit('edited')\n")
        # What others see of a job that waits.
        shown = cluster.run("scontrol", "show", "job", "-dd", submission.job)
        shown += cluster.run("scontrol", "write", "batch_script", submission.job, "-")
        shown += cluster.run("squeue", "-o", "%all")
    deadline = time.monotonic() + PATIENCE
    while not submission.attempts(member):
        late = time.monotonic() > deadline or cluster.state(submission.job) == "FAILED"
        assert not late, cluster.job(submission.job)
        time.sleep(0.1)
    for environment, command in environments(submission.attempts(member)[0], 2).values():
        for name, value in SECRETS.items():
            assert f"{name}={value}" in environment.split("\0")
            assert value not in command
    assert finished(cluster, run).end["outcome"] == "finished"
    assert (run / "summary.json").is_file()

    shown += done.stdout + done.stderr + cluster.run("scontrol", "show", "job", "-dd", submission.job)
    assert "batch script" in shown or "#SBATCH" in shown
    assert not [value for value in SECRETS.values() if value in shown]
    assert with_secret(tmp_path) == []

    kept = json.loads((submission.folder / "code.json").read_text())
    assert kept == {"commit": commit, "changed": True, "new_files": []}
    assert "+# changed before it was submitted" in (submission.folder / "code.diff").read_text()
    assert (submission.folder / "code/trainers/__init__.py").read_text().startswith("# changed")
    assert "edited" not in (submission.folder / "code/configs/__init__.py").read_text()


def test_a_job_outlives_its_terminal_and_keeps_others_out_of_its_run(
    cluster: Cluster, text_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder whose name is quoted wherever it stands in the batch script."""
    (tmp_path / FOLDER).mkdir()
    monkeypatch.chdir(tmp_path / FOLDER)
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    run = tmp_path / FOLDER / "runs" / "bert_full" / "run"
    words = arguments(text_shards, Path("runs"))
    command = ["submit", "demo/bert_full", *words, *SIZE]
    with occupied(cluster):
        shown = on_a_terminal_that_closes(["launch", *command], "sokhan cancel")
        job = re.search(r"^job (\d+) \(slurm\)", shown, re.MULTILINE)
        assert job is not None, shown
        before = sorted((run / "slurm").iterdir())
        again = typed(cluster, command, Path.cwd())
        assert again.returncode == 2 and again.stderr.count("\n") == 1
        assert f"job {job[1]} waits or trains there; see `sokhan status" in again.stderr
        assert sorted((run / "slurm").iterdir()) == before
        assert cluster.run("squeue", "-h", "-o", "%i", "-n", "bert_full").split() == [job[1]]
    assert finished(cluster, run).end["outcome"] == "finished"
    newest = newest_submission(run)
    assert newest is not None
    for rank in (0, 1):
        assert all(path.is_file() for path in newest[0].logs(newest[1], rank))


def test_a_script_is_tried_by_sbatch(cluster: Cluster, text_shards: Path, tmp_path: Path) -> None:
    words = [
        "submit",
        "demo/bert_full",
        *arguments(text_shards, tmp_path / "runs"),
        *SIZE,
        "--dry-run",
    ]
    good = typed(cluster, words, tmp_path)
    assert good.returncode == 0
    assert re.fullmatch(r".*Job \d+ to start at \S+ .*nodes n\[1-2\].*\n", good.stderr), good.stderr
    assert good.stdout.startswith("#!/bin/bash\n") and "\n#SBATCH --nodes=2\n" in good.stdout
    plan = ["--batching.micro_batches", "32"]
    for refused, reason in (
        (["--slurm.nodes", "8", *plan], "Requested node configuration is not available"),
        (["--slurm.partition", "none"], "Invalid partition name specified"),
    ):
        done = typed(cluster, [*words, *refused], tmp_path)
        assert done.returncode == 2
        assert done.stdout.startswith("#!/bin/bash\n")
        assert done.stderr.count("\n") == 1, done.stderr
        assert f"{reason}\n" in done.stderr
    assert list(tmp_path.iterdir()) == [] and cluster.run("squeue", "-h") == ""


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (["--slurm.partition", "none"], "Invalid partition name specified"),
        (["--slurm.constraint", "a100"], "Invalid feature specification"),
        (["--slurm.reservation", "none"], "reservation is invalid"),
    ],
)
def test_a_refused_job_leaves_nothing(
    refused: list[str], reason: str, cluster: Cluster, text_shards: Path, tmp_path: Path
) -> None:
    words = [
        "submit",
        "demo/bert_full",
        *arguments(text_shards, tmp_path / "runs"),
        *SIZE,
        *refused,
    ]
    done = typed(cluster, words, tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: sbatch refused the job: ") and done.stderr.count("\n") == 1
    assert reason in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not (tmp_path / "runs" / "bert_full" / "run").exists()
    assert cluster.run("squeue", "-h") == ""
