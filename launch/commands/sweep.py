"""``sokhan sweep``."""

from __future__ import annotations

import argparse
from typing import Any

from configs.beginning import add_options, read_options
from launch.commands.common import add_cluster_options, typed_command


def add_commands(commands: Any) -> None:
    """Add the command to the ``sokhan`` parser."""
    sweep = commands.add_parser(
        "sweep",
        help="train a grid of recipes, settings and seeds: a job array, or one after the other",
        usage="sokhan sweep GRID [--at_most N] [--slurm.FIELD VALUE]... [--FIELD VALUE]...",
        description="GRID is a YAML file or the name of a shipped one; docs/sweeps.md says what stands "
        "in it. Fields hold for all trainings. Typed again, it trains what has failed or is missing.",
    )
    add_cluster_options(sweep)
    add_options(sweep)
    sweep.add_argument("--at_most", type=int, metavar="N", help="trainings at the same time")
    sweep.add_argument("--ranks", type=int, help="without SLURM: processes (default: one a GPU, else one)")
    sweep.add_argument(
        "--dry-run",
        action="store_true",
        help="print how each training stands and what the rest is expected to cost, and stop",
    )
    sweep.set_defaults(run=run_sweep)


def run_sweep(options: argparse.Namespace) -> int:
    """Train what is left of a grid."""
    from configs.cluster import load_cluster, split_words
    from configs.errors import InputError
    from configs.grid import load_grid, shipped_grids
    from launch.sweeps.sweep import plan_sweep
    from launch.sweeps.train import How, train_sweep

    if len(options.recipes) != 1:
        names = ", ".join(shipped_grids())
        raise InputError(f"sokhan sweep takes one grid; those that come with sokhan: {names}")
    slurm, overrides = split_words(options.overrides)
    site = load_cluster(options.site, slurm)
    sweep = plan_sweep(load_grid(options.recipes[0]), site.recipe, overrides)
    how = How(
        options.cluster,
        options.ranks,
        options.at_most,
        read_options(options, sweep.trainings),
        typed_command(),
        dry_run=options.dry_run,
        wait=options.wait,
    )
    return train_sweep(sweep, site, how)
