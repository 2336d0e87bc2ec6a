"""`sokhan status`, `logs`, `cancel` and `doctor` about jobs of a real cluster."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from configs.cluster import load_cluster
from launch.slurm.ask import SchedulerDown, SchedulerError
from launch.slurm.scheduler import cancel, job_states, requeue, show_job
from tests.slurm.cluster import Cluster
from tests.slurm.conftest import need
from tests.slurm.trainings import Submitted, sokhan, submit


@pytest.fixture(autouse=True)
def asked(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose commands are meant."""
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))


def rows(*words: str) -> tuple[list[dict[str, Any]], str]:
    """What `sokhan status` tells programs: the trainings, and what it says of the scheduler."""
    done = sokhan(["status", "--json", *words])
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    return document["trainings"], document["scheduler"]


def state(training: Submitted) -> tuple[str, str]:
    """State and detail, which are the same by run directory and by job id."""
    (by_run,), _ = rows(str(training.run))
    (by_job,), _ = rows(training.job, "--folder", str(training.run / "nowhere"))
    assert by_run["job"] == by_job["job"] == training.job
    assert by_run["run"] == by_job["run"] == str(training.run)
    return by_job["state"], by_job["detail"]


@contextmanager
def nodes_taken(cluster: Cluster) -> Iterator[None]:
    """Jobs that are submitted meanwhile wait for nodes."""
    words = ["-p", "low", "-N", "2", "--exclusive", "-o", "/dev/null"]
    job = cluster.submit("sleep 600", *words)
    try:
        cluster.wait_for(job, "RUNNING")
        yield
    finally:
        cluster.run("scancel", job)
        cluster.wait_for(job, "CANCELLED")


