"""In which settings runs differ, and which differ in the seed alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.load import flatten, is_site
from trainers.reporting.runs.record import Run

_START = ("model.pretrained", "model.revision")
_SHARDS = "data.shards"
_DIGEST = "data.digest"


def settings_of(run: Run) -> dict[str, Any]:
    """What can change a run's result, but for its seed: dotted keys, with the shards that it read and
    their digest: a corpus packed anew under the same path is other data."""
    flat = flatten(run.config)
    if flat.get("model.pretrained"):  # another run of equal seed is the same setting for all seeds
        flat["model.pretrained"] = run.start
    kept = {key: value for key, value in flat.items() if key != "seed" and not is_site(key)}
    return {**kept, _SHARDS: flat.get(_SHARDS), _DIGEST: str(run.data.get("digest") or "")[:8]}


def training_of(run: Run) -> dict[str, Any]:
    """``settings_of`` without the weights that it began with and what was measured afterwards: equal
    for two runs of which one goes on from another's weights and one does not."""
    return {
        key: value
        for key, value in settings_of(run).items()
        if key not in _START and not key.startswith("analysis.")
    }


def seed_groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ in nothing but the seed (and what cannot change a result), by first run.

    A seed that was run twice counts once.
    """
    groups: dict[str, dict[int, Run]] = {}
    for run in runs:
        about = [run.recipe, run.data["corpus"], run.data["split"]]
        key = json.dumps([*about, settings_of(run)], sort_keys=True)
        groups.setdefault(key, {}).setdefault(run.seed, run)
    return [list(group.values()) for group in groups.values()]


def varied(runs: Sequence[Run]) -> dict[Path, str]:
    """Run directory -> the settings in which runs of its recipe differ, the seed aside, with the
    values that they have there."""
    values: dict[tuple[str, str], set[str]] = {}
    for run in runs:
        for key, value in settings_of(run).items():
            values.setdefault((run.recipe, key), set()).add(json.dumps(value))
    texts = {}
    for run in runs:
        own = settings_of(run)
        keys = [key for name, key in values if name == run.recipe and len(values[name, key]) > 1]
        if _SHARDS in keys:  # their names tell what their digests tell
            keys = [key for key in keys if key != _DIGEST]
        texts[run.path] = ", ".join(f"{key} {_value(own.get(key))}" for key in keys)
    return texts


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
