"""`sokhan report RUN...`: finished run directories -> a page to read and its Markdown twin."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from configs.errors import InputError
from trainers.reporting.page.blocks import Block, Heading, Text
from trainers.reporting.page.write import Report, write_pages
from trainers.reporting.runs.beside import beside_reference
from trainers.reporting.runs.comparison import over_seeds, side_by_side
from trainers.reporting.runs.read import read_run
from trainers.reporting.runs.record import Run
from trainers.reporting.runs.sections import run_sections


def write_report(runs: Sequence[Path], out: Path | None = None, unfinished: Sequence[str] = ()) -> Report:
    """Write ``report.html`` and ``report.md`` for one run, ``comparison.*`` for several.

    ``out`` is the folder they go to: by default the run's own, or the deepest folder that holds
    all runs. Among several, unfinished or damaged runs are listed and left out, after those that the
    caller knows to be (``unfinished``, a line each); InputError is raised where none is left (or the
    only one is unfinished).
    """
    paths = list({path.resolve(): path for path in runs}.values())
    if not paths:
        raise InputError("no run given; use `sokhan report runs/RECIPE/NAME ...`")
    good: list[Run] = []
    left_out = list(unfinished)
    single = len(paths) == 1 and not left_out
    for path in paths:
        try:
            good.append(read_run(path))
        except InputError as error:
            if single:
                raise
            left_out.append(str(error))
    if not good:
        raise InputError(f"none of {len(left_out)} runs can be reported; the first: {left_out[0]}")
    if single:
        return write_pages(one_run(good[0]), out or paths[0], "report", ())
    common = Path(os.path.commonpath([path.resolve().parent for path in paths]))
    return write_pages(several_runs(good, left_out), out or common, "comparison", tuple(left_out))


def one_run(run: Run) -> list[Block]:
    """The report of one run."""
    return [Heading(1, run.name), *run_sections(run, 2, "run"), *beside_reference([run])]


def several_runs(runs: Sequence[Run], left_out: Sequence[str]) -> list[Block]:
    """The comparison of several runs, then each of them."""
    blocks: list[Block] = [Heading(1, f"Comparison of {len(runs)} runs")]
    blocks += [Text(f"Left out: {line}", "warning") for line in left_out]
    blocks += [*side_by_side(runs), *over_seeds(runs), *beside_reference(runs)]
    for position, run in enumerate(runs, 1):
        blocks += [Heading(2, run.name), *run_sections(run, 3, f"run{position}")]
    return blocks
