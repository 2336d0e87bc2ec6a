"""``sokhan train``, ``submit``, ``report``, ``download``, ``recipes`` and ``demo``."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.beginning import add_options, read_options


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

    report = commands.add_parser("report", help="write HTML and Markdown reports of finished runs")
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories, sweeps, grids")
    report.add_argument("--out", type=Path, help="folder for a comparison of several runs")
    report.set_defaults(run=run_report)

    download = commands.add_parser("download", help="fetch a model for machines without network")
    kinds = download.add_subparsers(dest="kind", required=True, metavar="KIND")
    model = kinds.add_parser("model", help="a model of the Hugging Face hub")
    model.add_argument("name", help="e.g. facebook/hubert-base-ls960")
    model.add_argument("--revision", help="commit to pin")
    download.set_defaults(run=run_download)

    recipes = commands.add_parser("recipes", help="list the recipes and grids that come with sokhan")
    recipes.set_defaults(run=run_recipes)

    demo = commands.add_parser("demo", help="pack, train and report on generated corpora: the whole path")
    demo.add_argument("--folder", type=Path, default=Path("demo"), help="where to (default: %(default)s)")
    demo.add_argument("--ranks", type=int, default=2, help="training processes (default: %(default)s)")
    demo.set_defaults(run=run_demo)


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


def run_download(options: argparse.Namespace) -> int:
    """Fetch a model into the hub's cache, where offline nodes that share it find it."""
    from trainers.models.source import download_model

    folder = download_model(options.name, options.revision)
    print(f"{options.name}: {folder}")
    return 0


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


def typed_command() -> str:
    """The command line, for those who want to know later what was asked."""
    return shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
