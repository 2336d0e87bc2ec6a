"""Running a measurement in a process of its own, and how much memory its processes take."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Measured:
    """A finished process."""

    output: str
    peak: int
    """Largest resident memory it had, in bytes."""
    own: int
    """Most that it had without mapped files, as seen some times a second. Libraries are mapped, and
    how much of them is resident changes by 100 MB from run to run."""
    children: tuple[int, ...]
    """The same of each process it started, largest first."""
    seconds: float


def run(module: str, *arguments: str) -> Measured:
    """Run ``python -m module arguments`` to its end. Raises RuntimeError if it fails.

    The kernel's own high-water marks are read some times a second: as they never fall, only what a
    process takes in its last moment can be missed.
    """
    start = time.perf_counter()
    peaks: dict[int, int] = {}
    most = 0
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT, stdout=printed)
        while process.poll() is None:
            for pid in [process.pid, *_descendants(process.pid)]:
                peaks[pid] = max(peaks.get(pid, 0), memory(pid).get("VmHWM", 0))
            most = max(most, memory(process.pid).get("RssAnon", 0))
            time.sleep(0.05)
        printed.seek(0)
        output = printed.read()
    if process.returncode:
        raise RuntimeError(f"python -m {module} {' '.join(arguments)}: exit {process.returncode}")
    peak = peaks.pop(process.pid, 0)
    children = tuple(sorted(peaks.values(), reverse=True))
    return Measured(output, peak, most, children, time.perf_counter() - start)


def memory(pid: int | str = "self") -> dict[str, int]:
    """Bytes a process holds, by the kernel's names: VmRSS, VmHWM, RssAnon, RssFile, ...

    Empty for a process that is gone.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines)
    return {k: int(v.split()[0]) * 1024 for k, v in pairs if v.strip().endswith("kB")}


def _descendants(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []
