"""``sokhan recipes`` and ``demo``: for who begins."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_commands(commands: Any) -> None:
    """Add the commands to the ``sokhan`` parser."""
    recipes = commands.add_parser("recipes", help="list the recipes and grids that come with sokhan")
    recipes.set_defaults(run=run_recipes)

    demo = commands.add_parser("demo", help="pack, train and report on generated corpora: the whole path")
    demo.add_argument("--folder", type=Path, default=Path("demo"), help="where to (default: %(default)s)")
    demo.add_argument("--ranks", type=int, default=2, help="training processes (default: %(default)s)")
    demo.set_defaults(run=run_demo)


def run_recipes(options: argparse.Namespace) -> int:
    """List recipes and grids by name, with the first sentence of each file."""
    from configs.grid import shipped_grids
    from configs.heads import first_sentence
    from configs.load import FOLDER, shipped_recipes

    recipes, grids = shipped_recipes(), shipped_grids()
    width = max(map(len, [*recipes, *grids]))
    for heading, names in (("recipes, for `sokhan train`", recipes), ("grids, for `sokhan sweep`", grids)):
        print(f"{heading}:")
        for name in names:
            sentence = first_sentence((FOLDER / name).with_suffix(".yaml"))
            print(f"  {name:{width}}  {sentence}".rstrip())
    return 0


def run_demo(options: argparse.Namespace) -> int:
    """The whole path on generated corpora."""
    from launch.demo import run

    return run(options.folder, options.ranks)
