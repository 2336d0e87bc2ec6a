"""Waiting for submitted trainings: processes of this machine (jobs of a cluster are in tests/slurm)."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launch.slurm.submission import Submission
from launch.slurm.waiting import SETTLE, pause_after, wait_for
from tests.launch.submissions import ended, said, started, submitted

WAIT = """
import sys
from pathlib import Path
from launch.slurm.submission import Submission
from launch.slurm.waiting import wait_for
sys.exit(wait_for(Submission(Path(sys.argv[1]))))
"""


def _heed_ctrl_c() -> None:
    """Tests may run in the background of a shell, where it is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def running(submission: Submission) -> Iterator[subprocess.Popen[bytes]]:
    """A process that passes for a member's."""
    command = [sys.executable, "-c", "import time; time.sleep(600)", str(submission.folder)]
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def waiting(submission: Submission) -> Iterator[subprocess.Popen[str]]:
    """A process that waits for a submission."""
    command = [sys.executable, "-c", WAIT, str(submission.folder)]
    output = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=output, stderr=output, text=True, preexec_fn=_heed_ctrl_c
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def sweep(folder: Path, members: int) -> Submission:
    """A submission of so many trainings."""
    runs = [folder / "runs" / "bert" / str(number) for number in range(members)]
    return submitted(folder / "runs" / "sweeps" / "grid", runs, cluster="local")


def test_members_are_told_of_as_they_end(tmp_path: Path) -> None:
    submission = sweep(tmp_path, 4)
    with running(submission) as job:
        first = started(submission, 0, pid=job.pid)
        ended(started(submission, 1), "finished")
        started(submission, 2)  # without a word, and no process
        failing = started(submission, 3)
        said(failing, 0, "failed", "error: no room")
        ended(failing, "failed", "Traceback\nerror: no room\n\n", code=2)
        with waiting(submission) as command:
            assert command.stdout and command.stderr
            assert command.stdout.readline() == f"job 41_1 is done: {tmp_path}/runs/bert/1\n"
            logs = f"see `sokhan logs {tmp_path}/runs/bert"
            assert command.stderr.readline() == f"error: job 41_3 failed: no room; {logs}/3`\n"
            silent = f"error: job 41_2 failed: it has ended without a word; {logs}/2`\n"
            assert command.stderr.readline() == silent
            assert command.poll() is None
            ended(first, "finished")
            assert command.stdout.read() == f"job 41_0 is done: {tmp_path}/runs/bert/0\n"
            assert command.wait() == 1


def test_ctrl_c_ends_the_waiting_only(tmp_path: Path) -> None:
    submission = sweep(tmp_path, 2)
    with running(submission) as job:
        started(submission, 0, pid=job.pid)
        ended(started(submission, 1), "finished")
        with waiting(submission) as command:
            assert command.stdout and command.stderr
            assert "41_1 is done" in command.stdout.readline()  # so it is waiting now
            command.send_signal(signal.SIGINT)
            said_last = command.stderr.read().splitlines()[-1]
            assert said_last == "KeyboardInterrupt: waiting only; job 41 goes on"
        assert job.poll() is None


def test_exit_codes(tmp_path: Path) -> None:
    submission = sweep(tmp_path, 2)
    ended(started(submission, 0), "finished")
    ended(started(submission, 1), "finished")
    assert wait_for(submission) == 0
    ended(started(submission, 1), "saved", code=75)
    assert wait_for(submission) == 75
    ended(started(submission, 0), "failed", "error: no room", code=2)
    assert wait_for(submission) == 1


def test_looks_become_rarer() -> None:
    pauses = [pause_after(waited) for waited in (0, 30, 60, 300, 600, 86_400)]
    assert pauses[0] == 2 and pauses[-1] == 30 > SETTLE and pauses == sorted(pauses)
