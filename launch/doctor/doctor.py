"""`sokhan doctor`: what this machine and its cluster offer, one line for each finding.

Nothing is changed, and nothing heavy is imported: `--deep` tries torch in a process of its own.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from configs.cluster import Site, load_cluster
from configs.errors import InputError
from launch.doctor.cluster_facts import ClusterFacts, accounting_answers, cluster_facts
from launch.doctor.site_file import remarks, runs_folder, write_site
from launch.local import count_gpus
from launch.slurm.scheduler import SchedulerDown, SchedulerError

_MAIN = (
    "torch",
    "torchaudio",
    "deepspeed",
    "transformers",
    "webdataset",
    "submitit",
    "wandb",
    "hazm",
)
"""Packages whose versions people ask for."""
_LITTLE = 10 * 2**30
"""Free bytes below which a folder is worth a word."""
_PATIENCE = 5.0
"""Seconds for the model hub."""
_DEEP = (
    "import torch, deepspeed; n = torch.cuda.device_count(); "
    "sums = [float(torch.ones(8, device=f'cuda:{k}').sum()) for k in range(n)]; "
    "names = ', '.join(sorted({torch.cuda.get_device_name(k) for k in range(n)})); "
    "print(f'CUDA {torch.version.cuda}, {n} GPU(s) that compute {names}', end='')"
)


@dataclass(frozen=True)
class Finding:
    """One line."""

    level: Literal["ok", "note", "not here", "missing"]
    """not here: what a machine can do without; missing: something that is needed is not there or does
    not work."""
    text: str


def run_doctor(site: str | None, write: Path | None, *, deep: bool) -> int:
    """Print all findings, write a site file if one is named; 1 if something needed is missing. SLURM
    is needed where a site is named, or asked for: its programs alone make no cluster."""
    found = False
    facts: ClusterFacts | None = None
    if write is not None and shutil.which("sinfo") is None:
        raise InputError("--write: there is no SLURM on this machine to ask; use a login node")
    here = load_cluster(site)
    for finding in _machine(here, deep):
        found |= _print(finding)
    try:
        facts = cluster_facts() if shutil.which("sinfo") else None
    except SchedulerError as error:
        needed = write is not None or here.name or not isinstance(error, SchedulerDown)
        text = str(error) if needed else f"{error}: --cluster local uses processes of this machine"
        found |= _print(Finding("missing" if needed else "not here", text))
    else:
        for finding in _cluster(facts):
            found |= _print(finding)
    if write is not None and facts:
        write_site(facts, write)
        print(f"written: {write}; name it with --site {write}, or SOKHAN_SITE")
    elif write is not None:
        print(f"not written: {write}, as SLURM does not say what it has")
    return 1 if found else 0


def _print(finding: Finding) -> bool:
    print(f"{finding.level:10}{finding.text}", flush=True)
    return finding.level == "missing"


def _machine(site: Site, deep: bool) -> Iterator[Finding]:
    here = sys.version_info[:2]
    known = (3, 11) <= here <= (3, 13)
    yield Finding(
        "ok" if known else "missing",
        f"Python {platform.python_version()}" + ("" if known else "; 3.11 to 3.13 are supported"),
    )
    yield _packages()
    yield _gpus()
    if deep:
        yield _torch()
    yield _hub()
    key = "set: runs go online" if _has_wandb_key() else "not set: runs are written offline"
    yield Finding("ok" if _has_wandb_key() else "not here", f"W&B key {key}")
    yield _folder("runs", runs_folder(site))
    yield _folder("hub cache", _hub_cache())


def _cluster(facts: ClusterFacts | None) -> Iterator[Finding]:
    if facts is None:
        yield Finding("not here", "no SLURM: `sokhan submit` starts processes of this machine")
        return
    yield Finding("ok", f"SLURM {facts.version}, cluster {facts.name}, answers")
    if not facts.accounting:
        pass  # told by remarks
    elif problem := accounting_answers():
        yield Finding("note", f"accounting does not answer: {problem}")
    else:
        yield Finding("ok", "accounting (slurmdbd) answers")
    for partition in facts.partitions:
        yield Finding("ok" if partition.up else "note", f"partition {partition}")
    if facts.default is None:
        yield Finding("note", "no default partition: say --slurm.partition")
    for line in remarks(facts):
        yield Finding("note", line)


def _packages() -> Finding:
    try:
        needed = requires("sokhan") or []
    except PackageNotFoundError:
        return Finding("missing", "sokhan is not installed here: pip install -e .")
    names = {re.split(r"[^\w.-]", need)[0] for need in needed if "extra ==" not in need}
    missing = sorted(name for name in names if not _version(name))
    if missing:
        return Finding("missing", f"packages: {', '.join(missing)}")
    return Finding("ok", f"packages: {', '.join(f'{name} {_version(name)}' for name in _MAIN)}")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _gpus() -> Finding:
    if not (count := count_gpus()):
        return Finding("not here", "no NVIDIA GPU: training works, slowly")
    models = set()
    for about in Path("/proc/driver/nvidia/gpus").glob("*/information"):
        found = re.search(r"Model:\s*(.+)", about.read_text(encoding="utf-8", errors="replace"))
        models.add(found[1].strip() if found else "unknown")
    return Finding("ok", f"{count} GPU(s): {', '.join(sorted(models))}")


def _torch() -> Finding:
    """A process of its own: a broken driver may end it."""
    environment = {**os.environ, "DS_ACCELERATOR": "cuda" if count_gpus() else "cpu"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _DEEP],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding("missing", "torch: did not start within 300 s")
    if done.returncode == 0:
        return Finding("ok", f"torch: {done.stdout.splitlines()[-1].strip()}")
    last = done.stderr.strip().rpartition("\n")[2] or f"ended with {done.returncode}"
    return Finding("missing", f"torch: {last}")


def _hub() -> Finding:
    """Whether models can be had: from the hub, or from its cache."""
    names = [path.parent.name for path in _hub_cache().glob("models--*/snapshots")]
    models = sorted(name.removeprefix("models--").replace("--", "/") for name in names)
    cached = f"the cache holds {', '.join(models) if models else 'no model'}"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Finding("note", f"model hub switched off (HF_HUB_OFFLINE); {cached}")
    import httpx

    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        httpx.head(address, timeout=_PATIENCE)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = str(error) or type(error).__name__
        return Finding("not here", f"model hub {address} not reached ({why}); {cached}")
    return Finding("ok", f"model hub {address} answers; {cached}")


def _hub_cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    hub = os.environ.get("HF_HOME") or f"{home}/huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or f"{hub}/hub").expanduser()


def _has_wandb_key() -> bool:
    """Whether there is one; its value is nobody's business."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path.home() / ".netrc"
    try:
        return "api.wandb.ai" in netrc.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _folder(what: str, folder: Path) -> Finding:
    """Whether it, or where it is to be made, can be written, and how much fits."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding("missing", f"{what}: {folder} cannot be written")
    free = shutil.disk_usage(there).free
    level: Literal["ok", "note"] = "ok" if free >= _LITTLE else "note"
    return Finding(level, f"{what}: {folder} can be written, {free / 2**30:.1f} GiB free")
