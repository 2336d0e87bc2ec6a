"""The page of a study, written when its trainings are over."""

from __future__ import annotations

import sys
from pathlib import Path

from configs.errors import InputError
from launch.sweeps.sweep import for_report


def write_page(folder: Path) -> None:
    """Write the page of the study in a sweep's folder and say where it is, or why there is none."""
    from trainers.reporting.study.page import write_study

    try:
        wanted = for_report([folder])
        report = write_study(folder, None, wanted.left_out)
    except InputError as error:
        print(f"no page: {error}", file=sys.stderr, flush=True)
        return
    print(f"page: {report.html}\n      {report.markdown}", flush=True)
