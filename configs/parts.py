"""The parts of a grid file: recipes x values x seeds each, and what leads from one to another."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from configs.errors import InputError

OF_EACH = ("recipes", "seeds", "settings", "grid")
"""Keys of a part, and of a grid without parts."""
_PART = ("name", "title", "text", *OF_EACH, "start_from", "curve")


@dataclass(frozen=True)
class Start:
    """Trainings of another part, whose models are gone on from."""

    part: str
    recipe: str
    """As that part names it."""


@dataclass(frozen=True)
class Part:
    """Recipes x values x seeds that answer one question."""

    name: str = ""
    """Empty: the only one, of a grid without parts."""
    title: str = ""
    """Heading on the study's page; the name if not given."""
    text: str = ""
    """What the part asks, above its tables."""
    recipes: tuple[str, ...] = ()
    """Files or shipped names."""
    seeds: tuple[int, ...] = ()
    """Seeds of each training; none: each recipe's own."""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Recipe fields of all members, such as `loop.epochs: 3`; the study's, and the part's own over them."""
    grid: dict[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    """Recipe fields with the values that they take; all combinations are trained. `a.b+c.d` are fields
    that vary together, its values lists of one value each."""
    start_from: Start | None = None
    """Each member goes on from the model of the training of the same seed and the same values there."""
    curve: str | None = None
    """A field of `grid`: scores and costs are drawn over it."""

    @property
    def varied(self) -> tuple[str, ...]:
        """The recipe fields that vary."""
        return tuple(field for key in self.grid for field in key.split("+"))

    def combinations(self) -> list[dict[str, Any]]:
        """The values of all members, by recipe field."""
        found = []
        for values in itertools.product(*self.grid.values()):
            varied: dict[str, Any] = {}
            for key, value in zip(self.grid, values, strict=True):
                fields = key.split("+")
                varied |= zip(fields, value if len(fields) > 1 else [value], strict=True)
            found.append(varied)
        return found


def value_text(value: Any) -> str:
    """A value as it is typed on the command line."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def read_parts(where: str, document: dict[str, Any]) -> tuple[Part, ...]:
    """The parts of a grid file. Raises InputError, one line, that begins with ``where``."""
    rows = document["parts"]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{where}: key 'parts' is a list of sections, each with name and recipes")
    settings = _section(where, "settings", document)
    _check_fields(where, "settings", settings)
    parts: dict[str, Part] = {}
    for number, row in enumerate(rows, 1):
        name = row.get("name")
        if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9-]{1,40}", name):
            raise InputError(
                f"{where}: key 'name' of part {number} is {name!r}; use small letters, digits and '-'"
            )
        if name in parts:
            raise InputError(f"{where}: two parts have the name {name!r}")
        inside = f"{where}: part {name!r}"
        check_section_keys(inside, row, _PART, "a part")
        parts[name] = read_part(inside, name, row, settings)
    _check_starts(where, parts)
    return tuple(parts.values())


def read_part(where: str, name: str, document: dict[str, Any], settings: dict[str, Any]) -> Part:
    """One part; ``settings`` are those of all. Raises InputError that begins with ``where``."""
    own = _section(where, "settings", document)
    grid = {key: _values(where, key, values) for key, values in _section(where, "grid", document).items()}
    part = Part(
        name=name,
        title=words_of(where, "title", document),
        text=words_of(where, "text", document),
        recipes=tuple(_list(where, "recipes", document.get("recipes"), str)),
        seeds=tuple(_list(where, "seeds", document["seeds"], int)) if "seeds" in document else (),
        settings=own,
        grid=grid,
        start_from=_start(where, document["start_from"]) if "start_from" in document else None,
        curve=words_of(where, "curve", document) or None,
    )
    _check_fields(where, "settings", own)
    _check_fields(where, "grid", part.varied)
    _check_part(where, part)
    inherited = {key: value for key, value in settings.items() if key not in part.varied}
    return dataclasses.replace(part, settings={**inherited, **own})


