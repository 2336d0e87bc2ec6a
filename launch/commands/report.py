"""``sokhan report``: pages about finished runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add_commands(commands: Any) -> None:
    """Add the command to the ``sokhan`` parser."""
    report = commands.add_parser("report", help="write HTML and Markdown reports of finished runs")
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories, sweeps, grids")
    report.add_argument("--out", type=Path, help="folder for a comparison of several runs")
    report.set_defaults(run=run_report)


def run_report(options: argparse.Namespace) -> int:
    """Write the report and say where it is."""
    from launch.sweeps.sweep import for_report
    from trainers.report import write_report
    from trainers.reporting.study.page import write_study

    wanted = for_report(options.runs)
    if wanted.study:
        report = write_study(wanted.study, options.out, wanted.left_out)
    else:
        report = write_report(wanted.runs, options.out or wanted.folder, wanted.left_out)
    for line in report.left_out:
        print(f"left out: {line}", file=sys.stderr)
    print(f"report: {report.html}\n        {report.markdown}")
    return 0
