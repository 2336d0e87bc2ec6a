"""The code that a job runs is the code that was submitted: a copy beside the recipes, with its commit.

A job may wait for days, and a checkout is edited meanwhile.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from configs.files import write_json

PACKAGES = ("configs", "data_shards", "trainers", "launch")
ROOT = Path(__file__).resolve().parents[1]
"""Where the packages lie that run now."""


def importing_from(folder: Path) -> dict[str, str]:
    """Environment of processes that shall import our packages from ``folder``, and nothing from where
    the user stands: a file of the user's named like a module would take that one's place."""
    packages = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": packages, "PYTHONSAFEPATH": "1"}


def keep_code(folder: Path) -> None:
    """Copy the packages to ``folder/code`` and write down commit and changes."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(ROOT / package, folder / "code" / package, ignore=ignored)
    commit = _git("rev-parse", "HEAD")
    # Whatever the user's git shows to people: this is to be applied again.
    plain = (
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--no-relative",
        "--binary",
        "--src-prefix=a/",
        "--dst-prefix=b/",
    )
    changes = _git("diff", *plain, "HEAD", "--", *PACKAGES) if commit else None
    others = ("ls-files", "-z", "--others", "--exclude-standard")
    new = _git(*others, "--", *PACKAGES) if commit else None
    (folder / "code.diff").write_bytes(changes or b"")
    write_json(
        folder / "code.json",
        {
            "commit": commit.decode().strip() if commit else None,
            "changed": bool(changes or new),
            "new_files": (new or b"").decode(errors="replace").split("\0")[:-1],
        },
    )


def _git(*words: str) -> bytes | None:
    """What git says; None outside a checkout of ours."""
    try:
        # An installed package may lie in somebody else's checkout.
        if not (ROOT / ".git").exists():
            return None
        # In a hook or an alias of git these name another repository.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
        command = ["git", "-C", str(ROOT), *words]
        answer = subprocess.run(command, env=environment, capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None
