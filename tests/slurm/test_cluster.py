"""The test cluster itself: it starts, runs steps, preempts, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.needs import missing, need
from tests.slurm.processes import alive

# A task that logs its start and ends with 75 some time after SIGTERM.
TASK = """
import os, signal, sys, time
def leave(*_):
    time.sleep(0.3)
    os._exit(75)
signal.signal(signal.SIGTERM, leave)
with open(sys.argv[1], "a") as log:
    log.write(f"{os.environ['SLURM_PROCID']} {os.environ.get('SLURM_RESTART_COUNT', '0')}\\n")
time.sleep(300)
"""


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 60) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def start_tasks(cluster: Cluster, folder: Path) -> tuple[str, Path]:
    """A two-node job whose two tasks have written their first lines."""
    (folder / "task.py").write_text(TASK)
    log = folder / "log"
    script = f"srun --kill-on-bad-exit=1 python3 {folder}/task.py {log}"
    size = ["-N2", "--ntasks-per-node=1", "-o", f"{folder}/out", "--open-mode=append"]
    job = cluster.submit(script, *size)
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) == 2, "no start")
    return job, log


def test_a_step_runs_on_two_nodes(cluster: Cluster) -> None:
    out = cluster.run("srun", "-N2", "--ntasks-per-node=2", "bash", "-c", "echo $SLURMD_NODENAME")
    assert sorted(out.split()) == ["n1", "n1", "n2", "n2"]
    # Names resolve, as ranks need for their rendezvous.
    assert "127.0.0.1" in cluster.run("srun", "-N1", "getent", "hosts", "n1", "n2")


def test_state_of_a_job_from_waiting_to_its_end(cluster: Cluster) -> None:
    job = cluster.submit("exit 3", "-o", "/dev/null", "--begin=now+1hour")
    assert cluster.state(job) == "PENDING"
    cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")
    assert cluster.wait_for(job, "COMPLETED", "FAILED") == "FAILED"
    assert cluster.job(job)["ExitCode"] == "3:0"
    assert cluster.state("999999") == ""


def test_preempted_job_is_requeued(cluster: Cluster, tmp_path: Path) -> None:
    job, log = start_tasks(cluster, tmp_path)
    high = cluster.preempt()
    cluster.wait_for(high, "COMPLETED")
    assert cluster.wait_for(job, "PENDING", "RUNNING") == "PENDING"
    assert cluster.job(job)["Reason"] == "BeginTime"
    cluster.wait_for(job, "RUNNING")  # not before its old credentials have expired
    wait_until(lambda: len(log.read_text().splitlines()) == 4, "not started again")
    assert sorted(log.read_text().split("\n")[:2]) == ["0 0", "1 0"]
    assert sorted(log.read_text().split("\n")[2:4]) == ["0 1", "1 1"]


def test_processes_of_a_job_are_found(cluster: Cluster, tmp_path: Path) -> None:
    job, _ = start_tasks(cluster, tmp_path)
    assert set(cluster.step_managers(job)) == {"n1 batch", "n1 0", "n2 0"}
    assert set(cluster.step_managers(job, "n2")) == {"n2 0"}
    first, second = cluster.task_pids(job)
    assert cluster.task_pids(job, rank=1) == [second]
    os.kill(second, signal.SIGKILL)
    assert cluster.wait_for(job, "FAILED") == "FAILED"
    assert not alive(first)


def test_job_outlives_the_controller(cluster: Cluster, tmp_path: Path) -> None:
    job, _ = start_tasks(cluster, tmp_path)
    tasks = cluster.task_pids(job)
    cluster.kill_controller()
    cluster.start_controller()
    assert cluster.state(job) == "RUNNING"
    assert cluster.task_pids(job) == tasks


def test_node_comes_back(cluster: Cluster) -> None:
    cluster.kill_node("n2")
    assert [p.name() for p in cluster.processes()].count("slurmd") == 1
    cluster.start_node("n2")
    assert cluster.run("srun", "-w", "n2", "echo", "there").strip() == "there"


def test_clear_puts_a_broken_cluster_right(cluster: Cluster, tmp_path: Path) -> None:
    job, _ = start_tasks(cluster, tmp_path)
    orphan = cluster.task_pids(job, rank=1)[0]
    os.kill(cluster.step_managers(job)["n2 0"], signal.SIGKILL)
    cluster.kill_node("n1")
    cluster.stop_controller()
    cluster.clear()
    assert cluster.run("squeue", "-h") == ""
    assert cluster.run("srun", "-N2", "echo", "on").split() == ["on", "on"]
    assert not alive(orphan)


def test_accounting_knows_ended_jobs(accounting_cluster: Cluster) -> None:
    job = accounting_cluster.submit("exit 4", "-o", "/dev/null")
    accounting_cluster.wait_for(job, "FAILED")
    command = ["sacct", "-n", "-X", "-P", "-o", "State,ExitCode", "-j", job]
    wait_until(lambda: accounting_cluster.run(*command).strip() == "FAILED|4:0", "sacct does not know it")


ESCAPING = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open(sys.argv[1] + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(sys.argv[1] + ".new", sys.argv[1])
        time.sleep(300)
    os._exit(0)
time.sleep(300)
"""


