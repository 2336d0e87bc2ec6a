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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from configs.errors import InputError
from configs.load import SUMMARY, AnyRecipe, free_run_folder, signature, to_yaml

log = logging.getLogger("sokhan")

LOCK = "lock"


class RunLock:
    """Keeps other processes of this machine out of a run directory while this one trains there."""

    def __init__(self, folder: Path) -> None:
        self._stream = (folder / LOCK).open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._stream.seek(0)
            holder = self._stream.read().strip() or "another process"
            self._stream.close()
            raise InputError(
                f"{folder}: {holder} trains there; wait for it, or choose another --output.name"
            ) from None
        except OSError as error:  # a file system without locks
            log.warning("%s: cannot be locked (%s); start no second run there", folder, error)
        self._stream.truncate(0)
        self._stream.write(f"process {os.getpid()} on {platform.node()}\n")
        self._stream.flush()

    def release(self) -> None:
        """Let others in."""
        self._stream.close()


def open_run_folder(recipe: AnyRecipe, command: str, overwrite: bool) -> tuple[Path, RunLock]:
    """Make an empty run directory and hold it. An unfinished run of the same name starts over; a
    finished one is kept: InputError unless ``overwrite``."""
    folder = free_run_folder(recipe, overwrite)
    if folder.exists() and any(folder.iterdir()) and not (folder / "config.yaml").is_file():
        raise InputError(f"{folder}: not a run directory; choose another --output.name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = RunLock(folder)
        clear(folder)
        (folder / "config.yaml").write_text(
            f"# signature: {signature(recipe)}\n{to_yaml(recipe)}", encoding="utf-8"
        )
        (folder / "eval").mkdir()
        (folder / "ranks").mkdir()
        (folder / "command.txt").write_text(command + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror})") from None
    return folder, lock


def clear(folder: Path) -> None:
    """Remove what an earlier run left. What marks the folder as a run's goes last."""
    leftovers = [path for path in folder.iterdir() if path.name not in (LOCK, "config.yaml")]
    for path in sorted(leftovers, key=lambda path: path.name != SUMMARY):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def write_json(path: Path, document: Any) -> None:
    """Write and rename: a reader finds the old file or the new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


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
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10
        )
        dirty = subprocess.run(
            [*git, "status", "--porcelain"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if commit.returncode:
        return None
    return commit.stdout.strip() + (" (changed)" if dirty.stdout.strip() else "")


def command_line() -> str:
    """How this process was started; a launcher passes on what the user typed."""
    return os.environ.get("SOKHAN_COMMAND") or " ".join(["python -m trainers", *sys.argv[1:]])
