"""Trainings on a real cluster come out bit for bit as on this machine, whatever clusters do to them."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from tests.faults.reference import results, untidy
from tests.slurm.cluster import Cluster
from tests.slurm.needs import need
from tests.slurm.trainings import RECIPE, Submitted, sokhan, submit, train_locally

EPOCHS = 10
DISTANCE = 12
"""Most steps between a start and what happens to it."""


@dataclass(frozen=True)
class Undisturbed:
    """What a run must come out as."""

    shards: Path
    results: dict[str, str]


@pytest.fixture(scope="module")
def undisturbed(text_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    run = train_locally(text_shards, tmp_path_factory.mktemp("local"), EPOCHS)
    return Undisturbed(text_shards, results(run))


def check_result(training: Submitted, undisturbed: Undisturbed) -> None:
    """All bits, one W&B run, nothing left over."""
    assert results(training.run) == undisturbed.results
    assert untidy(training.run, 2) == []


def run_chain(
    chain: Sequence[Callable[[Submitted], None]],
    cluster: Cluster,
    undisturbed: Undisturbed,
    folder: Path,
) -> None:
    """Disturb a training again and again; its result must not show it."""
    randomness = random.Random(len(chain))
    training = submit(cluster, undisturbed.shards, folder, EPOCHS)
    for number, disturb in enumerate(chain):
        training.until_new_steps(randomness.randint(1, DISTANCE))
        disturb(training)
        training.until_requeued(number + 2)
    training.finish()
    check_result(training, undisturbed)
    assert len(training.attempts()) == len(chain) + 1
    starts = json.loads((training.run / "run.json").read_text())["starts"]
    assert len(starts) == len(training.attempts())


def preempt(training: Submitted) -> None:
    """A job of a higher partition takes both nodes for a moment."""
    job = training.cluster.preempt()
    training.until(lambda: training.cluster.state(job) in ("COMPLETED", ""))


def requeue(training: Submitted) -> None:
    """An administrator, without notice."""
    training.cluster.run("scontrol", "requeue", training.job)


def kill_rank(number: int) -> Callable[[Submitted], None]:
    return lambda training: training.rank(number).kill()


def kill_step_daemon(training: Submitted) -> None:
    """The slurmstepd of the second node; its rank loses its parent."""
    daemon = training.rank(1).parent()
    assert daemon is not None
    assert "slurmstepd" in daemon.name()
    daemon.kill()


def batch_shell(training: Submitted) -> psutil.Process:
    return psutil.Process(training.cluster.step_managers(training.job)["n1 batch"]).children()[0]


def kill_srun(training: Submitted) -> None:
    """The ranks live on until the job is requeued."""
    shell = batch_shell(training)
    next(child for child in shell.children() if child.name() == "srun").kill()


def kill_script(training: Submitted) -> None:
    """SLURM ends the job as failed, and nobody is left to requeue it but a process beside rank 0."""
    batch_shell(training).kill()


def restart_controller(training: Submitted) -> None:
    """With a requeue that falls into the outage."""
    first = training.rank(0).pid
    training.cluster.kill_controller()
    training.rank(1).kill()
    training.until(lambda: not psutil.pid_exists(first))
    training.cluster.start_controller()


def near_its_end(training: Submitted) -> None:
    """The job is told two minutes (--slurm.notice) before its time is up. It has not finished before:
    the ranks are stopped until SLURM, which looks once a minute, sends SIGCONT with its signal."""
    for rank in (0, 1):
        training.rank(rank).suspend()
    training.cluster.run("scontrol", "update", f"JobId={training.job}", "TimeLimit=2")
    training.until(lambda: training.cluster.state(training.job) == "PENDING")
    training.cluster.run("scontrol", "update", f"JobId={training.job}", "TimeLimit=60")


def test_two_nodes_are_as_two_local_ranks(cluster: Cluster, undisturbed: Undisturbed, tmp_path: Path) -> None:
    training = submit(cluster, undisturbed.shards, tmp_path, EPOCHS)
    training.finish()
    check_result(training, undisturbed)
    assert len(training.attempts()) == 1
    environment = json.loads((training.run / "environment.json").read_text())
    assert environment["ranks"] == 2
    # Closed to others, and the job's end is SLURM's, too.
    assert training.run.stat().st_mode & 0o777 == 0o700
    training.until(lambda: cluster.state(training.job) in ("COMPLETED", ""))


CHAINS: dict[str, list[Callable[[Submitted], None]]] = {
    "five preemptions": [preempt] * 5,
    "kills": [kill_rank(1), kill_rank(0), kill_step_daemon, kill_srun, kill_script],
    "the scheduler": [requeue, restart_controller, near_its_end],
}


@pytest.mark.parametrize("name", CHAINS)
def test_disturbed_runs_come_out_the_same(
    name: str, cluster: Cluster, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    run_chain(CHAINS[name], cluster, undisturbed, tmp_path)


def test_disturbed_under_cgroups(cgroup_cluster: Cluster, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Where SLURM finds a job's processes by cgroup, not by their parents."""
    chain = [preempt, kill_step_daemon, kill_script, kill_rank(0)]
    run_chain(chain, cgroup_cluster, undisturbed, tmp_path)


