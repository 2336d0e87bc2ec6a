"""What only a GPU can show: fp16, and that the CPU's losses come out there too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def command(shards: Path, out: Path, overrides: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "trainers",
        "--config",
        "demo/bert_full",
        "--data.shards",
        str(shards),
        "--model.vocabulary",
        "300",
        "--loop.max_steps",
        "10",
        "--data.workers",
        "1",
        "--output.folder",
        str(out),
        "--output.name",
        "run",
        "--tracking.wandb",
        "off",
        *overrides.split(),
    ]


def losses(shards: Path, out: Path, overrides: str = "", **environment: str) -> list[float]:
    answer = subprocess.run(
        command(shards, out, overrides),
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, **environment},
    )
    assert answer.returncode == 0, answer.stderr[-4000:]
    lines = (out / "bert_full" / "run" / "metrics.jsonl").read_text().splitlines()
    return [m["loss"] for m in map(json.loads, lines) if m["kind"] == "train"]


def test_gpu_and_cpu_agree(text_shards: Path, tmp_path: Path) -> None:
    gpu = losses(text_shards, tmp_path / "gpu")
    cpu = losses(text_shards, tmp_path / "cpu", CUDA_VISIBLE_DEVICES="", DS_ACCELERATOR="cpu")
    assert gpu == pytest.approx(cpu, rel=1e-3)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("precision", ["fp16", "bf16", "bf16_autocast"])
def test_low_precision(precision: str, stage: int, text_shards: Path, tmp_path: Path) -> None:
    exact = losses(text_shards, tmp_path / "exact")
    overrides = f"--engine.precision {precision} --engine.zero {stage}"
    low = losses(text_shards, tmp_path / "low", overrides=overrides)
    assert low == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("stage", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "bf16_autocast"])
def test_a_killed_run_goes_on_bit_for_bit(
    precision: str, stage: int, text_shards: Path, tmp_path: Path
) -> None:
    overrides = f"--engine.precision {precision} --engine.zero {stage} --engine.deterministic true"
    overrides += " --checkpoint.every_steps 3 --loop.max_steps 40 --loop.epochs 20"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    losses(text_shards, whole, overrides=overrides)
    metrics = killed / "bert_full" / "run" / "metrics.jsonl"
    started = subprocess.Popen(command(text_shards, killed, overrides))
    while started.poll() is None and not (metrics.is_file() and '"step": 10' in metrics.read_text()):
        time.sleep(0.001)
    started.kill()
    started.wait()
    losses(text_shards, killed, overrides=overrides)
    for name in ("metrics.jsonl", "model/model.safetensors"):
        same = killed / "bert_full" / "run" / name, whole / "bert_full" / "run" / name
        assert same[0].read_bytes() == same[1].read_bytes(), name
