"""Run a recipe as a job through submitit: on SLURM, or as local processes where there is none.

One task a rank, each a plain ``python -m trainers``: no launcher and no ssh on the nodes. Ranks
find each other through what submitit reads from the scheduler's environment.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from configs.beginning import Beginning
from configs.errors import InputError
from configs.load import load_recipe, run_folder
from launch.local import check

Cluster = Literal["auto", "slurm", "local", "debug"]


@dataclass(frozen=True)
class JobSize:
    """What is asked of the scheduler."""

    nodes: int = 1
    tasks_per_node: int = 1
    """Ranks, and GPUs, of one node."""
    partition: str = ""
    minutes: int = 60
    """The job is ended after this long."""
    cpus_per_task: int = 4
    gpus_per_task: int = 1
    """0 for nodes without GPUs."""


@dataclass(frozen=True)
class RankJob:
    """What each task of the job does; pickled by submitit, so it holds plain values only."""

    arguments: tuple[str, ...]
    command: str
    folder: str = field(default_factory=os.getcwd)

    def __call__(self) -> None:
        """Train as one rank. Raises if training fails, which fails the job."""
        from submitit.helpers import TorchDistributedEnvironment

        # DeepSpeed picks the GPU by LOCAL_RANK, so all of a node's must be visible.
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
        environment = {**os.environ, "SOKHAN_COMMAND": self.command}
        command = [sys.executable, "-m", "trainers", *self.arguments]
        subprocess.run(command, env=environment, cwd=self.folder, check=True)


def submit(
    name: str,
    overrides: Sequence[str],
    size: JobSize,
    cluster: Cluster,
    *,
    wait: bool,
    beginning: Beginning,
    command: str,
) -> int:
    """Submit one recipe; returns the exit code. Prints job id, run directory and logs."""
    import submitit

    recipe = load_recipe(name, overrides)
    check_size(size)
    check(recipe, size.nodes * size.tasks_per_node, 0, beginning)
    logs = run_folder(recipe).parent / f"{run_folder(recipe).name}.jobs"
    executor = submitit.AutoExecutor(logs, cluster=None if cluster == "auto" else cluster)
    executor.update_parameters(
        name=recipe.recipe,
        nodes=size.nodes,
        tasks_per_node=size.tasks_per_node,
        timeout_min=size.minutes,
        cpus_per_task=size.cpus_per_task,
        # By node: with --gpus-per-task each task would see its own GPU alone.
        gpus_per_node=size.tasks_per_node * size.gpus_per_task,
        slurm_partition=size.partition or None,
        # srun takes cpus-per-task from the batch job no longer (SLURM 22.05).
        slurm_srun_args=[f"--cpus-per-task={size.cpus_per_task}", "--kill-on-bad-exit=1"],
    )
    job = executor.submit(RankJob(("--config", name, *beginning.flags(), *overrides), command))
    print(f"job {job.job_id} ({executor.cluster})\nrun directory: {run_folder(recipe)}")
    print(f"logs: {Path(job.paths.stdout)}", flush=True)
    if not wait:
        return 0
    problem = job.exception()
    if problem is not None:
        print(f"error: job {job.job_id} failed; see {job.paths.stderr}", file=sys.stderr)
        return 1
    print(f"job {job.job_id} is done")
    return 0


def check_size(size: JobSize) -> None:
    """Raise InputError for what must not reach a batch script."""
    for key in ("nodes", "tasks_per_node", "minutes", "cpus_per_task"):
        if getattr(size, key) < 1:
            raise InputError(f"--slurm.{key} is {getattr(size, key)}; it must be at least 1")
    if size.partition and not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", size.partition):
        raise InputError(f"--slurm.partition {size.partition!r}: not a partition's name")
