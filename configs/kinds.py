"""What a key's value may be, in words and with an example, for messages about one that cannot."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

_ONE: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number, such as 4",
    float: "a number, such as 3e-5",
    str: "text",
}
_SEVERAL: dict[Any, tuple[str, str]] = {
    int: ("whole numbers", "[1,2]"),
    float: ("numbers", "[0.1,0.2]"),
    str: ("texts", '["one","two"]'),
}
_SAID = re.compile(r""".*(?:Got|Given) value: (.*)$|Unable to load config ['"](.*?)['"]""", re.DOTALL)


def wrong_value(text: str, known: Mapping[str, Any]) -> str:
    """jsonargparse's message about a value, in words of ours: key, value, and what can stand there.

    ``known``: all keys with their types. Other messages come back as they are.
    """
    key, said = re.match(r'key "([\w.]+)"', text), _SAID.search(text)
    if key is None or said is None or key[1] not in known:
        return text
    value = next(group for group in said.groups() if group is not None)
    value = "null" if value == "None" else value
    return f"key {key[1]!r} cannot be {value}; it must be {kind_text(known[key[1]], key[1])}"


def kind_text(kind: Any, key: str) -> str:
    """``float | None`` -> "a number, such as 3e-5, or null"; ``key`` is for sections."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        others = [one for one in inner if one is not type(None)]
        null = ", or null" if len(others) < len(inner) else ""
        return " or ".join(kind_text(one, key) for one in others) + null
    if origin is typing.Literal:
        *first, last = (str(value) for value in inner)
        return f"{', '.join(first)} or {last}" if first else last
    if dataclasses.is_dataclass(kind):
        field = dataclasses.fields(kind)[0].name
        return f"a section of keys, set one by one, such as --{key}.{field} VALUE"
    if origin is tuple:
        several, example = _SEVERAL[inner[0]]
        count = "" if inner[-1] is Ellipsis else f"{len(inner)} "
        return f"a list of {count}{several}, such as {example}"
    if origin is dict:
        lists = typing.get_origin(inner[1]) is tuple
        return "a mapping, such as " + ('{"0": [1, 2]}' if lists else '{"NAME": "value"}')
    return _ONE[kind]
