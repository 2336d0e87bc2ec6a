"""``sokhan recipes`` and ``demo``: for who begins."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_commands(commands: Any) -> None:
    """Add the commands to the ``sokhan`` parser."""
    recipes = commands.add_parser("recipes", help="list the recipes that come with sokhan")
    recipes.set_defaults(run=run_recipes)

    demo = commands.add_parser("demo", help="pack, train and report on generated corpora: the whole path")
    demo.add_argument("--folder", type=Path, default=Path("demo"), help="where to (default: %(default)s)")
    demo.add_argument("--ranks", type=int, default=2, help="training processes (default: %(default)s)")
    demo.set_defaults(run=run_demo)


def run_recipes(options: argparse.Namespace) -> int:
    """List recipe names."""
    from configs.load import shipped_recipes

    print("\n".join(shipped_recipes()))
    return 0


def run_demo(options: argparse.Namespace) -> int:
    """The whole path on generated corpora."""
    from launch.demo import run

    return run(options.folder, options.ranks)
