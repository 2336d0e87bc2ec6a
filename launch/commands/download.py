"""``sokhan download``: models for machines without network."""

from __future__ import annotations

import argparse
from typing import Any


def add_commands(commands: Any) -> None:
    """Add the command to the ``sokhan`` parser."""
    download = commands.add_parser("download", help="fetch a model for machines without network")
    kinds = download.add_subparsers(dest="kind", required=True, metavar="KIND")
    model = kinds.add_parser("model", help="a model of the Hugging Face hub")
    model.add_argument("name", help="e.g. facebook/hubert-base-ls960")
    model.add_argument("--revision", help="commit to pin")
    download.set_defaults(run=run_download)


def run_download(options: argparse.Namespace) -> int:
    """Fetch a model into the hub's cache, where offline nodes that share it find it."""
    from trainers.models.source import download_model

    folder = download_model(options.name, options.revision)
    print(f"{options.name}: {folder}")
    return 0
