"""A training on the test cluster: submitted, disturbed, and compared with one that was let alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from launch.slurm.submission import Attempt, Member, Submission, newest_submission
from tests.slurm.cluster import Cluster

PATIENCE = 240.0
"""Bound of a wait; how long it takes is not what is tested."""
RECIPE = (
    "demo/bert_full", "--model.size", "mini", "--model.vocabulary", "2000",
    "--batching.items", "12", "--evaluation.items", "16", "--evaluation.train", "false",
    "--checkpoint.every_steps", "20", "--checkpoint.every_minutes", "null",
    "--checkpoint.optimizer", "always", "--engine.zero", "1", "--data.workers", "1",
    "--tracking.wandb", "offline",
)  # fmt: skip
"""Its steps are slow enough to be hit, and fast enough for two cores."""
SIZE = (
    "--slurm.nodes", "2", "--slurm.tasks_per_node", "1", "--slurm.gpus_per_task", "0",
    "--slurm.cpus_per_task", "1", "--slurm.partition", "low",
)  # fmt: skip


def train_locally(shards: Path, out: Path, epochs: int) -> Path:
    """The same training by `sokhan train` on two ranks, never disturbed; its run directory."""
    command = ["train", RECIPE[0], "--ranks", "2", *_settings(shards, out, epochs), *RECIPE[1:]]
    done = sokhan(command)
    assert done.returncode == 0, done.stderr
    return out / "bert_full" / "run"


def sokhan(words: Sequence[str], **more: str) -> subprocess.CompletedProcess[str]:
    """A command as it is typed."""
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", **more}
    return subprocess.run(
        [sys.executable, "-m", "launch", *words], env=environment, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip


@dataclass(frozen=True)
class Submitted:
    """One submitted training."""

    cluster: Cluster
    job: str
    run: Path

    @property
    def parts(self) -> tuple[Submission, Member]:
        """Its submission and its place there."""
        newest = newest_submission(self.run)
        assert newest is not None
        return newest

    def attempts(self) -> list[Attempt]:
        """Its starts."""
        submission, member = self.parts
        return submission.attempts(member)

    def end(self) -> dict[str, Any]:
        """How the newest start has ended; empty as long as it has not."""
        attempts = self.attempts()
        return attempts[-1].end if attempts else {}

    def step(self) -> int:
        """The last step in metrics.jsonl; 0: none."""
        path = self.run / "metrics.jsonl"
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        steps = re.findall(r'^\{"kind": "train", "step": (\d+),.*\}$', text, re.MULTILINE)
        return int(steps[-1]) if steps else 0

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something; shows logs and states if it does not come."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self.explain()
            time.sleep(0.1)

    def until_new_steps(self, count: int) -> None:
        """Wait until a start that is not over has trained so many steps more than are logged now."""
        goal = self.step() + count
        self.until(lambda: self.step() >= goal)

    def rank(self, rank: int) -> psutil.Process:
        """The process of a rank of the newest start."""
        _, member = self.parts
        self.until(lambda: rank in self.attempts()[-1].statuses(member.ranks))
        return psutil.Process(self.attempts()[-1].statuses(member.ranks)[rank].pid)

    def until_requeued(self, starts: int) -> None:
        """Wait until it has come back, for its start number ``starts``: SLURM holds a requeued job until
        its credentials have expired, 16 s here, and one that is released before fails."""
        self.until(lambda: len(self.attempts()) == starts)

    def finish(self) -> None:
        """Wait for the end, which must be a good one."""
        self.until(lambda: self.end().get("outcome") in ("finished", "failed", "no progress"))
        assert self.end()["outcome"] == "finished", self.explain()

    def explain(self) -> str:
        """All there is to say."""
        logs = sorted(self.parts[0].folder.glob("*_log.err"))
        texts = [f"{log.name}:\n{log.read_text(errors='replace')[-3000:]}" for log in logs]
        ends = [f"{attempt.start} {attempt.end}" for attempt in self.attempts()]
        return "\n".join([self.cluster.state(self.job), *ends, *texts])


def submit(cluster: Cluster, shards: Path, out: Path, epochs: int, *more: str) -> Submitted:
    """`sokhan submit` of the training."""
    command = ["submit", RECIPE[0], *_settings(shards, out, epochs), *RECIPE[1:], *SIZE, *more]
    done = sokhan(command, SLURM_CONF=str(cluster.conf))
    assert done.returncode == 0, done.stderr
    job = re.search(r"^job (\d+) \(slurm\)$", done.stdout, re.MULTILINE)
    assert job is not None, done.stdout
    return Submitted(cluster, job[1], out / "bert_full" / "run")


def _settings(shards: Path, out: Path, epochs: int) -> list[str]:
    return [
        "--data.shards", str(shards), "--output.folder", str(out), "--output.name", "run",
        "--loop.epochs", str(epochs),
    ]  # fmt: skip
