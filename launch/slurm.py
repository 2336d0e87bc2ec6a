"""Recipes -> jobs, through submitit: on SLURM, or as processes of this machine where there is none."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from configs.beginning import Beginning
from configs.cluster import Site
from configs.errors import InputError
from configs.load import AnyRecipe, load_recipe, run_folder, to_yaml
from launch.attempt import now
from launch.batch import rank_python, script, training_parameters
from launch.code import keep_code
from launch.local import check
from launch.rank_task import LocalTask, RankTask
from launch.submission import (
    FOLDER,
    Cluster,
    Member,
    Submission,
    new_folder,
    write_members,
    write_submission,
)
from launch.waiting import refuse_if_live, wait_for

Where = Literal["auto", "slurm", "local", "debug"]


@dataclass(frozen=True)
class Training:
    """A recipe that is to be submitted, and what becomes of what its run directory holds."""

    recipe: AnyRecipe
    beginning: Beginning


def submit(
    name: str, overrides: Sequence[str], site: Site, where: Where, *, beginning: Beginning,
    command: str, wait: bool,
) -> int:  # fmt: skip
    """Submit one recipe; returns the exit code. Prints job, run directory and what to do next."""
    recipe = load_recipe(name, [*site.recipe, *overrides])
    run = run_folder(recipe)
    cluster = choose(where, site)
    check(recipe, site.slurm.ranks, 0, beginning)
    refuse_if_live(run)
    submission = submit_members(
        [Training(recipe, beginning)],
        site,
        cluster,
        folder=run,
        name=recipe.recipe,
        command=command,
    )
    print(f"job {submission.job} ({cluster})\nrun directory: {run}")
    print(f"sokhan status {run}\nsokhan logs -f {run}\nsokhan cancel {run}", flush=True)
    return wait_for(submission) if wait else 0


def submit_members(
    trainings: Sequence[Training], site: Site, cluster: Cluster, *, folder: Path, name: str,
    command: str, at_most: int = 0,
) -> Submission:  # fmt: skip
    """Send trainings to the scheduler, as one array if there are several, at most ``at_most`` of them
    at once (0: all). ``folder`` is the run's or the sweep's.

    Everything that the jobs need is written before; if the scheduler refuses, it is removed.
    """
    path = new_folder(folder)
    try:
        members = _write(path, trainings, site, command)
        job = _send(path, members, site, cluster, name, at_most)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        _remove_empty(path.parent, folder)
        raise
    facts = {"job": job, "cluster": cluster, "time": now(), "array": len(members) > 1}
    submission = write_submission(Submission(path), facts)
    if cluster == "debug":
        LocalTask(str(path), 0)()
    return submission


def show(name: str, overrides: Sequence[str], site: Site, *, beginning: Beginning) -> int:
    """Print the batch script that `submit` would send, and, where there is a SLURM, what it says of
    it. Writes nothing."""
    recipe = load_recipe(name, [*site.recipe, *overrides])
    check(recipe, site.slurm.ranks, 0, beginning)
    folder = run_folder(recipe).absolute() / FOLDER / "new"
    text = script(
        training_parameters(site.slurm, folder, recipe.recipe), folder, rank_python(site.slurm), 1
    )
    print(text, flush=True)
    print(_test(text), file=sys.stderr)
    return 0


def choose(where: Where, site: Site) -> Cluster:
    """Which kind of cluster `auto` means here. Raises InputError where it cannot be had."""
    there = shutil.which("sbatch") is not None and shutil.which("srun") is not None
    if where == "slurm" and not there:
        raise InputError(
            "--cluster slurm: there is no sbatch on this machine; submit on a login node"
        )
    cluster: Cluster = ("slurm" if there else "local") if where == "auto" else where
    if cluster != "slurm" and site.slurm.nodes > 1:
        raise InputError(
            f"--slurm.nodes is {site.slurm.nodes}, but without SLURM there is this machine only"
        )
    return cluster


def _test(text: str) -> str:
    """What sbatch says of a script without taking it: when and where it would run, or why not."""
    if shutil.which("sbatch") is None:
        return "not tested: there is no sbatch on this machine"
    done = subprocess.run(["sbatch", "--test-only"], input=text, capture_output=True, text=True)
    return (done.stderr or done.stdout).strip()


def _write(path: Path, trainings: Sequence[Training], site: Site, command: str) -> list[Member]:
    keep_code(path)
    (path / "recipes").mkdir()
    members = []
    for number, training in enumerate(trainings):
        file = path / "recipes" / f"{number}.yaml"
        file.write_text(to_yaml(training.recipe), encoding="utf-8")
        flags = tuple(training.beginning.flags())
        run = run_folder(training.recipe).absolute()
        members.append(Member(number, file, run, site.slurm.ranks, flags))
    settings = {
        "command": command,
        "failures": site.slurm.failures,
        "gpus": site.slurm.gpus_per_task > 0,
    }
    write_members(path, members, settings)
    return members


def _send(
    path: Path, members: Sequence[Member], site: Site, cluster: Cluster, name: str, at_most: int
) -> str:
    """The scheduler's number of the job."""
    import submitit
    from submitit.core.utils import (
        FailedJobError,
        FailedSubmissionError,
        environment_variables,
    )

    if cluster == "debug":
        return str(os.getpid())
    if cluster == "local":
        if len(members) > 1:
            raise InputError("without SLURM, members of a sweep run one after the other")
        executor: Any = submitit.LocalExecutor(path)
        # The time limit is the cluster's; here nobody else waits for the machine.
        executor.update_parameters(timeout_min=525_600)
        code = {"PYTHONPATH": str(path / "code"), "PYTHONSAFEPATH": "1"}
        with _terminal_ignored(), environment_variables(**code):
            return str(executor.submit(LocalTask(str(path), 0)).job_id)
    parameters = training_parameters(site.slurm, path, name)
    if at_most:
        parameters["array_parallelism"] = at_most
    executor = submitit.SlurmExecutor(path, python=rank_python(site.slurm))
    executor.update_parameters(**parameters)
    try:
        jobs = (
            [executor.submit(RankTask(str(path), 0))]
            if len(members) == 1
            else _array(executor, path, members)
        )
    except (FailedJobError, FailedSubmissionError) as error:
        raise InputError(f"sbatch refused the job: {_last_line(error)}") from None
    return str(jobs[0].job_id).partition("_")[0]


def _array(executor: Any, path: Path, members: Sequence[Member]) -> list[Any]:
    with executor.batch():
        return [executor.submit(RankTask(str(path), member.number)) for member in members]


@contextmanager
def _terminal_ignored() -> Iterator[None]:
    """Processes started inside outlive the terminal and its Ctrl-C, as jobs of a cluster do."""
    numbers = (signal.SIGHUP, signal.SIGINT)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if "error:" in line]
    return lines[-1].partition("error:")[2].strip() if lines else str(error).splitlines()[-1]


def _remove_empty(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
