"""A real SLURM cluster on this machine for tests: starts cluster.sh and talks to it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil

from tests.slurm.processes import DAEMONS, cluster_processes, step_managers, task_pids

SCRIPT = Path(__file__).with_name("cluster.sh")
#: What users set for SLURM's commands must not change tests, nor must an enclosing job.
_FOREIGN = ("SLURM_", "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SINFO_", "SACCT_", "SCONTROL_")


class Cluster:
    """``with Cluster(nodes=2) as cluster`` runs one; everything ends with the block."""

    def __init__(
        self,
        *,
        nodes: int = 2,
        accounting: bool = False,
        proctrack: str = "linuxproc",
        gpus: int = 0,
        min_job_age: int = 300,
        settings: Sequence[str] = (),
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sokhan-slurm-"))
        self.nodes = nodes
        self._mark = ""
        self._options = ["--nodes", str(nodes), "--proctrack", proctrack, "--gpus", str(gpus)]
        self._options += ["--accounting"] if accounting else []
        self._options += ["--min-job-age", str(min_job_age)]
        for setting in settings:
            self._options += ["--set", setting]

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Up when this returns: all nodes idle."""
        try:
            self._script("start", *self._options)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends its jobs and daemons and removes its folder."""
        self._script("stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _script(self, action: str, *words: str) -> str:
        done = subprocess.run(
            [SCRIPT, action, self.folder, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, f"cluster.sh {action}: {done.stderr[-4000:]}"
        return done.stdout

    @property
    def conf(self) -> Path:
        """What SLURM_CONF names."""
        return self.folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """For commands that shall talk to this cluster."""
        own = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
        return own | {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(
        self,
        *command: str | Path,
        cwd: Path | None = None,
        extra: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 120,
    ) -> str:
        """Stdout of a command such as ``run("squeue", "-h")``."""
        done = subprocess.run(
            command,
            cwd=cwd,
            env=self.environment | dict(extra or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        said = f"{command}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        assert done.returncode == 0 or not check, said
        return done.stdout

    # --- jobs

    def submit(self, script: str, *options: str, cwd: Path | None = None) -> str:
        """Job id of a batch script given as its lines."""
        cwd = cwd or self.folder
        command = ["sbatch", "--parsable", *options, "--wrap", script]
        return self.run(*command, cwd=cwd).strip().split(";")[0]

    def job(self, job: str) -> dict[str, str]:
        """The fields of ``scontrol show job``; none if the controller has forgotten the job."""
        line = self.run("scontrol", "show", "job", "-o", job, check=False)
        return dict(word.split("=", 1) for word in line.split() if "=" in word)

    def state(self, job: str) -> str:
        """SLURM's word for it, such as ``RUNNING``; an empty string if it is forgotten."""
        return self.job(job).get("JobState", "")

    def wait_for(self, job: str, *states: str, timeout: float = 120) -> str:
        """Waits until the job is in one of the states and gives that one."""
        end = time.monotonic() + timeout
        while (state := self.state(job)) not in states:
            assert time.monotonic() < end, f"job {job} is {state}, not {states}: {self.job(job)}"
            time.sleep(0.2)
        return state

    def preempt(self, *options: str, nodes: int | None = None) -> str:
        """Takes whole nodes through the partition ``high`` for a moment; that job's id."""
        size = ["-N", str(nodes or self.nodes), "--exclusive", "-o", "/dev/null"]
        return self.submit("true", "-p", "high", *size, *options)

    def clear(self) -> None:
        """No jobs, and all nodes idle: also after a test that failed half-way."""
        if not self._daemon("slurmctld"):
            self.start_controller()
        for number in range(1, self.nodes + 1):
            if not self._daemon(f"slurmd-n{number}"):
                self.start_node(f"n{number}")
        self.run("scancel", "--state=PENDING", "--user=root")
        self.run("scancel", "--user=root")
        end = time.monotonic() + 90
        while self.run("squeue", "-h") or not self._all_idle():
            assert time.monotonic() < end, self.run("squeue") + self.run("sinfo", "-R")
            time.sleep(0.2)
        # A killed step manager leaves its tasks behind.
        for process in self.processes():
            if process.name() not in DAEMONS:
                process.kill()

    def _all_idle(self) -> bool:
        count = self.run("sinfo", "-h", "-p", "low", "-t", "idle", "-o", "%D").strip()
        if self.run("sinfo", "-h", "-p", "low", "-t", "drained,down", "-o", "%D").strip():
            # SLURM drains a node whose step manager was killed.
            names = f"NodeName=n[1-{self.nodes}]"
            self.run("scontrol", "update", names, "State=RESUME", check=False)
        return count == str(self.nodes)

    # --- processes

    def step_managers(self, job: str, node: str = "") -> dict[str, int]:
        """Pids of its slurmstepd, on that node or on all: {"n1 batch": 12, "n1 0": 13, ...}."""
        return step_managers(self.folder, job, node)

    def task_pids(self, job: str, *, rank: int | None = None) -> list[int]:
        """The processes that the job's first srun started as tasks, in the order of ranks."""
        return task_pids(self.folder, job, rank)

    def processes(self) -> list[psutil.Process]:
        """Everything alive that belongs to this cluster: daemons, step managers, tasks."""
        return cluster_processes(self.folder)

    # --- failures

    def _daemon(self, name: str) -> psutil.Process | None:
        """The running daemon of that name in ``pids/``."""
        pid = int((self.folder / "pids" / name).read_text())
        return next((process for process in self.processes() if process.pid == pid), None)

    def _end(self, name: str, number: signal.Signals) -> None:
        process = self._daemon(name)
        assert process is not None, f"{name} does not run"
        process.send_signal(number)
        while self._daemon(name) is not None:
            time.sleep(0.05)

    def kill_node(self, node: str) -> None:
        """SIGKILL to the node's slurmd; its jobs' processes live on, as on a real node."""
        self._end(f"slurmd-{node}", signal.SIGKILL)

    def start_node(self, node: str) -> None:
        self._script("node", node)

    def stop_controller(self) -> None:
        """SIGTERM to slurmctld, which saves its state and ends."""
        self._end("slurmctld", signal.SIGTERM)

    def kill_controller(self) -> None:
        """SIGKILL to slurmctld, once it has written down how jobs are now (it does so every 5 s).

        Killed earlier, it would take running jobs for waiting ones when it comes back.
        """
        mark = f"saved-{time.monotonic_ns()}"
        self._mark = self.submit("true", "--hold", "-o", "/dev/null", "-J", mark)
        state = self.folder / "state" / "job_state"
        end = time.monotonic() + 60
        while not (state.exists() and mark.encode() in state.read_bytes()):
            assert time.monotonic() < end, "slurmctld does not save its state"
            time.sleep(0.1)
        self._end("slurmctld", signal.SIGKILL)

    def start_controller(self) -> None:
        """Waits until it answers."""
        self._script("controller")
        end = time.monotonic() + 60
        while "UP" not in self.run("scontrol", "ping", check=False):
            assert time.monotonic() < end, "slurmctld does not answer"
            time.sleep(0.1)
        if self._mark:
            self.run("scancel", self._mark)
            self._mark = ""
