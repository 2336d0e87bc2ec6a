"""Whether a test cluster can run on this machine, and what happens to a test if not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# As in .ci/run, which installs them.
_CLUSTER = ("munged", "sbatch", "slurmctld", "slurmd")
_ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db")
_FREEZER = Path("/sys/fs/cgroup/freezer")


def need(*, accounting: bool = False, cgroup: bool = False) -> None:
    """Skips the test where no such cluster can run. SOKHAN_NEED_SLURM=1: fails it instead."""
    reason = missing(accounting=accounting)
    if reason and os.environ.get("SOKHAN_NEED_SLURM") == "1":
        pytest.fail(reason)
    if not reason and cgroup and not _freezer_works():
        # Never a failure: no package brings it.
        reason = f"proctrack/cgroup needs a writable cgroup v1 freezer at {_FREEZER}"
    if reason:
        pytest.skip(reason)


def missing(*, accounting: bool = False) -> str:
    """Why no cluster can be started here, or an empty string."""
    if os.geteuid() != 0:
        return "a test cluster needs root"
    names = [*_CLUSTER, *(_ACCOUNTING if accounting else ())]
    absent = [name for name in names if shutil.which(name) is None]
    return f"a test cluster needs {', '.join(absent)} (.ci/run installs them)" if absent else ""


def _freezer_works() -> bool:
    # release_agent is what SLURM looks for, in a root of a hierarchy only.
    probe = _FREEZER / f"sokhan-{os.getpid()}"
    if not (_FREEZER / "release_agent").exists():
        return False
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:
        return False
    return True
