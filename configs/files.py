"""Files and folders that are written whole: a reader finds the old one or the new one, never a part."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_REPLACED = ".replaced"


def write_json(path: Path, document: Any) -> None:
    """``write_text`` of a document."""
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write beside the file and rename. Raises OSError, and leaves nothing beside it. Several processes
    may write the same file: one of them has the last word."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``folder``, in place of an older one, when the block ends well,
    and vanishes else."""
    settle(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Not by mkdtemp: who may read it is said by the umask and the folder above.
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    temporary.mkdir()
    try:
        yield temporary
        put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_in_place(new: Path, folder: Path) -> None:
    """``new`` becomes ``folder``. An older one is set aside first and deleted last: whatever fails or is
    killed in between, one of the two is whole, and ``settle`` finds it."""
    if not folder.exists():
        new.rename(folder)
        return
    old = folder.with_name(f"{_set_aside(folder)}{os.getpid()}.{secrets.token_hex(4)}{_REPLACED}")
    folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old)


def settle(folder: Path) -> Path | None:
    """End what a process of this machine left when it was killed in ``put_in_place``: an older folder
    that was set aside is put back if nothing has taken its place, and deleted if something has. Returns
    what was put back. Those of other machines stay: whether their processes live is not known here."""
    prefix, restored = _set_aside(folder), None
    left = [path for path in folder.parent.glob(".*" + _REPLACED) if path.name.startswith(prefix)]
    for old in sorted(left):
        process = old.name.removeprefix(prefix).partition(".")[0]
        if not process.isdigit() or Path("/proc", process).exists():
            continue
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            continue
        with contextlib.suppress(OSError):  # another process may be settling the same
            old.rename(folder)
            restored = old
    return restored


def _set_aside(folder: Path) -> str:
    """How the names of folders begin that processes of this machine have set aside for ``folder``."""
    return f".{folder.name}.{platform.node()}@"