def _check_part(where: str, part: Part) -> None:
    """What cannot stand together; `settings` are the part's own."""
    for number, key in enumerate(part.varied):
        if key in part.settings:
            raise InputError(f"{where}: key {key!r} stands in 'settings' and in 'grid'")
        if key in part.varied[:number]:
            raise InputError(f"{where}: key {key!r} stands twice in 'grid'")
    if part.curve and not any(f"{part.curve}.".startswith(f"{key}.") for key in part.varied):
        raise InputError(f"{where}: key 'curve' is {part.curve!r}; name a field of its 'grid'")
    for key in ("model.pretrained", "model.revision"):
        if part.start_from and (key in part.settings or key in part.varied):
            raise InputError(f"{where}: key {key!r}: 'start_from' says where the weights come from")


def _values(where: str, key: str, values: Any) -> tuple[Any, ...]:
    """The values of a key of 'grid'."""
    found = _list(where, f"grid.{key}", values)
    together = len(key.split("+"))
    for value in found if together > 1 else ():
        if not isinstance(value, list) or len(value) != together:
            raise InputError(
                f"{where}: key 'grid.{key}' holds {value!r}; {together} fields vary together, so write "
                f"lists of {together} values"
            )
    return tuple(found)


def _start(where: str, document: Any) -> Start:
    keys = [f.name for f in dataclasses.fields(Start)]
    if (
        not isinstance(document, dict)
        or sorted(document) != sorted(keys)
        or not all(isinstance(value, str) for value in document.values())
    ):
        raise InputError(f"{where}: key 'start_from' is {{part: NAME, recipe: NAME}}, not {document!r}")
    return Start(**document)


def _check_starts(where: str, parts: dict[str, Part]) -> None:
    """Every start must lead, part by part, to one that starts from nothing."""
    for part in parts.values():
        passed = [part.name]
        start = part.start_from
        while start:
            inside = f"{where}: part {passed[-1]!r}: key 'start_from'"
            if start.part not in parts:
                raise InputError(f"{inside}: there is no part {start.part!r}; there are {', '.join(parts)}")
            if start.recipe not in parts[start.part].recipes:
                raise InputError(
                    f"{inside}: part {start.part!r} has no recipe {start.recipe!r}; it has "
                    f"{', '.join(parts[start.part].recipes)}"
                )
            if start.part in passed:
                circle = " -> ".join([*passed, start.part])
                raise InputError(f"{inside}: the parts wait for each other: {circle}")
            passed.append(start.part)
            start = parts[start.part].start_from


def check_section_keys(where: str, document: dict[str, Any], known: tuple[str, ...], what: str) -> None:
    """Raise InputError for a key that ``what`` does not have."""
    for key in document:
        if key not in known:
            raise InputError(f"{where}: unknown key {key!r}; {what} has {', '.join(known)}")


def _check_fields(where: str, section: str, keys: Iterable[str]) -> None:
    for key in keys:
        if key in ("seed", "output.name"):
            other = "the list 'seeds'" if key == "seed" else "nothing: seed and settings name a run"
            raise InputError(f"{where}: key '{section}.{key}': use {other}")


def words_of(where: str, key: str, document: dict[str, Any]) -> str:
    """A key that holds text; empty if it is not there."""
    text = document.get(key, "")
    if not isinstance(text, str):
        raise InputError(f"{where}: key {key!r} is {text!r}; write text, in quotes if need be")
    return text.strip()


def _section(where: str, key: str, document: dict[str, Any]) -> dict[str, Any]:
    section = document.get(key, {})
    if not isinstance(section, dict) or not all(isinstance(name, str) for name in section):
        raise InputError(f"{where}: key {key!r} is a section of recipe fields, not {section!r}")
    return section


def _list(where: str, key: str, values: Any, kind: type | None = None) -> list[Any]:
    """A list that is not empty and holds nothing twice."""
    what = {str: "names of recipes", int: "whole numbers"}.get(kind or object, "values")
    if not isinstance(values, list) or not values:
        raise InputError(f"{where}: key {key!r} is a list of {what} such as [a, b], not {values!r}")
    seen = set()
    for value in values:
        if kind is not None and type(value) is not kind:
            raise InputError(f"{where}: key {key!r} holds {value!r}; it is a list of {what}")
        if value_text(value) in seen:
            raise InputError(f"{where}: key {key!r} holds {value!r} twice")
        seen.add(value_text(value))
    return values
