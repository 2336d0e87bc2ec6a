"""``sokhan predict``: a trained classifier applied to new clips or pairs of texts."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path
from typing import Any

from configs.errors import InputError


def add_commands(commands: Any) -> None:
    """Add the command to the ``sokhan`` parser."""
    predict = commands.add_parser(
        "predict",
        help="apply a trained classifier to new clips or pairs of texts",
        description="Writes a table: key or path, prediction, and the probability of each class; with "
        "labels also these and the loss, as in eval/predictions-test.csv, and the scores on stderr. "
        "Inputs are read as in training. On a GPU if there is one.",
    )
    predict.add_argument("model", type=Path, metavar="MODEL", help="run directory, or exported model folder")
    predict.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="INPUT",
        help="audio files and folders of them, or one manifest (csv, tsv, jsonl): path[,label] or "
        "premise,hypothesis[,label]",
    )
    predict.add_argument(
        "--out", type=Path, metavar="FILE", help="csv to write, in place of an older one (stdout)"
    )
    predict.add_argument(
        "--batch",
        type=int,
        default=16,
        metavar="N",
        help="samples at a time (default: %(default)s)",
    )
    predict.set_defaults(run=run_predict)


def run_predict(options: argparse.Namespace) -> int:
    """Predict all, then write all."""
    if options.out is not None:
        check_out(options.out, options.inputs)
    from data_shards.progress import stderr_progress
    from trainers.predict import predict
    from trainers.predictions import write_rows

    with stderr_progress("predict") as progress:
        found = predict(options.model, options.inputs, options.batch, progress)
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    if options.out is None:
        csv.writer(sys.stdout, lineterminator="\n").writerows(found.rows())
    else:
        write_rows(options.out, found.rows())
    metrics = found.metrics()
    if metrics is not None:
        print(
            f"accuracy {metrics.accuracy:.4f}, UAR {metrics.uar:.4f} ({metrics.items} labelled)",
            file=sys.stderr,
        )
    return 0


def check_out(out: Path, inputs: list[Path]) -> None:
    """What is wrong with --out should not show when all is computed."""
    if out.is_dir():
        raise InputError(f"--out {out}: is a folder; name a file in it")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no folder {out.parent}; make it first")
    if out.exists() and any(path.exists() and os.path.samefile(out, path) for path in inputs):
        raise InputError(f"--out {out}: is an input, too; choose another name")
