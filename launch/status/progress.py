"""How far a run has come, from its files alone."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.load import SUMMARY

_TAIL = 2**16
"""Bytes at the end of metrics.jsonl that are looked at; its lines are far shorter."""


@dataclass(frozen=True)
class Progress:
    """None: not known."""

    step: int | None
    """Of the last line of metrics.jsonl."""
    steps: int | None
    """Of the whole run."""
    epoch: int | None
    epochs: int | None

    def __str__(self) -> str:
        if self.step is None:
            return "-"
        if self.steps:
            return f"{self.step} of {self.steps}"
        return f"{self.step}, epoch {self.epoch} of {self.epochs}" if self.epochs else str(self.step)


def read_progress(run: Path, recipe_file: Path) -> Progress:
    """Step and epoch of a run directory; a finished run's, or ``recipe_file``, says of how many."""
    step, epoch = _newest_step(run)
    loop = _recipe(recipe_file).get("loop") or {}
    steps = _summary(run).get("steps") or loop.get("max_steps")
    return Progress(step, steps, epoch, loop.get("epochs"))


def _newest_step(run: Path) -> tuple[int | None, int | None]:
    for line in _last_lines(run / "metrics.jsonl"):
        with contextlib.suppress(ValueError, TypeError, KeyError):  # a line that a crash cut in two
            document = json.loads(line)
            return int(document["step"]), int(document["epoch"])
    return None, None


def _last_lines(path: Path) -> Iterator[bytes]:
    """From the last one backwards."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL))
            yield from reversed(stream.read().splitlines())
    except OSError:
        return


def _recipe(path: Path) -> Mapping[str, Any]:
    import yaml

    with contextlib.suppress(OSError, ValueError, yaml.YAMLError):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return document if isinstance(document, dict) else {}
    return {}


def _summary(run: Path) -> Mapping[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        document = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
        return document if isinstance(document, dict) else {}
    return {}
