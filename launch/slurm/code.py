"""The code that a job runs is the code that was submitted: a copy beside the recipes, with its commit.

A job may wait for days, and a checkout is edited meanwhile.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from configs.files import write_json

PACKAGES = ("configs", "data_shards", "trainers", "launch")
_ROOT = Path(__file__).resolve().parents[2]


def keep_code(folder: Path) -> None:
    """Copy the packages to ``folder/code`` and write down commit and changes."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(_ROOT / package, folder / "code" / package, ignore=ignored)
    commit = _git("rev-parse", "HEAD")
    # Whatever the user's git shows to people: this is to be applied again.
    plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--binary")
    changes = _git("diff", *plain, "HEAD", "--", *PACKAGES) if commit else None
    new = _git("ls-files", "--others", "--exclude-standard", "--", *PACKAGES) if commit else None
    (folder / "code.diff").write_bytes(changes or b"")
    write_json(folder / "code.json", {
        "commit": commit.decode().strip() if commit else None,
        "changed": bool(changes or new),
        "new_files": (new or b"").decode(errors="replace").splitlines(),
    })  # fmt: skip


def _git(*words: str) -> bytes | None:
    """What git says; None outside a checkout of ours."""
    try:
        # An installed package may lie in somebody else's checkout.
        here = (_ROOT / ".git").exists()
        command = ["git", "-C", str(_ROOT), *words]
        answer = subprocess.run(command, capture_output=True, timeout=60) if here else None
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer and answer.returncode == 0 else None
