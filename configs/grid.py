"""A grid of trainings, recipes x settings x seeds, or a study of several: what its YAML file says.

``configs/study.py`` makes trainings of it. Nothing here depends on where and how they are trained.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.load import FOLDER, read_yaml, shipped
from configs.parts import OF_EACH, Part, check_section_keys, read_part, read_parts, words_of


@dataclass(frozen=True)
class Grid:
    """What a grid file says."""

    path: Path
    name: str
    """Names the sweep's folder; the file's name if not given."""
    parts: tuple[Part, ...]
    """One without a name, or those of a study."""
    at_most: int | None = None
    """Members that train at the same time on a cluster; null: as many as it lets."""
    title: str = ""
    """Heading of the study's page; the name if not given."""
    method: str = ""
    """Paragraphs at the head of the page."""
    baselines: bool = False
    """Hold the runs beside what needs no training, on the page."""

    @property
    def is_study(self) -> bool:
        """Whether it has parts, and so a page."""
        return bool(self.parts[0].name)


_PLAIN = ("name", *OF_EACH, "at_most")
_STUDY = ("name", "title", "method", "baselines", "settings", "at_most", "parts")


def shipped_grids() -> list[str]:
    """Names of all grids in the package."""
    return sorted([*shipped("recipes"), *shipped("parts")])


def find_grid(name: str | Path) -> Path:
    """Path of a grid: a file, or one shipped with the package. Raises InputError with the nearest."""
    path = Path(name)
    if path.is_file():
        return path
    packaged = FOLDER / path.with_suffix(".yaml")
    if not path.is_absolute() and packaged.is_file():
        return packaged
    known = shipped_grids()
    near = difflib.get_close_matches(str(name), known, 3, 0.4)
    names = ", ".join([*near, *(other for other in known if other not in near)])
    raise InputError(f"{name}: no such grid file; those that come with sokhan: {names}")


def load_grid(name: str | Path) -> Grid:
    """Read a grid file. Raises InputError, one line, that names file, part and key."""
    path = find_grid(name)
    document = read_yaml(path)
    if "task" in document:
        raise InputError(f"{path}: a recipe, not a grid; use `sokhan train {name}`")
    where = str(path)
    if "parts" in document:
        for key in ("recipes", "seeds", "grid"):
            if key in document:
                raise InputError(f"{where}: key {key!r} belongs to each of the 'parts'")
    known = _STUDY if "parts" in document else _PLAIN
    check_section_keys(where, document, known, "a grid")
    at_most = document.get("at_most")
    if at_most is not None and (type(at_most) is not int or at_most < 1):
        raise InputError(f"{where}: key 'at_most' is {at_most!r}; write a whole number above 0")
    baselines = document.get("baselines", False)
    if type(baselines) is not bool:
        raise InputError(f"{where}: key 'baselines' is {baselines!r}; write true or false")
    return Grid(
        path,
        name=_folder_name(where, document.get("name", path.stem)),
        parts=read_parts(where, document) if "parts" in document else (read_part(where, "", document, {}),),
        at_most=at_most,
        title=words_of(where, "title", document),
        method=words_of(where, "method", document),
        baselines=baselines,
    )


def _folder_name(where: str, name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_][\w.-]{0,63}", name, re.A):
        raise InputError(
            f"{where}: key 'name' is {name!r}; it names a folder: use letters, digits, '.', '_' and '-'"
        )
    return name
