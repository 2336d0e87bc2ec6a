"""The same training under every way to start it: real launches of real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from launch.local import count_gpus, rank_command

RECIPE = "demo/bert_full"


def arguments(shards: Path, out: Path) -> list[str]:
    return [
        "--data.shards", str(shards), "--model.vocabulary", "300", "--loop.max_steps", "2",
        "--data.workers", "1", "--output.folder", str(out), "--output.name", "run",
        "--tracking.wandb", "off",
    ]  # fmt: skip


def start(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)


def losses(out: Path) -> list[float]:
    lines = (out / "bert_full" / "run" / "metrics.jsonl").read_text().splitlines()
    return [m["loss"] for m in map(json.loads, lines) if m["kind"] == "train"]


def test_three_ways_to_start_give_one_result(text_shards: Path, tmp_path: Path) -> None:
    """``sokhan train --ranks 2``, DeepSpeed's own command, and one plain process."""
    bin_folder = Path(sys.executable).parent
    commands = {
        "sokhan": [sys.executable, "-m", "launch", "train", RECIPE, "--ranks", "2"],
        "deepspeed": [
            sys.executable, str(bin_folder / "deepspeed"), "--num_gpus", "2", "--master_port",
            "29713", "--module", "trainers", "--config", RECIPE,
        ],
        "plain": [sys.executable, "-m", "trainers", "--config", RECIPE],
    }  # fmt: skip
    results = {}
    for name, command in commands.items():
        answer = start([*command, *arguments(text_shards, tmp_path / name)])
        assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-4000:]
        results[name] = losses(tmp_path / name)
        run = tmp_path / name / "bert_full" / "run"
        ranks = 1 if name == "plain" else 2
        assert json.loads((run / "environment.json").read_text())["ranks"] == ranks
        assert len(list((run / "ranks").glob("*.done"))) == ranks
        typed = (run / "command.txt").read_text()
        assert typed.startswith("__main__.py train" if name == "sokhan" else "python -m trainers")
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


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_no_rank_outlives_the_command(
    number: signal.Signals, text_shards: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "launch", "train", RECIPE, "--ranks", "2"]
    overrides = [*arguments(text_shards, tmp_path), "--loop.max_steps", "100000"]
    overrides += ["--loop.epochs", "100000", "--optim.schedule", "constant"]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, *overrides], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert b"2 rank(s)" in process.stdout.readline()  # training has begun
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) >= 3  # the launcher and two ranks
    process.send_signal(number)
    process.wait(60)
    process.stdout.close()
    assert psutil.wait_procs(started, timeout=60)[1] == []
