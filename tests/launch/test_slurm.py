"""Jobs through submitit on this machine, without a scheduler (a real SLURM is in tests/slurm)."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from launch.cli import main
from launch.slurm.submission import Attempt, newest_submission
from tests.launch.launched import PATIENCE, until
from tests.launch.test_local import ENDLESS, arguments, start

NO_GPUS = ["--slurm.gpus_per_task", "0"]


def last_attempt(run: Path) -> Attempt | None:
    """A run's newest start, if it has been submitted and started."""
    newest = newest_submission(run)
    attempts = newest[0].attempts(newest[1]) if newest else []
    return attempts[-1] if attempts else None


def test_a_job_of_two_local_tasks(
    text_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--slurm.tasks_per_node", "2", *NO_GPUS]
    command = ["submit", "demo/bert_full", "--cluster", "local", "--wait", *size]
    code = main([*command, *arguments(text_shards, tmp_path)])
    shown = capsys.readouterr()
    run = tmp_path / "bert_full" / "run"
    newest = newest_submission(run)
    assert newest is not None
    submission, member = newest
    logs = "".join(path.read_text() for path in submission.logs(member, 0))
    assert code == 0, shown.err + logs[-3000:]
    assert f"job {submission.job} (local)\nrun directory: {run}\n" in shown.out
    assert f"sokhan logs -f {run}\n" in shown.out and "is done" in shown.out
    assert json.loads((run / "environment.json").read_text())["ranks"] == 2
    [attempt] = submission.attempts(member)
    assert attempt.end["outcome"] == "finished" and attempt.end["code"] == 0
    assert {rank: word.state for rank, word in attempt.statuses(2).items()} == {
        0: "finished",
        1: "finished",
    }
    assert {path.stat().st_mode & 0o777 for path in (run, submission.folder)} == {0o700}
    # It has run the kept code, of this submission.
    starts = json.loads((run / "run.json").read_text())["starts"]
    assert [line["job"] for line in starts] == [f"{submission.folder.name}/0"]
    # Submitted again, there is nothing to do.
    assert main([*command, *arguments(text_shards, tmp_path)]) == 2
    assert "this run is finished" in capsys.readouterr().err
    assert newest_submission(run) == newest


def test_a_failing_job_in_the_foreground(text_shards: Path, tmp_path: Path) -> None:
    words = [*arguments(text_shards, tmp_path), "--engine.precision", "fp16", *NO_GPUS]
    command = [sys.executable, "-m", "launch", "submit", "demo/bert_full", "--cluster", "debug"]
    done = start([*command, *words])
    run = tmp_path / "bert_full" / "run"
    assert done.returncode == 2, done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("error: key 'engine.precision' is fp16")
    attempt = last_attempt(run)
    assert attempt is not None and attempt.end["outcome"] == "failed"
    assert attempt.end["words"] in done.stderr


def interrupted_on_a_terminal(command: Sequence[str], ready: Callable[[], bool]) -> tuple[str, int]:
    """What a command printed on a terminal where Ctrl-C is typed at some time, and its exit code. Then
    the terminal is closed. Both reach all processes that were started there."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run in the background
        os.execv(sys.executable, [sys.executable, "-m", *command])
    try:
        until(ready)
        os.write(terminal, b"\x03")
        _, status = os.waitpid(pid, 0)
        shown = b""
        while select.select([terminal], [], [], 0)[0]:  # the job holds it open: there is no end
            shown += os.read(terminal, 4096)
    finally:
        os.close(terminal)
    return shown.decode(), os.waitstatus_to_exitcode(status)


def test_a_local_job_outlives_its_terminal_and_keeps_others_out(
    text_shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    words = [*arguments(text_shards, tmp_path), *NO_GPUS, *ENDLESS]
    command = ["submit", "demo/bert_full", "--cluster", "local", *words]
    run = tmp_path / "bert_full" / "run"
    metrics = run / "metrics.jsonl"

    def size() -> int:
        return metrics.stat().st_size if metrics.is_file() else 0

    try:
        waiting = ["launch", *command, "--wait"]
        shown, code = interrupted_on_a_terminal(waiting, lambda: size() > 0)
        job = re.search(r"^job (\d+) \(local\)", shown, re.MULTILINE)
        assert job is not None, shown
        assert code == 130 and f"stopped: waiting only; job {job[1]} goes on" in shown, shown
        seen = size()
        until(lambda: size() > seen)
        before = newest_submission(run)
        assert main(command) == 2
        assert f"{run}: job {job[1]} waits or trains there" in capsys.readouterr().err
        assert newest_submission(run) == before
        assert len(list((run / "slurm").glob("2*"))) == 1
    finally:
        assert main(["cancel", str(run)]) == 0

    def stopped() -> bool:
        attempt = last_attempt(run)
        return attempt is not None and bool(attempt.end)

    until(stopped)
    attempt = last_attempt(run)
    assert attempt is not None and attempt.end["outcome"] == "saved"
    assert list((run / "checkpoints").glob("step-*"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--slurm.partition", "gpu\nrm -rf x"], r"--slurm.partition is 'gpu\nrm -rf x', which"),
        (["--slurm.nodes", "0"], "--slurm.nodes is 0"),
        (["--slurm.nodes", "2"], "without SLURM there is this machine only"),
        (["--slurm.tasks_per_node", "3"], "4 / 3 = 1.33"),
        (["--slurm.minutes", "3"], "unknown key 'slurm.minutes'; did you mean"),
        (["--optim.lrr", "3"], "unknown key 'optim.lrr'"),
        (["--site", "nowhere"], "nowhere: no such site file"),
        (["--output.folder", "a;b"], "a;b"),
        (["--resume", "nowhere"], "--resume nowhere: no such folder"),
        (["--data.shards", "nowhere"], "nowhere: not a packed corpus"),
    ],
)
def test_wrong_input(
    flags: list[str],
    message: str,
    text_shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["submit", "demo/bert_full", "--cluster", "local", "--data.shards", str(text_shards)]
    assert main([*command, *flags]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1 and not list(tmp_path.iterdir())


def test_slurm_that_is_not_there(
    text_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    command = ["submit", "demo/bert_full", "--data.shards", str(text_shards), "--cluster", "slurm"]
    assert main([*command, "--output.folder", str(tmp_path / "out")]) == 2
    assert "there is no sbatch on this machine" in capsys.readouterr().err
    assert main([*command[:-2], "--dry-run"]) == 0  # a script can be looked at anywhere
    assert "not tested: there is no sbatch on this machine" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nothing_of_a_submission_imports_torch(text_shards: Path, tmp_path: Path) -> None:
    """Login nodes are small, and `sokhan submit` is to answer at once."""
    code = (
        "import sys; from launch.cli import main; code = main(sys.argv[1:]);"
        "sys.exit(code or any(name in sys.modules for name in ('torch', 'deepspeed', 'transformers')))"
    )
    command = ["submit", "demo/bert_full", "--data.shards", str(text_shards), "--dry-run"]
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=tmp_path,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_model_that_cannot_be_fetched_is_told_before_anything_is_sent(
    text_shards: Path, tmp_path: Path
) -> None:
    """The nodes may have no network, so the hub is asked here."""
    command = [sys.executable, "-m", "launch", "submit", "demo/bert_full", "--cluster", "local"]
    command += [*arguments(text_shards, tmp_path), "--model.pretrained", "nobody/nothing"]
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        command, env={**os.environ, **nowhere}, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 2
    assert "nobody/nothing is not on this machine and the hub cannot be reached" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("bert_full/*"))
