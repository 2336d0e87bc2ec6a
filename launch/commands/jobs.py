"""``sokhan status``, ``logs``, ``cancel`` and ``doctor``: their options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_TARGETS = "run directory, sweep (its folder or grid) or job id such as 123 or 123_4"


def add_commands(commands: Any) -> None:
    """Add the commands to the ``sokhan`` parser."""
    status = commands.add_parser("status", help="how submitted trainings stand")
    status.add_argument("targets", nargs="*", metavar="RUN|SWEEP|JOB", help=_TARGETS)
    status.add_argument("--json", action="store_true", help="for programs")
    _add_folder(status)
    status.set_defaults(run=run_status)

    logs = commands.add_parser("logs", help="what a rank of a submitted training wrote")
    logs.add_argument("target", metavar="RUN|JOB", help=_TARGETS)
    logs.add_argument(
        "-f", "--follow", action="store_true", help="go on until the job has ended, over requeues"
    )
    logs.add_argument("--rank", type=int, default=0, help="(default: %(default)s)")
    logs.add_argument(
        "--attempt", type=int, metavar="N", help="only this start; 0 is the first (default: all)"
    )
    _add_folder(logs)
    logs.set_defaults(run=run_logs)

    cancel = commands.add_parser("cancel", help="end submitted trainings; running ones save first")
    cancel.add_argument("targets", nargs="+", metavar="RUN|SWEEP|JOB", help=_TARGETS)
    _add_folder(cancel)
    cancel.set_defaults(run=run_cancel)

    doctor = commands.add_parser("doctor", help="say what this machine and its cluster offer")
    doctor.add_argument("--deep", action="store_true", help="import torch and use its GPUs, too")
    doctor.add_argument("--site", help="site whose settings hold (default: $SOKHAN_SITE)")
    doctor.add_argument("--write", type=Path, metavar="FILE", help="write a first site file for this cluster")
    doctor.set_defaults(run=run_doctor)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--folder", type=Path, help="where runs lie (default: runs, or what $SOKHAN_SITE says)"
    )


def _folder(options: argparse.Namespace) -> Path:
    from configs.cluster import load_cluster
    from launch.doctor.site_file import runs_folder

    return options.folder or runs_folder(load_cluster())


def run_status(options: argparse.Namespace) -> int:
    """How trainings stand."""
    from launch.status.status import run_status

    return run_status(options.targets, _folder(options), options.json)


def run_logs(options: argparse.Namespace) -> int:
    """What a rank wrote."""
    from launch.status.logs import run_logs

    return run_logs(
        options.target,
        _folder(options),
        follow=options.follow,
        rank=options.rank,
        attempt=options.attempt,
    )


def run_cancel(options: argparse.Namespace) -> int:
    """End jobs."""
    from launch.status.cancel import run_cancel

    return run_cancel(options.targets, _folder(options))


def run_doctor(options: argparse.Namespace) -> int:
    """What this machine offers."""
    from launch.doctor.doctor import run_doctor

    return run_doctor(options.site, options.write, deep=options.deep)
