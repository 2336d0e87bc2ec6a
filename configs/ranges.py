"""Ranges of numbers in a recipe; the errors name the key."""

from __future__ import annotations

import math
from collections.abc import Mapping

from configs.errors import InputError


def at_least(least: float, values: Mapping[str, float | int | None]) -> None:
    """Raise InputError for the first value that is not finite or below ``least``; None passes."""
    for key, value in values.items():
        if value is not None and not least <= value < math.inf:
            raise InputError(f"key {key!r} is {value}; it must be finite and at least {least}")


def share(values: Mapping[str, float]) -> None:
    """Raise InputError for the first value outside [0, 1)."""
    for key, value in values.items():
        if not 0 <= value < 1:
            raise InputError(f"key {key!r} is {value}; it must be at least 0 and below 1")


def share_above_zero(values: Mapping[str, float | None]) -> None:
    """Raise InputError for the first value outside (0, 1); None passes."""
    for key, value in values.items():
        if value is not None and not 0 < value < 1:
            raise InputError(f"key {key!r} is {value}; it must be above 0 and below 1")
