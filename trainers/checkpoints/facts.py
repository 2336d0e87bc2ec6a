"""What ``checkpoint.json`` must hold. Whoever can write to a run directory can also make a right hash,
so what the hash lets through is still looked at before anything is made of it.

Every function raises ValueError, naming the key, for whatever training would stumble over later.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from trainers.checkpoints.sharding import MOMENTS, WEIGHTS

FORMAT = 1
TAG = re.compile(r"step-([0-9]{1,12})(-evaluated)?")
TENSOR_FILE = re.compile(r"(weights|optimizer)-[0-9]{5}\.safetensors")
_LARGEST = 2**53
_DEEPEST = 4
_MOST_SIZES = 64
"""Of a shape: torch has no more, and a product of very many would take for ever."""

Test = Callable[[Any], bool]
Places = dict[str, list[tuple[str, int, int]]]
""""kind/name" -> (file, first element, elements) of each piece, in order."""


def parse(text: str) -> dict[str, Any]:
    """The JSON object of a checkpoint."""
    try:
        document = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("no JSON object")
    return document


def check_layout(facts: Mapping[str, Any]) -> Places:
    """Every tensor must be put together from its pieces without a gap or an overlap; returns them."""
    _need(facts, "tag", _is_tag)
    _need(facts, "best", _is_best)
    _need(facts, "counters", _is_counters)
    _need(facts, "shapes", lambda shapes: _all(shapes, _is_shape))
    _need(facts, "pieces", lambda files: _all(files, lambda pieces: _all(pieces, _is_range)))
    shapes: dict[str, list[int]] = facts["shapes"]
    places: Places = {}
    for file, pieces in facts["pieces"].items():
        match = TENSOR_FILE.fullmatch(file)
        if not match:
            raise ValueError(f"key 'pieces' names the file {short(file)}")
        kinds = (WEIGHTS,) if match[1] == "weights" else MOMENTS
        for key, (start, elements) in pieces.items():
            kind, _, name = key.partition("/")
            if kind not in kinds or name not in shapes:
                raise ValueError(f"key 'pieces.{file}' names {short(key)}")
            places.setdefault(key, []).append((file, start, elements))
    for name, shape in shapes.items():
        moments = [kind for kind in MOMENTS if f"{kind}/{name}" in places]
        for kind in (WEIGHTS, *(MOMENTS if moments else ())):
            pieces = places.setdefault(f"{kind}/{name}", [])
            pieces.sort(key=lambda piece: piece[1])
            ends = [0, *(start + elements for _, start, elements in pieces)]
            starts = [*(start for _, start, _ in pieces), math.prod(shape)]
            if ends != starts:
                raise ValueError(f"the pieces of {short(f'{kind}/{name}')} do not fit together")
    return places


def check_training(facts: Mapping[str, Any]) -> None:
    """What is needed to go on, beside the tensors."""
    _need(facts, "state", lambda state: _has(state, _STATE))
    _need(facts, "settings", lambda settings: _all(settings, _is_plain))
    _need(facts, "data", lambda data: _all(data, _is_text))
    _need(facts, "plan", _is_text)
    _need(facts, "metrics_bytes", _is_count)
    if facts["state"]["best"] != facts["best"]:
        raise ValueError("keys 'best' and 'state.best' differ")
    saved = any(file.startswith("optimizer-") for file in facts["pieces"])
    if facts["counters"]["updates"] and not saved:
        raise ValueError("key 'pieces' names no optimizer's state")


def short(text: Any) -> str:
    """For a message: quoted, on one line, not longer than it is of use."""
    quoted = ascii(text)
    return quoted if len(quoted) <= 80 else f"{quoted[:77]}..."


def _need(facts: Mapping[str, Any], key: str, test: Test) -> None:
    if key not in facts or not test(facts[key]):
        raise ValueError(f"key {key!r} is {'not as it is saved' if key in facts else 'missing'}")


def _has(value: Any, fields: Mapping[str, Test]) -> bool:
    """Whether it is a mapping of exactly these keys, with values that pass."""
    return (
        isinstance(value, dict)
        and value.keys() == fields.keys()
        and all(test(value[key]) for key, test in fields.items())
    )


def _all(value: Any, test: Test) -> bool:
    return isinstance(value, dict) and all(test(element) for element in value.values())


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST  # bool is an int too


def _is_number(value: Any) -> bool:
    if type(value) is float:
        return math.isfinite(value)  # 1e999 is read as infinite
    return type(value) is int and abs(value) < _LARGEST


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_tag(value: Any) -> bool:
    return isinstance(value, str) and TAG.fullmatch(value) is not None


def _is_shape(value: Any) -> bool:
    if not isinstance(value, list) or len(value) > _MOST_SIZES:
        return False
    return all(_is_count(size) and size > 0 for size in value) and math.prod(value) < _LARGEST


def _is_range(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(_is_count(number) for number in value)
        and value[1] > 0
    )


def _is_plain(value: Any, depth: int = 0) -> bool:
    """A setting: a scalar, or a short nesting of them."""
    if isinstance(value, list):
        return depth < _DEEPEST and all(_is_plain(element, depth + 1) for element in value)
    return value is None or isinstance(value, str | int) or _is_number(value)


def _is_best(value: Any) -> bool:
    return value is None or _has(value, _BEST)


def _is_counters(value: Any) -> bool:
    if not isinstance(value, dict) or not _is_count(value.get("updates")):
        return False
    return value.keys() <= {"updates", "loss_scale"} and _all(value.get("loss_scale", {}), _is_number)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}")


_BEST: dict[str, Test] = {
    "epoch": _is_count,
    "step": _is_count,
    "metric": _is_text,
    "value": _is_number,
    "tag": _is_tag,
}
_STATE: dict[str, Test] = {
    "epoch": lambda value: _is_count(value) and value > 0,
    "steps_in_epoch": _is_count,
    "step": _is_count,
    "evaluated": lambda value: isinstance(value, bool),
    "best": _is_best,
    "sums": lambda value: isinstance(value, list) and len(value) == 3 and all(map(_is_number, value)),
    "seconds": lambda value: _is_number(value) and value >= 0,
}
