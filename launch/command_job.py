"""``sokhan`` commands that no one types: a step of the demo, and a job that is one plain command, with no
ranks and nothing to save and to go on with.

Only here does anything below the command line import it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass


def run_command(arguments: Sequence[str]) -> int:
    """Run a command in this process; returns its exit code."""
    from launch.cli import main

    return main(arguments)


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
        os.chdir(self.folder)
        return run_command(self.arguments)
