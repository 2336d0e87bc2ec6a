"""``sokhan sweep``."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import Any

from configs.beginning import add_options, read_options
from launch.commands.run import add_cluster_options


def add_commands(commands: Any) -> None:
    """Add the command to the ``sokhan`` parser."""
    sweep = commands.add_parser(
        "sweep",
        help="train a grid of recipes, settings and seeds: a job array, or one after the other",
        usage="sokhan sweep GRID [--at_most N] [--slurm.FIELD VALUE]... [--FIELD VALUE]...",
        description="GRID is a YAML file or the name of a shipped one; docs/sweeps.md says what stands "
        "in it. Fields hold for all trainings. Typed again, it trains what has failed or is missing.",
        allow_abbrev=False,
    )
    add_cluster_options(sweep)
    add_options(sweep)
    sweep.add_argument("--at_most", type=int, metavar="N", help="trainings at the same time")
    sweep.add_argument(
        "--ranks", type=int, help="without SLURM: processes (default: one a GPU, else one)"
    )
    sweep.add_argument(
        "--dry-run", action="store_true", help="print how each training stands, and stop"
    )
    sweep.set_defaults(run=run_sweep)


def run_sweep(options: argparse.Namespace) -> int:
    """Show how the trainings stand, then train those that are left."""
    from configs.cluster import load_cluster, split_words
    from configs.errors import InputError
    from configs.grid import load_grid, shipped_grids
    from launch.local import count_gpus
    from launch.slurm.submit import choose
    from launch.sweeps.folder import recorded, write_sweep
    from launch.sweeps.local import train_here
    from launch.sweeps.slurm import submit_sweep
    from launch.sweeps.sweep import (
        check_all,
        describe,
        left_to_do,
        look,
        plan_sweep,
        trainings_text,
    )

    if len(options.recipes) != 1:
        names = ", ".join(shipped_grids())
        raise InputError(f"sokhan sweep takes one grid; those that come with sokhan: {names}")
    slurm, overrides = split_words(options.overrides)
    site = load_cluster(options.site, slurm)
    on_slurm = choose(options.cluster, site) == "slurm"
    _check_options(options, on_slurm)
    sweep = plan_sweep(load_grid(options.recipes[0]), site.recipe, overrides)
    beginning = read_options(options, sweep.trainings)
    trainings = [recorded(member) for member in sweep.trainings]
    found, note = look(trainings, sweep.folder)
    print(describe(sweep.grid.name, trainings, found), flush=True)
    if note:
        print(f"note: {note}; what is told is what the files say", file=sys.stderr)
    left = left_to_do(sweep.trainings, found, beginning)
    gpus = 0 if on_slurm else count_gpus()
    ranks = options.ranks if options.ranks is not None else max(1, gpus)
    check_all(left, site.slurm.ranks if on_slurm else ranks, gpus, beginning)
    at_most = options.at_most or sweep.grid.at_most or 0
    if not left:
        return 0
    how = (f", at most {at_most} at once" if at_most else "") if on_slurm else ", one at a time"
    print(f"left to train: {trainings_text(len(left))}{how}", flush=True)
    if options.dry_run:
        return 0
    if on_slurm and note:
        raise InputError(note)
    command = shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
    new, gone = write_sweep(sweep.folder, sweep.grid, sweep.trainings, command)
    if new or gone:
        print(f"the sweep has changed: {new} new, {gone} no longer in it")
    print(f"sweep folder: {sweep.folder}", flush=True)
    if not on_slurm:
        return train_here(left, sweep.folder, ranks, beginning, command)
    return submit_sweep(sweep, left, site, at_most, beginning, command, wait=options.wait)


def _check_options(options: argparse.Namespace, on_slurm: bool) -> None:
    from configs.errors import InputError

    if options.at_most is not None and options.at_most < 1:
        raise InputError(f"--at_most {options.at_most}: use at least 1")
    if on_slurm and options.ranks is not None:
        raise InputError(
            "--ranks is for this machine; on a cluster use --slurm.nodes and --slurm.tasks_per_node"
        )
