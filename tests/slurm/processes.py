"""Which processes of this machine belong to a test cluster, and to a job in it."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

DAEMONS = ("munged", "slurmctld", "slurmscriptd", "slurmd", "slurmstepd", "slurmdbd", "mariadbd")


def cluster_processes(folder: Path) -> list[psutil.Process]:
    """Alive: daemons, step managers and tasks of the cluster in this folder."""
    return [process for process in psutil.process_iter() if _belongs(process, folder)]


def step_managers(folder: Path, job: str, node: str = "") -> dict[str, int]:
    """Pids of a job's slurmstepd, on that node or on all: {"n1 batch": 12, "n1 0": 13, ...}."""
    found = {}
    for process in cluster_processes(folder):
        title = _title(process)  # slurmstepd: [12.batch]
        if not title.startswith(f"slurmstepd: [{job}."):
            continue
        where = _open_log(process, folder).removeprefix("slurmd-").removesuffix(".log")
        if node in ("", where):
            found[f"{where} {title.split('.')[1].rstrip(']')}"] = process.pid
    return found


def task_pids(folder: Path, job: str, rank: int | None = None) -> list[int]:
    """The processes that the job's first srun started as tasks, in the order of ranks."""
    tasks = {}
    for name, manager in step_managers(folder, job).items():
        if name.endswith(" 0"):
            for task in psutil.Process(manager).children():
                tasks[int(task.environ().get("SLURM_PROCID", "-1"))] = task.pid
    return [tasks[key] for key in sorted(tasks) if rank in (None, key)]


def alive(pid: int) -> bool:
    """Not gone and no zombie: pid 1 may leave those for a while."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _belongs(process: psutil.Process, folder: Path) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if process.name() in DAEMONS:
            # Their titles overwrite their environment, but each holds a log open.
            return _open_log(process, folder) != ""
        own = process.environ()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    return "SLURMD_NODENAME" in own and own.get("SLURM_CONF") == str(folder / "slurm.conf")


def _title(process: psutil.Process) -> str:
    # The rest of an overwritten command line follows after a zero byte.
    try:
        raw = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return raw.split(b"\0")[0].decode(errors="replace")


def _open_log(process: psutil.Process, folder: Path) -> str:
    """Name of the file in the cluster's ``log/`` that it holds open; ``*.log`` before others."""
    names = set()
    try:
        for link in Path(f"/proc/{process.pid}/fd").iterdir():
            target = Path(os.readlink(link))
            if target.parent == folder / "log":
                names.add(target.name)
    except OSError:
        return ""
    return min(names, key=lambda name: (not name.endswith(".log"), name), default="")
