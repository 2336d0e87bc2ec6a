"""A copy of a shard folder on the node's own disk, from which training reads.

Only what reading needs is copied: the tars, the index columns and ``index.json``. Splits, derived
sets and caches stay beside the original, where every node sees them. The copy lies in
``<stage>/sokhan-<user>/<name>-<digest>``, named by the digest of ``index.json``, and all jobs of this
user on this node share it: a lock lets one process copy while the others wait. Each file is written
beside its place and renamed, so a copy that was cut short is completed by the next start.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from configs.errors import InputError
from data_shards.copying import (
    PARTIAL,
    StagingStopped,
    copy_file,
    locked,
    sha256_until,
    telling_of_disk,
)
from data_shards.index import MANIFEST, ShardIndex, digest_of

_CHECKED = "checked.json"
"""Size and time of change of each file when it was last known to be right."""


@dataclass(frozen=True)
class _File:
    """One file of a shard folder."""

    name: str
    bytes: int
    sha256: str = ""
    """Empty where the manifest has none: for the columns, which have a digest of their own."""


def stage_folder(stage: str) -> Path:
    """``data.stage`` with variables and ``~`` put in. Raises InputError for a variable that is not
    set or a folder that is not absolute."""
    for name in re.findall(r"\$(?:(\w+)|\{(\w+)\})", stage):
        variable = name[0] or name[1]
        if not os.environ.get(variable):
            raise InputError(f"key 'data.stage' is {stage!r}: ${variable} is not set on {platform.node()}")
    folder = Path(os.path.expanduser(os.path.expandvars(stage)))
    if not folder.is_absolute():
        raise InputError(f"key 'data.stage' is {stage!r}: name a folder by its whole path")
    return folder


def stage_shards(index: ShardIndex, stage: str, stop: Event | None = None) -> Path:
    """Copy what is missing or not right in this node's copy; returns the copy's folder.

    To be called by every process that reads: those that come while another copies wait for it.
    Raises InputError where the disk cannot take the copy, which then is as it was before, and
    StagingStopped soon after ``stop`` is set.
    """
    stop = stop or Event()
    manifest = (index.root / MANIFEST).read_bytes()
    name = f"{index.root.resolve().name}-{hashlib.sha256(manifest).hexdigest()[:16]}"
    own = stage_folder(stage) / f"sokhan-{os.geteuid()}"
    folder = own / name
    with telling_of_disk(folder):
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
        # In a folder where all may write, another user may have laid out that name.
        status = own.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise InputError(f"{own}: belongs to another user; choose another data.stage")
        with locked(own / f"{name}.lock", stop):
            folder.mkdir(mode=0o700, exist_ok=True)
            _complete(index, folder, manifest, stop)
    return folder


def forget(folder: Path) -> None:
    """Have the next start compare every file of a copy with the manifest: one was found damaged."""
    with contextlib.suppress(OSError):
        (folder / _CHECKED).unlink(missing_ok=True)


def _complete(index: ShardIndex, folder: Path, manifest: bytes, stop: Event) -> None:
    """Bring the copy in ``folder``, which this process has locked, to what the original is."""
    tars = [_File(shard.name, shard.bytes, shard.sha256) for shard in index.manifest.shards]
    columns = [
        _File(f"index/{path.name}", path.stat().st_size)
        for path in sorted((index.root / "index").glob("*.npy"))
    ]
    last = _File(MANIFEST, len(manifest), hashlib.sha256(manifest).hexdigest())
    files = [*tars, *columns, last]
    checked = _read_checked(folder)
    changed = [file for file in files if _state(folder / file.name) != checked.get(file.name, ())]
    if not changed:
        return
    wrong = [file for file in changed if not _is_right(folder / file.name, file, stop)]
    for path in (*folder.glob(f"*{PARTIAL}"), *folder.glob(f"index/*{PARTIAL}")):
        path.unlink()  # of a process that was killed
    _check_room(index.root, folder, wrong)
    copied: list[Path] = []
    try:
        (folder / "index").mkdir(mode=0o700, exist_ok=True)
        for file in wrong:
            copy_file(index.root / file.name, folder / file.name, stop, file.sha256)
            copied.append(folder / file.name)
        copy = ShardIndex(folder, index.manifest)
        if digest_of({c: copy.column(c) for c in map(_column, columns)}) != copy.manifest.digest:
            copied += [folder / file.name for file in columns]
            raise InputError(f"{index.root / 'index'}: not what was packed; pack the corpus again")
        _write_checked(folder, files)
    except StagingStopped:
        raise
    except BaseException:
        for path in copied:
            path.unlink(missing_ok=True)
        for path in (folder / "index", folder):
            with contextlib.suppress(OSError):
                path.rmdir()  # if there was nothing before
        raise


def _column(file: _File) -> str:
    return Path(file.name).stem


def _is_right(path: Path, file: _File, stop: Event) -> bool:
    if not file.sha256 or not path.is_file() or path.stat().st_size != file.bytes:
        return False
    return sha256_until(path, stop) == file.sha256


def _check_room(root: Path, folder: Path, files: Sequence[_File]) -> None:
    needed = sum(-(-file.bytes // 4096) * 4096 for file in files)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder}: no room for a copy of {root}: {needed:,} bytes are needed, {free:,} bytes "
            "are free there; choose another data.stage, or none"
        )
    if files:
        print(f"  copying {needed:,} bytes to {folder} on {platform.node()}", flush=True)


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of change: equal to those noted when the file was right, it still is."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _read_checked(folder: Path) -> dict[str, tuple[int, int]]:
    """What was noted; nothing if that is damaged: then all is compared once more."""
    try:
        document = json.loads((folder / _CHECKED).read_text(encoding="utf-8"))
        return {str(name): (int(size), int(time)) for name, (size, time) in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write_checked(folder: Path, files: Sequence[_File]) -> None:
    partial = folder / f"{_CHECKED}{PARTIAL}"
    states = {file.name: _state(folder / file.name) for file in files}
    try:
        partial.write_text(json.dumps(states), encoding="utf-8")
        partial.replace(folder / _CHECKED)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
