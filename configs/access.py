"""Who may read a run: its owner alone, or also the members of a Unix group, who may go on with it.

A run directory has mode 0700; with ``output.group`` it has 2770 and belongs to that group. What is
written into it takes its group from the folder and its mode from the umask, so whoever writes there
does so inside ``writing_run``.
"""

from __future__ import annotations

import contextlib
import grp
import os
import platform
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.errors import InputError

_PRIVATE, _SHARED = 0o700, 0o2770
_OWN_ENTRIES = 0o3070
"""Added to a folder's mode: members of its group may make entries there, and remove their own."""


def group_id(name: str) -> int | None:
    """The number of ``output.group``; None: no group. Raises InputError for a group that does not
    exist or that this user is not in."""
    if not name:
        return None
    try:
        number = grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        raise InputError(
            f"key 'output.group' is {name!r}: there is no such group on {platform.node()}"
        ) from None
    if os.geteuid() != 0 and number not in (os.getegid(), *os.getgroups()):
        raise InputError(
            f"key 'output.group' is {name!r}: you are not in that group on {platform.node()}; "
            "`id -Gn` lists yours"
        )
    return number


@contextmanager
def writing_run(folder: Path, group: str = "") -> Iterator[None]:
    """Set the umask for files of the run directory ``folder``, which need not be there yet.

    A run that is a group's stays so even if ``group`` is empty.
    """
    before = os.umask(0o007 if group or _is_shared(folder) else 0o077)
    try:
        yield
    finally:
        os.umask(before)


def make_parents(folder: Path, group: str) -> None:
    """Make the folders that ``folder`` is to lie in, as the umask says. With a group its members may
    make folders of their own beside it: in the folders made here, and in the one right above."""
    number = group_id(group)
    missing = [path for path in (folder.parent, *folder.parent.parents) if not path.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    if number is not None:
        for path in dict.fromkeys([*missing, folder.parent]):
            status = path.stat()
            if status.st_uid == os.geteuid() and not _lets_in(status, number):
                os.chown(path, -1, number)
                path.chmod(stat.S_IMODE(status.st_mode) | _OWN_ENTRIES)


def make_run_folder(folder: Path, group: str) -> None:
    """Make a run directory, or bring one of this user's, with all in it, to what ``group`` says."""
    number = group_id(group)
    make_parents(folder, group)
    try:
        folder.mkdir(mode=_PRIVATE)
    except FileExistsError:
        if number is not None:
            _give(folder, number)
    if folder.stat().st_uid == os.geteuid():
        if number is not None:
            os.chown(folder, -1, number)  # this clears the bit that the mode sets
        folder.chmod(_PRIVATE if number is None else _SHARED)


def _give(folder: Path, group: int) -> None:
    """Let a group do with what is in a folder what its owner may; what is not this user's stays.

    Members of the group may change names in there meanwhile: so what a name stood for when it was
    opened is changed, and links are not followed.
    """
    for _, folders, files, parent in os.fwalk(folder):
        for name in [*folders, *files]:
            with contextlib.suppress(OSError):
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
                try:
                    _give_one(descriptor, group)
                finally:
                    os.close(descriptor)


def _give_one(descriptor: int, group: int) -> None:
    status = os.fstat(descriptor)
    is_folder = stat.S_ISDIR(status.st_mode)
    if status.st_uid != os.geteuid() or not (is_folder or stat.S_ISREG(status.st_mode)):
        return
    if not is_folder and status.st_nlink > 1:  # it has a name elsewhere too
        return
    owners = status.st_mode & 0o700
    mode = _SHARED if is_folder else owners | owners >> 3
    if status.st_gid != group or stat.S_IMODE(status.st_mode) != mode:
        os.fchown(descriptor, -1, group)
        os.fchmod(descriptor, mode)


def _is_shared(folder: Path) -> bool:
    try:
        return folder.stat().st_mode & _SHARED == _SHARED
    except OSError:
        return False


def _lets_in(status: os.stat_result, group: int) -> bool:
    """Whether members of a group may make entries in a folder of theirs."""
    ours = status.st_gid == group and status.st_mode & 0o030 == 0o030
    return ours or status.st_mode & 0o003 == 0o003
