"""``sokhan baselines``: what a corpus gives away without any neural network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainers.baselines.results import Baselines


def add_commands(commands: Any) -> None:
    """Add the command to the ``sokhan`` parser."""
    baselines = commands.add_parser(
        "baselines",
        help="score what needs no neural network: majority, word overlap, functionals, ...",
        description="Text: majority class, word overlap, hypothesis only, bag of words. Speech: majority "
        "class, each speaker's majority, logistic regression on functionals of the clip.",
    )
    baselines.add_argument("shards", type=Path)
    baselines.add_argument("--split", default="", help="name of the split (default: the usual one)")
    baselines.add_argument(
        "--out", type=Path, help="folder of the results (default: runs/baselines/CORPUS-SPLIT-PACKING)"
    )
    baselines.set_defaults(run=run_baselines)


def run_baselines(options: argparse.Namespace) -> int:
    """Score, write, print."""
    from trainers.baselines.results import run_baselines

    print(table_of(run_baselines(options.shards, options.split, options.out)))
    return 0


def table_of(found: Baselines) -> str:
    """What the command prints."""
    from data_shards.describe import text_table

    rows = []
    for result in found.results:
        test, validation = result.splits["test"], result.splits["validation"]
        scores = (test.accuracy, test.uar, test.macro_f1, validation.accuracy)
        rows.append([result.baseline.title, *(f"{s:.3f}" for s in scores), f"{result.seconds:.1f}"])
    header = ["baseline", "accuracy", "UAR", "macro F1", "validation accuracy", "seconds"]
    test = found.results[0].splits["test"]
    lines = [
        f"{found.corpus}, split {found.split}, {test.items} test items",
        text_table(header, rows),
    ]
    lines += [f"left out: {line}" for line in found.left_out]
    subsets = found.results[0].subsets
    if subsets:
        lines += ["", "accuracy by subset of test", _subset_table(found)]
    return "\n".join([*lines, f"written: {found.folder}"])


def _subset_table(found: Baselines) -> str:
    from data_shards.describe import text_table

    rows = [
        [name, f"{scores['items']:.0f}", *(f"{r.subsets[name]['accuracy']:.3f}" for r in found.results)]
        for name, scores in found.results[0].subsets.items()
    ]
    header = ["subset", "items", *(result.baseline.title for result in found.results)]
    return text_table(header, rows)
