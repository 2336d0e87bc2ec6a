"""What the lines of several commands have in common: recipes first, options of a cluster, what was typed."""

from __future__ import annotations

import argparse
import os
import shlex
import sys


def split_recipes(arguments: list[str]) -> tuple[list[str], list[str]]:
    """["train", "a.yaml", "--seed", "1"] -> (["a.yaml"], ["train", "--seed", "1"]).

    Recipes come first. argparse alone could not tell the value of an override from a recipe.
    """
    if arguments[:1] not in (["train"], ["submit"], ["sweep"]):
        return [], arguments
    end = 1
    while end < len(arguments) and not arguments[end].startswith("-"):
        end += 1
    return arguments[1:end], [arguments[0], *arguments[end:]]


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """--site, --cluster and --wait, for the commands that submit jobs."""
    parser.add_argument(
        "--site",
        metavar="NAME|FILE",
        help="standing settings of a cluster (default: $SOKHAN_SITE); `sokhan doctor --write` makes one",
    )
    parser.add_argument(
        "--cluster",
        choices=("auto", "slurm", "local", "debug"),
        default="auto",
        help="auto: SLURM where there is one, else processes of this machine",
    )
    parser.add_argument("--wait", action="store_true", help="return when the job has ended")


def typed_command() -> str:
    """The command line, for those who want to know later what was asked."""
    return shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
