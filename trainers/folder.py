"""The run directory: made before training, what it says of the run, and when it counts as done."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from configs.access import make_run_folder
from configs.errors import InputError, MachineFault
from configs.files import write_json, write_text
from configs.load import SUMMARY, AnyRecipe, free_run_folder, signature, to_yaml
from configs.rank_status import COMMAND, JOB
from trainers.files.disk import writing
from trainers.tracking.wandb_run import new_run_id

log = logging.getLogger("sokhan")

LOCK = "lock"
RUN = "run.json"
SLURM = "slurm"
"""Submissions of the run: there before it, and never removed by it."""

_REMAINS = 180.0
"""Seconds that what is left of a killed start of the same SLURM job has to end. A file server frees the
locks of a node that is lost when its lease has run out, after 90 s by default."""


class RunLock:
    """Keeps other processes of this machine out of a run directory while this one trains there."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError, naming the holder, if another process trains there. One of this SLURM
        job is what a killed start has left: it has some time to end, then MachineFault is raised."""
        job = os.environ.get("SLURM_JOB_ID")
        own = f" (SLURM job {job})" if job else ""
        self._stream = (folder / LOCK).open("a+", encoding="utf-8")
        began = time.monotonic()
        told = False
        while not self._locked(folder):
            self._stream.seek(0)
            holder = self._stream.read().strip() or "another process"
            if not own or not holder.endswith(own):
                self._stream.close()
                raise InputError(
                    f"{folder}: {holder} trains there; wait for it, or choose another --output.name"
                )
            if not told:
                log.warning("%s: %s trains there; waiting up to %g s", folder, holder, _REMAINS)
                told = True
            if time.monotonic() > began + _REMAINS:
                self._stream.close()
                raise MachineFault(f"{folder}: {holder} has not left it within {_REMAINS:g} s")
            time.sleep(0.2)
        self._stream.truncate(0)
        self._stream.write(f"process {os.getpid()} on {platform.node()}{own}\n")
        self._stream.flush()

    def _locked(self, folder: Path) -> bool:
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:  # a file system without locks
            log.warning("%s: cannot be locked (%s); start no second run there", folder, error)
        return True

    def release(self) -> None:
        """Let others in."""
        self._stream.close()


def hold_run_folder(recipe: AnyRecipe, overwrite: bool) -> tuple[Path, RunLock]:
    """Make the run directory if need be and hold it. Raises InputError if it holds a finished run,
    unless ``overwrite``, if it is no run's, or if another process trains there."""
    folder = free_run_folder(recipe, overwrite)
    if folder.is_dir() and not (folder / "config.yaml").is_file():
        if {path.name for path in folder.iterdir()} - {LOCK, SLURM}:
            raise InputError(f"{folder}: not a run directory; choose another --output.name")
    with writing(folder):
        make_run_folder(folder, recipe.output.group)
        lock = RunLock(folder)
    free_run_folder(recipe, overwrite)  # another process may have finished it just before
    return folder, lock


def describe_start(folder: Path, recipe: AnyRecipe, command: str, new_id: bool) -> None:
    """Make the files that each start of a run writes anew, and ``run.json``, with a new W&B id if that
    is wanted."""
    with writing(folder):
        write_text(folder / "config.yaml", f"# signature: {signature(recipe)}\n{to_yaml(recipe)}")
        (folder / "eval").mkdir()
        (folder / "ranks").mkdir()
        write_text(folder / "command.txt", command + "\n")
        run = read_run(folder)
        if new_id:
            run["wandb_id"] = new_run_id()
        write_json(folder / RUN, run)


def list_start(folder: Path, start: dict[str, Any]) -> None:
    """Add ``start`` and its job to ``run.json``. Last of all: the later starts of a job whose start is
    listed go on from what it has left, without the flags that it was given."""
    run = read_run(folder)
    line = {**start, "job": os.environ.get(JOB)}
    with writing(folder):
        write_json(folder / RUN, {**run, "starts": [*run["starts"], line]})


def read_run(folder: Path) -> dict[str, Any]:
    """What belongs to a run for its whole life: its W&B id, and a line for each start."""
    path = folder / RUN
    if not path.is_file():
        return {"wandb_id": new_run_id(), "starts": []}
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {"wandb_id": str(run["wandb_id"]), "starts": list(run["starts"])}
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: damaged; remove it to give the run a new W&B id") from None


def clear(folder: Path, keep: tuple[str, ...] = ()) -> None:
    """Remove what an earlier start left but for ``keep``. What marks the folder as a run's goes last."""
    kept = (LOCK, "config.yaml", SLURM, *keep)
    leftovers = [path for path in folder.iterdir() if path.name not in kept]
    with writing(folder):
        for path in sorted(leftovers, key=lambda path: path.name != SUMMARY):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def describe_environment(ranks: int) -> dict[str, Any]:
    """Versions, hardware and the state of the code."""
    names = (
        "torch",
        "torchaudio",
        "deepspeed",
        "transformers",
        "webdataset",
        "hazm",
        "wandb",
        "numpy",
    )
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in names},
        "hardware": describe_hardware(),
        "ranks": ranks,
        "git": _git_commit(),
    }


def describe_hardware() -> str:
    """GPUs, or processor and cores."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"{_processor()}, {os.cpu_count()} cores, no GPU"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _git_commit() -> str | None:
    """Commit of the code that runs, marked if it is changed; None outside a checkout."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if commit.returncode:
        return None
    return commit.stdout.strip() + (" (changed)" if dirty.stdout.strip() else "")


def command_line() -> str:
    """How this process was started; a launcher passes on what the user typed."""
    return os.environ.get(COMMAND) or " ".join(["python -m trainers", *sys.argv[1:]])
