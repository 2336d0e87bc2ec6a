"""Recipes -> jobs, through submitit: on SLURM, or as processes of this machine where there is none."""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs.access import make_run_folder, writing_run
from configs.beginning import Beginning
from configs.cluster import Site
from configs.errors import InputError
from configs.load import AnyRecipe, run_folder, to_yaml
from configs.rank_status import TRAINED, WRONG_INPUT
from launch.checks import check, load_unfinished
from launch.code_snapshot import importing_from, keep_code
from launch.slurm.ask import SchedulerError
from launch.slurm.attempt import now
from launch.slurm.batch import rank_python, script, training_parameters
from launch.slurm.rank_task import LocalTask, RankTask
from launch.slurm.sbatch import send_jobs, try_script
from launch.slurm.scheduler import cancel
from launch.slurm.submission import (
    FOLDER,
    Cluster,
    Member,
    Submission,
    check_path,
    new_folder,
    write_members,
    write_submission,
)
from launch.slurm.waiting import refuse_if_live, wait_for

Where = Literal["auto", "slurm", "local", "debug"]


@dataclass(frozen=True)
class Training:
    """A recipe that is to be submitted, and what becomes of what its run directory holds."""

    recipe: AnyRecipe
    beginning: Beginning
    source: Path | None = None
    """Run directory that its `model.pretrained` lies in, and that may have to be trained before."""
    command: str = ""
    """What trains it alone; empty: what was typed does."""


def plan(names: Sequence[str], overrides: Sequence[str], site: Site, beginning: Beginning) -> list[Training]:
    """The recipes that are left to train, checked as far as they can be without torch."""
    recipes = load_unfinished(names, [*site.recipe, *overrides], beginning)
    for recipe in recipes:
        check(recipe, site.slurm.ranks, 0, beginning)
    return [Training(recipe, beginning) for recipe in recipes]


def submit(trainings: Sequence[Training], site: Site, where: Where, *, command: str, wait: bool) -> int:
    """Submit one training, or several as an array; returns the exit code. Prints the job, where the
    runs lie and what to do next."""
    cluster = choose(where, site)
    if cluster != "slurm" and len(trainings) > 1:
        raise InputError("without SLURM, train several recipes with `sokhan train`")
    runs = [run_folder(training.recipe) for training in trainings]
    for run in runs:
        refuse_if_live(run)
    folder, name = _folder(trainings), trainings[0].recipe.recipe
    submission = submit_members(trainings, site, cluster, folder=folder, name=name, command=command)
    print(f"job {submission.job} ({cluster})")
    for run in runs:
        print(f"run directory: {run}")
    for words in (["status", folder], ["logs", "-f", runs[0]], ["cancel", folder]):
        print(shlex.join(["sokhan", *map(str, words)]), flush=True)
    return wait_for(submission) if wait else 0


def show(trainings: Sequence[Training], site: Site) -> int:
    """Print the batch script that `submit` would send, and, where there is a SLURM, what it says of
    it. Writes nothing. Exit code 2 if sbatch would refuse it or could never start it."""
    path = _folder(trainings).absolute() / FOLDER / "new"
    parameters = training_parameters(site.slurm, path, trainings[0].recipe.recipe)
    text = script(parameters, path, rank_python(site.slurm), len(trainings))
    print(text, flush=True)
    accepted, words = try_script(text)
    print(words, file=sys.stderr)
    return TRAINED if accepted else WRONG_INPUT


def _folder(trainings: Sequence[Training]) -> Path:
    """What holds the submission: the run, or a folder of its own for several."""
    first = trainings[0].recipe
    if len(trainings) == 1:
        return run_folder(first)
    return Path(first.output.folder) / "sweeps" / f"{first.recipe}-and-{len(trainings) - 1}-more"