def test_cgroup_ends_what_left_its_session(cgroup_cluster: Cluster, tmp_path: Path) -> None:
    """The difference that matters between the two kinds: nobody escapes a cgroup."""
    (tmp_path / "task.py").write_text(ESCAPING)
    pid_file = tmp_path / "pid"
    script = f"srun python3 {tmp_path}/task.py {pid_file}"
    job = cgroup_cluster.submit(script, "-o", "/dev/null")
    wait_until(pid_file.exists, "no pid")
    escaped = int(pid_file.read_text())
    assert f"/job_{job}/" in Path(f"/proc/{escaped}/cgroup").read_text()
    cgroup_cluster.run("scancel", job)
    cgroup_cluster.wait_for(job, "CANCELLED")
    wait_until(lambda: not alive(escaped), "escaped")


def test_gpus_are_given_to_steps() -> None:
    need()
    with Cluster(nodes=1, gpus=4) as cluster:
        show = ["bash", "-c", "echo $SLURM_GPUS_ON_NODE"]
        assert cluster.run("srun", "--gpus-per-node=3", *show).strip() == "3"
        assert cluster.run("srun", "--gres=gpu:2", *show).strip() == "2"


def test_two_clusters_side_by_side_leave_nothing(tmp_path: Path) -> None:
    need()
    with Cluster() as one, Cluster(nodes=1, min_job_age=2) as other:
        job, _ = start_tasks(one, tmp_path)
        first_tasks = one.task_pids(job)
        assert other.run("sinfo", "-h", "-p", "low", "-o", "%D %N").split() == ["1", "n1"]
        assert other.run("squeue", "-h") == ""
        assert "MinJobAge               = 2 " in other.run("scontrol", "show", "config")
        other.stop()
        assert other.processes() == []
        assert f"n2 # {one.folder} #" in Path("/etc/hosts").read_text()
        assert one.task_pids(job) == first_tasks
        one.stop()
        assert one.processes() == []
        assert not any(alive(pid) for pid in first_tasks)
        hosts = Path("/etc/hosts").read_text()
        assert str(one.folder) not in hosts and str(other.folder) not in hosts
    assert not one.folder.exists()


def test_a_cluster_that_cannot_start_says_so_and_leaves_nothing() -> None:
    need()
    cluster = Cluster(settings=["SelectType=select/none-such"])
    with pytest.raises(AssertionError, match="slurmctld ended"):
        cluster.start()
    assert cluster.processes() == []
    assert str(cluster.folder) not in Path("/etc/hosts").read_text()


def test_reasons_for_skipping_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("SOKHAN_NEED_SLURM", "1")
    with pytest.raises(pytest.fail.Exception, match="needs"):
        need()
    monkeypatch.delenv("SOKHAN_NEED_SLURM")
    with pytest.raises(pytest.skip.Exception, match="needs"):
        need()
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert "slurmctld, slurmd" in missing() and "mariadbd" in missing(accounting=True)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert missing() == "a test cluster needs root"