def test_the_daemon_of_the_batch_script_is_killed(
    cluster: Cluster, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Nobody tells SLURM that the job has ended; its last line gives the nodes back."""
    training = submit(cluster, undisturbed.shards, tmp_path, EPOCHS)
    training.until_new_steps(2)
    psutil.Process(cluster.step_managers(training.job)["n1 batch"]).kill()
    training.finish()
    check_result(training, undisturbed)
    training.until(lambda: cluster.state(training.job) in ("CANCELLED", "COMPLETED", ""))


def test_a_job_that_was_not_told_of_its_end_comes_back(
    cluster: Cluster, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Its time is up, and it has KillWait to save."""
    training = submit(cluster, undisturbed.shards, tmp_path, EPOCHS, "--slurm.notice", "0s")
    training.until_new_steps(2)
    for rank in (0, 1):  # SLURM sends SIGCONT with its signal
        training.rank(rank).suspend()
    cluster.run("scontrol", "update", f"JobId={training.job}", "TimeLimit=1")
    training.until(lambda: cluster.state(training.job) == "PENDING")
    cluster.run("scontrol", "update", f"JobId={training.job}", "TimeLimit=60")
    training.until_requeued(2)
    training.finish()
    check_result(training, undisturbed)
    assert training.attempts()[0].end["outcome"] == "requeued"


def test_the_last_member_of_an_array_comes_back_alone(
    cluster: Cluster, text_shards: Path, tmp_path: Path
) -> None:
    """Its own number is also the array's."""
    names = ["bert_full", "bert_freeze"]
    settings = ["--data.shards", str(text_shards), "--output.folder", str(tmp_path)]
    settings += ["--output.name", "run", "--loop.epochs", "6", *RECIPE[1:]]
    size = ["--slurm.gpus_per_task", "0", "--slurm.cpus_per_task", "1"]
    command = [
        "submit",
        *(f"demo/{name}" for name in names),
        *settings,
        *size,
        "--engine.zero",
        "0",
    ]
    done = sokhan(command, SLURM_CONF=str(cluster.conf))
    assert done.returncode == 0, done.stderr
    first, last = (Submitted(cluster, "", tmp_path / name / "run") for name in names)
    first, last = (replace(one, job=one.parts[0].job_of(one.parts[1])) for one in (first, last))
    first.until(lambda: bool(first.attempts() and last.attempts()))
    last.rank(0).kill()
    last.until_requeued(2)
    first.finish()
    last.finish()
    assert len(first.attempts()) == 1 and len(last.attempts()) == 2


def test_a_node_is_lost(undisturbed: Undisturbed, tmp_path: Path) -> None:
    need()
    with Cluster(settings=["SlurmdTimeout=10"]) as cluster:
        training = submit(cluster, undisturbed.shards, tmp_path, EPOCHS)
        training.until_new_steps(2)
        for rank in (0, 1):  # or it would have finished before SLURM misses the node
            training.rank(rank).suspend()
        cluster.kill_node("n2")
        training.rank(1).kill()
        training.until(lambda: cluster.state(training.job) == "PENDING")
        cluster.start_node("n2")
        training.until_requeued(2)
        training.finish()
        check_result(training, undisturbed)


def test_a_cancelled_run_saves_and_stays_cancelled(
    cluster: Cluster, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    training = submit(cluster, undisturbed.shards, tmp_path, EPOCHS)
    training.until_new_steps(3)
    cluster.run("scancel", training.job)
    training.until(lambda: cluster.state(training.job) in ("CANCELLED", ""))
    assert training.end()["outcome"] == "saved"
    again = submit(cluster, undisturbed.shards, tmp_path, EPOCHS)  # goes on
    again.finish()
    check_result(again, undisturbed)
    assert json.loads((again.run / "run.json").read_text())["starts"][-1]["checkpoint"]


def test_a_training_that_fails_is_not_requeued(cluster: Cluster, text_shards: Path, tmp_path: Path) -> None:
    training = submit(cluster, text_shards, tmp_path, 3, "--optim.lr", "1e30", "--optim.clip", "0")
    training.until(lambda: bool(training.end()))
    end = training.end()
    assert end["outcome"] == "failed", training.explain()
    assert "not finite" in end["words"] or "infinite" in end["words"] or "nan" in end["words"]
    training.until(lambda: cluster.state(training.job) in ("FAILED", ""))
    log = training.parts[0].logs(training.parts[1], 0)[1].read_text()
    assert log.rstrip().endswith(end["words"].rstrip().splitlines()[-1])


def test_killed_too_often_stops(cluster: Cluster, text_shards: Path, tmp_path: Path) -> None:
    training = submit(cluster, text_shards, tmp_path, EPOCHS, "--slurm.failures", "1")
    training.until_new_steps(25)  # past a save, so that it is not for lack of progress
    training.rank(1).kill()
    training.until_requeued(2)
    training.rank(0).kill()
    training.until(lambda: bool(training.end()))
    end = training.end()
    assert end["outcome"] == "killed"
    assert "after 1 failures" in end["words"]
    training.until(lambda: cluster.state(training.job) in ("FAILED", ""))
    shown = sokhan(["status", str(training.run)], SLURM_CONF=str(cluster.conf))
    assert "failed" in shown.stdout


def test_no_progress_stops(cluster: Cluster, text_shards: Path, tmp_path: Path) -> None:
    """Requeued by SLURM again and again before anything is saved."""
    training = submit(cluster, text_shards, tmp_path, EPOCHS)
    for starts in (1, 2, 3):
        training.until(lambda starts=starts: len(training.attempts()) == starts)  # type: ignore[misc]
        for rank in (0, 1):
            os.kill(training.rank(rank).pid, signal.SIGSTOP)
        requeue(training)
        training.until_requeued(starts + 1)
    training.until(lambda: bool(training.end()))
    assert training.end()["outcome"] == "no progress"
    assert "3 starts have saved nothing new" in training.end()["words"]
    training.until(lambda: cluster.state(training.job) in ("FAILED", ""))