def submit_members(
    trainings: Sequence[Training],
    site: Site,
    cluster: Cluster,
    *,
    folder: Path,
    name: str,
    command: str,
    at_most: int = 0,
    after: Sequence[str] = (),
) -> Submission:
    """Send trainings to the scheduler, as one array if there are several, at most ``at_most`` of them
    at once (0: all), none before the jobs ``after`` have ended. ``folder`` is the run's or the sweep's.

    Everything that the jobs need is written before; if the scheduler refuses, it is removed.
    """
    group = trainings[0].recipe.output.group
    check_path(folder.absolute())
    prefetch([training.recipe for training in trainings if training.source is None])
    make_run_folder(folder, group)
    runs = [run_folder(training.recipe) for training in trainings]
    path, job = None, ""
    try:
        for run, training in zip(runs, trainings, strict=True):
            make_run_folder(run, training.recipe.output.group)
        with writing_run(folder, group):
            path = new_folder(folder)
            members = _write(path, trainings, site, command)
            job = _send(path, members, site, cluster, name, at_most, after)
            facts = {
                "job": job,
                "cluster": cluster,
                "time": now(),
                "array": len(members) > 1,
                "host": platform.node(),
            }
            submission = write_submission(Submission(path), facts)
    except BaseException:
        _take_back(path, job if cluster == "slurm" else "", [*runs, folder])
        raise
    if cluster == "debug":
        LocalTask(str(path), 0)()
    return submission


def _take_back(path: Path | None, job: str, folders: Sequence[Path]) -> None:
    """Nothing half-submitted stays."""
    if job:
        with contextlib.suppress(SchedulerError):
            cancel(job)
    if path is not None:
        shutil.rmtree(path, ignore_errors=True)
    for folder in folders:
        with contextlib.suppress(OSError):  # unless it holds what was there before
            (folder / FOLDER).rmdir()
        with contextlib.suppress(OSError):
            folder.rmdir()


def prefetch(recipes: Sequence[AnyRecipe]) -> None:
    """Fetch hub models now: the nodes may have no network. Raises InputError if one cannot be had."""
    for name, revision in {(recipe.model.pretrained, recipe.model.revision) for recipe in recipes}:
        if name is not None:
            from trainers.models.source import resolve_model

            resolve_model(name, revision)


def choose(where: Where, site: Site) -> Cluster:
    """Which kind of cluster `auto` means here. Raises InputError where it cannot be had."""
    there = shutil.which("sbatch") is not None and shutil.which("srun") is not None
    if where == "slurm" and not there:
        raise InputError("--cluster slurm: there is no sbatch on this machine; submit on a login node")
    cluster: Cluster = ("slurm" if there else "local") if where == "auto" else where
    if cluster != "slurm" and site.slurm.nodes > 1:
        raise InputError(f"--slurm.nodes is {site.slurm.nodes}, but without SLURM there is this machine only")
    return cluster


def _write(path: Path, trainings: Sequence[Training], site: Site, command: str) -> list[Member]:
    keep_code(path)
    (path / "recipes").mkdir()
    members = []
    for number, training in enumerate(trainings):
        file = path / "recipes" / f"{number}.yaml"
        file.write_text(to_yaml(training.recipe), encoding="utf-8")
        flags = tuple(training.beginning.flags())
        run = run_folder(training.recipe).absolute()
        members.append(Member(number, file, run, site.slurm.ranks, flags, training.command))
    settings = {
        "command": command,
        "failures": site.slurm.failures,
        "gpus": site.slurm.gpus_per_task > 0,
    }
    write_members(path, members, settings)
    return members


def _send(
    path: Path,
    members: Sequence[Member],
    site: Site,
    cluster: Cluster,
    name: str,
    at_most: int,
    after: Sequence[str],
) -> str:
    """The scheduler's number of the job."""
    if cluster == "debug":
        return str(os.getpid())
    if cluster == "local":
        return _start_here(path)
    parameters = training_parameters(site.slurm, path, name)
    parameters["array_parallelism"] = at_most or len(members)
    if after:
        # However they have ended: each training says itself what it lacks.
        parameters["dependency"] = "afterany:" + ":".join(after)
    accepted, words = try_script(script(parameters, path, rank_python(site.slurm), len(members)))
    tasks = [RankTask(str(path), member.number) for member in members]
    job = send_jobs(path, tasks, site.slurm, parameters)[0].partition("_")[0]
    if not accepted:  # SLURM takes jobs that no node can ever run, and lets them wait
        print(f"warning: job {job} may wait for ever: {words}", file=sys.stderr)
    return job


def _start_here(path: Path) -> str:
    import submitit
    from submitit.core.utils import environment_variables

    executor = submitit.LocalExecutor(path)
    # The time limit is the cluster's; here nobody else waits for the machine.
    executor.update_parameters(timeout_min=525_600)
    with _terminal_ignored(), environment_variables(**importing_from(path / "code")):
        return str(executor.submit(LocalTask(str(path), 0)).job_id)


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
