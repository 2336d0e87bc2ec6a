"""The page of a study, written when its trainings are over."""

from __future__ import annotations

import sys
from pathlib import Path

from configs.errors import InputError
from configs.rank_status import FAILED, TRAINED
from launch.slurm.page_job import wait_for_page
from launch.status.pages import pending_pages
from launch.sweeps.sweep import for_report


def write_page(folder: Path) -> int:
    """Write the page of the study in a sweep's folder and say where it is, or why there is none;
    returns the exit code. The runs stay as they are in any case."""
    print("writing the page: baselines, intervals and tests first ...", flush=True)
    from trainers.reporting.study.page import write_study

    try:
        wanted = for_report([folder])
        report = write_study(folder, None, wanted.left_out)
    except InputError as error:
        return _no_page(str(error))
    except OSError as error:
        return _no_page(f"{error.filename or folder}: {error.strerror or error}")
    print(f"page: {report.html}\n      {report.markdown}", flush=True)
    return TRAINED


def page_again(folder: Path, *, on_slurm: bool, wait: bool) -> int:
    """Write the page of a study in which nothing is left to train, here, unless a job is yet to do so;
    returns the exit code."""
    pending = pending_pages(folder) if on_slurm else []
    if not pending:
        return write_page(folder)
    print(f"{pending[-1]}; the same command writes it here when that has ended", flush=True)
    return wait_for_page(pending[-1].page) if wait else TRAINED


def _no_page(why: str) -> int:
    print(f"error: no page: {why}", file=sys.stderr, flush=True)
    return FAILED
