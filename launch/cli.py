"""The ``sokhan`` command. Only argparse is imported here; each command imports what it needs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from configs.errors import InputError
from launch.commands import (
    baselines,
    corpus,
    download,
    export,
    first_steps,
    jobs,
    pack,
    predict,
    report,
    sweep,
    train,
)
from launch.commands.common import split_recipes
from launch.parser import Command


def build_parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    parser = Command(
        prog="sokhan", description="Fine-tune speech and Persian text encoders: pack, train, report."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    pack.add_commands(commands)
    corpus.add_commands(commands)
    train.add_commands(commands)
    report.add_commands(commands)
    download.add_commands(commands)
    first_steps.add_commands(commands)
    jobs.add_commands(commands)
    sweep.add_commands(commands)
    export.add_commands(commands)
    predict.add_commands(commands)
    baselines.add_commands(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    parser = build_parser()
    recipes, arguments = split_recipes(list(arguments or sys.argv[1:]))
    slurm, arguments = pack.split_slurm(arguments)
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command not in ("train", "submit", "sweep"):
        options.parser.refuse(rest)
    options.recipes, options.overrides = recipes, rest
    options.slurm, options.typed = slurm, arguments
    try:
        return int(options.run(options))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        return 0
    except OSError as error:
        print(f"error: {error.filename or 'file system'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interruption:
        print(f"stopped: {str(interruption) or 'interrupted'}", file=sys.stderr)
        return 130
