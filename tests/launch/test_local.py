"""The same training under every way to start it: real launches of real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from configs.lifetime import STOP_SIGNALS
from launch.cli import main
from launch.local import count_gpus, rank_command
from tests.launch.launched import Launched, launched, until
from tests.launch.submissions import started, submitted

RECIPE = "demo/bert_full"
ENDLESS = [
    "--loop.max_steps",
    "1000000",
    "--loop.epochs",
    "1000000",
    "--loop.log_every",
    "1",
    "--optim.schedule",
    "constant",
]


def arguments(shards: Path, out: Path) -> list[str]:
    return [
        "--data.shards",
        str(shards),
        "--model.vocabulary",
        "300",
        "--loop.max_steps",
        "2",
        "--data.workers",
        "1",
        "--output.folder",
        str(out),
        "--output.name",
        "run",
        "--tracking.wandb",
        "off",
    ]


def start(command: list[str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment, cwd=cwd)


def losses(out: Path) -> list[float]:
    lines = (out / "bert_full" / "run" / "metrics.jsonl").read_text().splitlines()
    return [m["loss"] for m in map(json.loads, lines) if m["kind"] == "train"]


def test_three_ways_to_start_give_one_result(text_shards: Path, tmp_path: Path) -> None:
    """``sokhan train --ranks 2``, from a folder with a file that is named like a module of Python's,
    DeepSpeed's own command, and one plain process."""
    bin_folder = Path(sys.executable).parent
    commands = {
        "sokhan": [str(bin_folder / "sokhan"), "train", RECIPE, "--ranks", "2"],
        "deepspeed": [
            sys.executable,
            str(bin_folder / "deepspeed"),
            "--num_gpus",
            "2",
            "--master_port",
            "29713",
            "--module",
            "trainers",
            "--config",
            RECIPE,
        ],
        "plain": [sys.executable, "-m", "trainers", "--config", RECIPE],
    }
    (tmp_path / "json.py").write_text("raise SystemExit('not the file of this name')")
    results = {}
    for name, command in commands.items():
        cwd = tmp_path if name == "sokhan" else None
        answer = start([*command, *arguments(text_shards, tmp_path / name)], cwd)
        assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-4000:]
        results[name] = losses(tmp_path / name)
        run = tmp_path / name / "bert_full" / "run"
        ranks = 1 if name == "plain" else 2
        assert json.loads((run / "environment.json").read_text())["ranks"] == ranks
        assert len(list((run / "ranks").glob("*.done"))) == ranks
        typed = (run / "command.txt").read_text()
        assert typed.startswith("sokhan train" if name == "sokhan" else "python -m trainers")
    assert len(results["plain"]) == 2
    for name in ("sokhan", "deepspeed"):
        assert results[name] == pytest.approx(results["plain"], rel=1e-5)


def test_a_failing_rank_fails_the_command(text_shards: Path, tmp_path: Path) -> None:
    overrides = [*arguments(text_shards, tmp_path), "--engine.precision", "fp16"]
    answer = start([sys.executable, "-m", "launch", "train", RECIPE, "--ranks", "2", *overrides])
    assert answer.returncode != 0
    assert "engine.precision' is fp16, which needs a GPU" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "bert_full" / "run" / "summary.json").exists()


def test_one_rank_needs_no_launcher() -> None:
    assert rank_command(1, ["--config", "x"]) == [sys.executable, "-m", "trainers", "--config", "x"]
    assert "deepspeed.launcher.launch" in rank_command(2, [])


@pytest.mark.parametrize(("visible", "count"), [("", 0), ("0", 1), ("0,2", 2), ("-1", 0)])
def test_visible_gpus(visible: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert count_gpus() == count


@contextmanager
def training(shards: Path, out: Path, ranks: int, *more: str) -> Iterator[Launched]:
    """A training without an end that has begun to train, with a reading process for each rank."""
    overrides = [*arguments(shards, out), *ENDLESS, *more]
    command = ["launch", "train", RECIPE, "--ranks", str(ranks), *overrides]
    metrics = out / "bert_full" / "run" / "metrics.jsonl"
    with launched(command, out / "output.txt") as started:
        started.until(lambda: metrics.is_file() and metrics.stat().st_size > 0)
        yield started


def nothing_is_left(started: Launched) -> None:
    until(lambda: not started.marked(), explain=lambda: str(started.marked()))


def test_a_killed_rank_is_named(text_shards: Path, tmp_path: Path) -> None:
    with training(text_shards, tmp_path, 2) as started:
        rank = started.ranks()[1]
        assert len(started.marked()) >= 2 + 2 + 2  # the commands, ranks, and their readers
        rank.kill()
        assert started.wait() == 1
        assert not started.marked()
        last = started.output.splitlines()[-1]
        assert last.startswith(f"error: rank 1 (process {rank.pid}) was killed (signal 9)")
        assert "Traceback" not in started.output


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGUSR2, marks=pytest.mark.slow)])
def test_ranks_save_when_deepspeeds_launcher_dies(
    number: signal.Signals, text_shards: Path, tmp_path: Path
) -> None:
    with training(text_shards, tmp_path, 2) as started:
        started.launcher().send_signal(number)
        assert started.wait() == 75, started.output
        assert not started.marked()
        assert "stopped after saving" in started.output
        last = started.output.splitlines()[-1]
        assert f"launcher was killed (signal {int(number)})" in last


def test_no_process_outlives_a_killed_command(
    text_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A short path: names of sockets must not be long.
    with tempfile.TemporaryDirectory() as temporary:
        monkeypatch.setenv("TMPDIR", temporary)
        with training(text_shards, tmp_path, 2) as started:
            assert list(Path(temporary).glob("sokhan-*"))
            started.process.kill()
            assert started.wait() == -signal.SIGKILL
            nothing_is_left(started)
            assert "stopped after saving" in started.output
        assert not list(Path(temporary).glob("sokhan-*"))


def test_signals_stop_the_ranks_after_a_save(text_shards: Path, tmp_path: Path) -> None:
    """Any of them, and any number, also to all ranks and their reading processes."""
    with training(text_shards, tmp_path, 2) as started:
        readers = [child for rank in started.ranks().values() for child in rank.children(True)]
        assert len(readers) >= 4  # a fork server and a reading process a rank
        for reader in readers:
            for number in STOP_SIGNALS:
                reader.send_signal(number)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
            started.process.send_signal(number)
        for rank in started.ranks().values():
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGTERM):
                rank.send_signal(number)
        assert started.wait() == 75, started.output
        assert not started.marked()
        assert "stopping after a save" in started.output
        assert started.output.count("stopped after saving") == 1


@pytest.mark.parametrize("hung", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_rank_that_hangs_is_named(hung: int, text_shards: Path, tmp_path: Path) -> None:
    more = ["--engine.timeout_minutes", "0.4"]
    with training(text_shards, tmp_path, 2, *more) as started:
        started.ranks()[hung].suspend()
        assert started.wait() == 1, started.output
        assert not started.marked()
        last = started.output.splitlines()[-1]
        assert last.startswith(f"error: rank {hung} has not answered for 0.4 min")
        assert "Traceback" not in started.output


def test_a_run_whose_job_waits_is_left_to_it(
    text_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "bert_full" / "run"
    submission = submitted(run, [run], job=str(os.getpid()), cluster="local")
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)", str(submission.folder)])
    try:
        started(submission, pid=helper.pid)
        assert main(["train", RECIPE, "--ranks", "1", *arguments(text_shards, tmp_path)]) == 2
    finally:
        helper.kill()
        helper.wait()
    assert f"{run}: job {os.getpid()} waits or trains there" in capsys.readouterr().err
