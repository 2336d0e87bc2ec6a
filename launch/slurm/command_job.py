"""A job that is one plain ``sokhan`` command: no ranks, nothing to save and to go on with."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class CommandJob:
    """One command; pickled by submitit, so it holds plain values only."""

    arguments: tuple[str, ...]
    folder: str
    """Where it was typed: it may name files from there."""

    def __call__(self) -> None:
        """Run it; its exit code is the job's."""
        if code := self.run():
            sys.exit(code)

    def run(self) -> int:
        """Run it; returns the exit code."""
        from launch.cli import main

        os.chdir(self.folder)
        return main(self.arguments)
