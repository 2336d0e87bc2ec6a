"""What only a GPU can show: fp16, and that the CPU's losses come out there too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def losses(shards: Path, out: Path, **environment: str) -> list[float]:
    command = [
        sys.executable, "-m", "trainers", "--config", "demo/bert_full", "--data.shards",
        str(shards), "--model.vocabulary", "300", "--loop.max_steps", "10", "--data.workers", "1",
        "--output.folder", str(out), "--output.name", "run", "--tracking.wandb", "off",
        *environment.pop("overrides", "").split(),
    ]  # fmt: skip
    answer = subprocess.run(
        command, capture_output=True, text=True, timeout=400, env={**os.environ, **environment}
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
