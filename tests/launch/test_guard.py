"""The guard beside rank 0, with real processes in place of the batch script and of the rank."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from launch.slurm.submission import Attempt, Submission
from tests.launch.submissions import ended, said, stand_in_scheduler, started, submitted

JOB = "41"
PATIENCE = 60.0
RANK = """
import sys, time
from pathlib import Path
from launch.slurm.guard import guard_script
from launch.slurm.submission import Submission

submission = Submission(Path(sys.argv[1]))
member = submission.members[0]
guard_script(submission, member, submission.attempts(member)[-1])
print("guarded", flush=True)
time.sleep(600)
"""


@dataclass
class Scene:
    """A batch script, rank 0, and its guard if it has one."""

    shell: subprocess.Popen[str]
    rank: subprocess.Popen[str]
    guards: list[psutil.Process]
    attempt: Attempt
    scheduler: Path

    def gone(self) -> bool:
        return not any(guard.is_running() and guard.status() != "zombie" for guard in self.guards)


Start = Callable[..., Scene]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def scene(script: str = "slurm_script", rank: str = "0", state: str = "RUNNING None") -> Scene:
        submission: Submission = submitted(tmp_path / "run", [tmp_path / "run"], job=JOB)
        attempt = started(submission)
        said(attempt, 0, "started")
        scheduler = stand_in_scheduler(tmp_path / "bin", JOB)
        (scheduler / "state").write_text(state)
        (tmp_path / script).write_text("sleep 600 & wait")
        shell = subprocess.Popen(["bash", tmp_path / script], text=True, start_new_session=True)
        processes.append(shell)
        environment = {
            **os.environ,
            "PATH": str(scheduler),
            "SLURM_JOB_ID": JOB,
            "SLURM_PROCID": rank,
            "SOKHAN_SHELL": str(shell.pid),
        }
        command = [sys.executable, "-c", RANK, str(submission.folder)]
        process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == "guarded\n"
        return Scene(shell, process, psutil.Process(process.pid).children(), attempt, scheduler)

    yield scene
    for process in processes:
        for child in psutil.Process(process.pid).children() if process.poll() is None else []:
            child.kill()
        process.kill()
        process.communicate()


@pytest.mark.parametrize("state", ["RUNNING None", "COMPLETING JobLaunchFailure"])
def test_a_job_without_its_batch_script_is_requeued(state: str, start: Start) -> None:
    scene = start(state=state)
    scene.guards[0].terminate()  # as SLURM tells all that a job has to stop
    scene.shell.kill()
    scene.shell.wait()
    until(scene.gone)
    assert (scene.scheduler / "requeued").read_text() == f"requeue {JOB}\n"
    end = scene.attempt.end
    assert (end["outcome"], end["cause"]) == ("requeued", "failure")
    assert end["words"] == "error: the batch script was killed"
    assert scene.rank.poll() is None  # it may still be saving


def test_a_cancelled_job_is_not_revived(start: Start) -> None:
    scene = start(state="COMPLETING None")
    scene.shell.kill()
    scene.shell.wait()
    until(scene.gone)
    assert not (scene.scheduler / "requeued").exists()
    assert scene.attempt.end["outcome"] == "killed"


def test_a_script_that_has_told_its_end_is_left_alone(start: Start) -> None:
    scene = start()
    ended(scene.attempt, "failed")
    scene.shell.kill()
    scene.shell.wait()
    until(scene.gone)
    assert not (scene.scheduler / "requeued").exists()
    assert scene.attempt.end["outcome"] == "failed"


def test_it_ends_with_its_rank(start: Start) -> None:
    scene = start()
    scene.rank.kill()
    scene.rank.wait()
    until(scene.gone)
    assert scene.shell.poll() is None and not scene.attempt.end


@pytest.mark.parametrize(("script", "rank"), [("other", "0"), ("slurm_script", "1")])
def test_where_there_is_none(script: str, rank: str, start: Start) -> None:
    """Another process of that number, as in a container that counts its own; another rank."""
    assert start(script, rank).guards == []
