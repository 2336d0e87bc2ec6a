"""``sokhan train`` and ``submit``: recipes, on this machine or as jobs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from configs.beginning import add_options, read_options
from launch.commands.common import add_cluster_options, typed_command


def add_commands(commands: Any) -> None:
    """Add the commands to the ``sokhan`` parser."""
    train = commands.add_parser(
        "train",
        help="train one or more recipes on this machine",
        usage="sokhan train RECIPE... [--ranks N] [--resume WHERE] [--overwrite] [--FIELD VALUE]...",
        description="RECIPE is a YAML file or the name of a shipped one. Any field of it can "
        "be set: --optim.lr 3e-5 --engine.zero 2. "
        "`--print_config` shows all fields and where they stand.",
    )
    train.add_argument("--ranks", type=int, help="processes (default: one a GPU, else one)")
    add_options(train)
    _add_print_config(train)
    train.set_defaults(run=run_train)

    submit = commands.add_parser(
        "submit",
        help="train recipes as jobs of a SLURM cluster, through submitit",
        usage="sokhan submit RECIPE... [--slurm.FIELD VALUE]... [--site SITE] [--FIELD VALUE]...",
        description="Takes what `sokhan train` takes. --slurm.FIELD says what to ask the cluster for: "
        "--slurm.nodes 2 --slurm.tasks_per_node 8 --slurm.partition gpu --slurm.time 12h; "
        "docs/slurm.md lists all. A site file holds a cluster's standing settings.",
    )
    add_cluster_options(submit)
    add_options(submit)
    submit.add_argument(
        "--dry-run", action="store_true", help="print the batch script and what sbatch says of it"
    )
    submit.add_argument("--ranks", type=int, help="ranks of one node: --slurm.tasks_per_node")
    _add_print_config(submit)
    submit.set_defaults(run=run_submit)


def _add_print_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--print_config", action="store_true", help="print the whole recipe and stop")


def run_train(options: argparse.Namespace) -> int:
    """Check the recipes, then start the ranks."""
    from configs.errors import InputError
    from launch.local import count_gpus, train

    names, overrides = options.recipes, options.overrides
    if not names and options.print_config:
        names = ["demo/hubert", "demo/bert_full"]
    if not names:
        raise InputError(
            "no recipe given: recipes come first, before any option; `sokhan recipes` lists those "
            "that come with sokhan"
        )
    if options.print_config:
        return _print_recipes(names, overrides)
    ranks = options.ranks if options.ranks is not None else max(1, count_gpus())
    beginning = read_options(options, names)
    return train(names, overrides, ranks=ranks, beginning=beginning, command=typed_command())


def run_submit(options: argparse.Namespace) -> int:
    """Submit recipes, or show what would be submitted."""
    from configs.cluster import load_cluster, split_words
    from configs.errors import InputError
    from launch.slurm.submit import plan, show, submit

    if not options.recipes:
        raise InputError("no recipe given; `sokhan recipes` lists those that come with sokhan")
    slurm, overrides = split_words(options.overrides)
    if options.ranks is not None:
        slurm = [*slurm, "--slurm.tasks_per_node", str(options.ranks)]
    site = load_cluster(options.site, slurm)
    if options.print_config:
        return _print_recipes(options.recipes, [*site.recipe, *overrides])
    if options.ranks is not None and site.slurm.nodes > 1:
        raise InputError("--ranks is for one node; say --slurm.nodes and --slurm.tasks_per_node")
    trainings = plan(options.recipes, overrides, site, read_options(options, options.recipes))
    if options.dry_run:
        return show(trainings, site)
    return submit(trainings, site, options.cluster, command=typed_command(), wait=options.wait)


def _print_recipes(names: Sequence[str], overrides: Sequence[str]) -> int:
    from configs.load import load_recipe, to_yaml

    print("---\n".join(to_yaml(load_recipe(name, overrides)) for name in names), end="")
    return 0
