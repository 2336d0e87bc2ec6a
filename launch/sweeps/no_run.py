"""What to type instead, where `sokhan report` is given a folder that is neither a run's nor a sweep's."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from configs.grid import load_grid, shipped_grids
from launch.sweep_folder import SWEEP, is_sweep

_SWEEPS = "sweeps"
_SHOWN = 3


def no_run(path: Path) -> str:
    """One line for what is certainly no run directory; empty where the report may look at it itself."""
    if (path / "config.yaml").is_file() or path.is_file():
        return ""
    if path.parent.name == _SWEEPS:
        grid = next((name for name in shipped_grids() if load_grid(name).name == path.name), "GRID")
        others = _some([other for other in sorted(path.parent.glob("*")) if is_sweep(other)])
        there = f"; sweeps there: {others}" if others else ""
        return f"{path}: no sweep was trained here yet (no {SWEEP}); `sokhan sweep {grid}` does{there}"
    if not path.is_dir():
        near = difflib.get_close_matches(str(path), shipped_grids(), 1, 0.7)
        return f"{path}: no such run directory, sweep or grid; did you mean {near[0]}?" if near else ""
    sweeps = [found.parent for found in sorted(path.glob(f"*/{SWEEP}"))]
    runs = [found.parent for found in sorted(path.glob("*/config.yaml"))]
    if not sweeps and not runs:  # the folder of all runs?
        sweeps = [found.parent for found in sorted(path.glob(f"{_SWEEPS}/*/{SWEEP}"))]
        runs = [found.parent for found in islice(sorted(path.glob("*/*/config.yaml")), _SHOWN + 1)]
    if not sweeps and not runs:
        return ""
    return (
        f"{path}: no run directory, but a folder of them; name one or several, such as {_some(sweeps + runs)}"
    )


def _some(paths: Sequence[Path]) -> str:
    more = ", ..." if len(paths) > _SHOWN else ""
    return ", ".join(str(path) for path in paths[:_SHOWN]) + more
