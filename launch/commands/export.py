"""``sokhan export``: a checkpoint of a run as a folder that transformers and `model.pretrained` load."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_commands(commands: Any) -> None:
    """Add the command to the ``sokhan`` parser."""
    export = commands.add_parser(
        "export",
        help="write a checkpoint of a run as a model folder",
        description="A finished run has its best weights in model/ already; this is for others, such as "
        "those of each epoch of a pre-training (checkpoint.keep).",
    )
    export.add_argument("run_folder", type=Path, metavar="RUN")
    export.add_argument("--checkpoint", default="", help="step-N or step-N-evaluated; the newest")
    export.add_argument("--out", type=Path, required=True, help="folder to write")
    export.add_argument("--overwrite", action="store_true", help="replace an older model there")
    export.set_defaults(run=run_export)


def run_export(options: argparse.Namespace) -> int:
    """Write the folder."""
    from trainers.export_run import export_run

    tag = export_run(options.run_folder, options.checkpoint, options.out, options.overwrite)
    print(f"{options.run_folder}, {tag}: {options.out}")
    return 0