def test_a_training_from_the_queue_to_its_end(cluster: Cluster, text_shards: Path, tmp_path: Path) -> None:
    with nodes_taken(cluster):
        training = submit(cluster, text_shards, tmp_path, 200)
        training.until(lambda: state(training) == ("waiting", "Resources"))
        done = sokhan(["logs", training.job])
        assert done.returncode == 0 and "nothing yet: waiting" in done.stderr
        following = subprocess.Popen(
            [sys.executable, "-m", "launch", "logs", "-f", "--rank", "1", training.job],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        training.until_new_steps(2)
        assert state(training)[0] == "running" and "on n[1-2] since" in state(training)[1]
        (row,), scheduler = rows("--folder", str(tmp_path))
        assert scheduler == "ok" and row["starts"] == 1 and row["progress"]["step"] >= 2
        assert row["progress"]["epochs"] == 200

        cluster.run("scontrol", "requeue", training.job)
        training.until(lambda: state(training)[0] == "saved")
        assert state(training)[1].startswith("goes on from step-")
        training.until_requeued(2)
        training.until_new_steps(2)

        cluster.kill_controller()
        try:
            # Its id is found below the folder of all runs, and the files tell the rest.
            (row,), scheduler = rows(training.job, "--folder", str(tmp_path))
            assert row["state"] == "running" and row["starts"] == 2
            assert "controller (slurmctld) is down" in scheduler
        finally:
            cluster.start_controller()
        training.until(lambda: state(training)[0] == "running")

        done = sokhan(["cancel", str(training.run)])
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"job {training.job}: cancelled; it saves first if it runs\n"
        cluster.wait_for(training.job, "CANCELLED")
        shown, errors = following.communicate(timeout=120)  # ends by itself
    finally:
        following.kill()
    assert following.returncode == 0
    tasks = "global_rank=1(2)"
    assert shown.count(tasks) == 2 and "global_rank=0" not in shown
    assert "is saved: goes on from step-" in errors
    assert state(training)[0] == "cancelled"
    again = sokhan(["cancel", training.job])
    assert again.returncode == 0
    assert again.stdout == f"job {training.job}: nothing to cancel, cancelled\n"
    (first, second) = (sokhan(["logs", training.job, "--rank", "1", "--attempt", number]) for number in "01")
    assert (first.stdout.count(tasks), second.stdout.count(tasks)) == (1, 1)
    assert first.stdout + second.stdout == shown
    assert sokhan(["logs", training.job, "--attempt", "2"]).returncode == 2


def test_a_failure_is_told_with_its_reason(cluster: Cluster, text_shards: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shutil.copytree(text_shards, shards)
    with nodes_taken(cluster):
        training = submit(cluster, shards, tmp_path, 1)
        shutil.rmtree(shards)
    training.until(lambda: training.attempts() != [] and "outcome" in training.attempts()[-1].end)
    training.until(lambda: state(training)[0] == "failed")
    assert state(training)[1].startswith(f"error: {shards}")
    (row,), _ = rows(str(training.run))
    assert Path(row["log"]).is_file()
    for rank in "01":  # also where the rank itself has said nothing
        done = sokhan(["logs", training.job, "--rank", rank])
        assert done.stderr.splitlines()[-1].startswith(f"error: {shards}")
    assert sokhan(["status", str(tmp_path)]).stdout.count("error: ") == 1


def test_a_waiting_job_is_cancelled(cluster: Cluster, text_shards: Path, tmp_path: Path) -> None:
    with nodes_taken(cluster):
        training = submit(cluster, text_shards, tmp_path, 1)
        assert sokhan(["cancel", training.job]).returncode == 0
        cluster.wait_for(training.job, "CANCELLED")
        assert state(training) == ("cancelled", "")
    assert training.attempts() == []


def test_arrays_and_what_slurm_refuses(cluster: Cluster, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\nsleep 600\n")
    words = ["--array=0-2%1", "-o", str(tmp_path / "a b")]
    array = cluster.run("sbatch", "--parsable", *words, script).strip()
    cluster.wait_for(f"{array}_0", "RUNNING")
    found = job_states([f"{array}_0", f"{array}_2"])
    assert found[f"{array}_0"].nodes in ("n1", "n2") and found[f"{array}_0"].since
    assert (found[f"{array}_2"].state, found[f"{array}_2"].reason) == (
        "PENDING",
        "JobArrayTaskLimit",
    )
    shown = show_job(f"{array}_0")
    assert (shown["ArrayJobId"], shown["Command"]) == (array, str(script))
    assert shown["StdOut"] == str(tmp_path / "a b")
    own = shown["JobId"]
    assert job_states([own]) == {own: found[f"{array}_0"]}
    done = sokhan(["status", array])
    assert done.returncode == 2 and "not submitted by sokhan" in done.stderr
    assert cancel(array)
    cluster.wait_for(own, "CANCELLED")
    with pytest.raises(SchedulerError, match="nvalid job id"):
        requeue("4294967")
    assert job_states(["4294967", f"{array}_9"]) == {}


def test_no_controller_is_no_refusal(cluster: Cluster) -> None:
    cluster.kill_controller()
    try:
        with pytest.raises(SchedulerDown):
            requeue("1")
    finally:
        cluster.start_controller()


def test_the_doctor_writes_a_site_file_that_submits(
    cluster: Cluster, text_shards: Path, tmp_path: Path
) -> None:
    site = tmp_path / "here.yaml"
    offline = {"HF_HUB_OFFLINE": "1"}
    done = sokhan(["doctor", "--write", str(site)], **offline)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "partition low (default): 2-00:00:00, 2 x 8 cores" in done.stdout
    assert "KillWait 10 s" in done.stdout and "no accounting" in done.stdout
    slurm = load_cluster(str(site)).slurm
    assert (slurm.partition, slurm.time, slurm.gpus_per_task) == ("low", "2-00:00:00", 0)
    words = ["submit", "demo/bert_full", "--site", str(site), "--dry-run"]
    words += ["--data.shards", str(text_shards), "--output.folder", str(tmp_path)]
    done = sokhan(words)
    assert done.returncode == 0, done.stderr
    assert "#SBATCH --partition=low" in done.stdout
    assert "to start at" in done.stderr

    nobody = {**offline, "SLURM_CONF": os.devnull}
    assert sokhan(["doctor"], **nobody).returncode == 1  # a configuration that SLURM cannot read


def test_the_accounting_knows_what_the_controller_has_forgotten(
    text_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(accounting=True)
    with Cluster(accounting=True) as cluster:
        monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
        with nodes_taken(cluster):
            training = submit(cluster, text_shards, tmp_path, 1)
            array = cluster.submit("true", "--array=0-1", "-o", "/dev/null")
            assert sokhan(["cancel", training.job]).returncode == 0
            cluster.wait_for(training.job, "CANCELLED")
        cluster.wait_for(f"{array}_1", "COMPLETED")
        known = {array: "COMPLETED", f"{array}_1": "COMPLETED", training.job: "CANCELLED"}
        training.until(lambda: all(accounted(job) == {one} for job, one in known.items()))
        done = sokhan(["doctor"], HF_HUB_OFFLINE="1")
        assert done.returncode == 0 and "accounting (slurmdbd) answers" in done.stdout

        cluster.kill_controller()
        for file in (cluster.folder / "state").glob("job_state*"):
            file.unlink()
        cluster.start_controller()
        assert show_job(training.job) == {}
        assert state(training) == ("cancelled", "")  # its folder is named by what was typed
        found = job_states([f"{array}_1", array])
        assert {job: one.state for job, one in found.items()} == {
            f"{array}_0": "COMPLETED",
            f"{array}_1": "COMPLETED",
            array: "COMPLETED",
        }

        database = int((cluster.folder / "pids" / "slurmdbd").read_text())
        os.kill(database, signal.SIGKILL)
        training.until(lambda: not alive(database))
        assert job_states([training.job]) == {}
        (row,), scheduler = rows(str(training.run))
        assert (row["state"], scheduler) == ("cancelled", "ok")  # its folder says so
        done = sokhan(["doctor"], HF_HUB_OFFLINE="1")
        assert done.returncode == 0 and "accounting does not answer" in done.stdout


def accounted(job: str) -> set[str]:
    """States in the accounting, which learns of them a little later."""
    done = subprocess.run(
        ["sacct", "-X", "-n", "-P", "-j", job, "-o", "State"], capture_output=True, text=True
    )
    return {line.split()[0] for line in done.stdout.splitlines()}


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
