"""Where a training begins: what the commands that train say of an earlier run of the same name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.errors import InputError


@dataclass(frozen=True)
class Beginning:
    """What becomes of what the run directory already holds."""

    overwrite: bool = False
    """Replace a run, finished or not."""
    resume: str = "auto"
    """auto: go on from the newest checkpoint of an unfinished run; never: start it over; else the path
    of a checkpoint, or of a run whose newest one is meant."""
    force: bool = False
    """Go on although settings have changed."""

    @property
    def anew(self) -> bool:
        """Whether no checkpoint is to be gone on from."""
        return self.overwrite or self.resume == "never"

    def flags(self) -> list[str]:
        """As command-line options, to be passed on."""
        flags = ["--overwrite"] if self.overwrite else []
        flags += [f"--resume={self.resume}"] if self.resume != "auto" else []
        return [*flags, "--force"] if self.force else flags


def add_options(parser: argparse.ArgumentParser) -> None:
    """--overwrite, --resume and --force."""
    parser.add_argument("--overwrite", action="store_true", help="replace a finished run of the same name")
    parser.add_argument(
        "--resume",
        default="auto",
        metavar="auto|never|PATH",
        help="auto (default): go on from the newest checkpoint of an unfinished run of the same name; "
        "never: start it over; PATH: of a checkpoint, or of a run whose newest one is meant",
    )
    parser.add_argument("--force", action="store_true", help="resume although settings have changed")


def read_options(options: argparse.Namespace, recipes: Sequence[object]) -> Beginning:
    """The options that ``add_options`` added. Raises InputError where they contradict each other."""
    beginning = Beginning(options.overwrite, options.resume, options.force)
    path = options.resume not in ("auto", "never")
    if path and options.overwrite:
        raise InputError("--overwrite starts anew and --resume PATH does not; give one of them")
    if path and not Path(options.resume).is_dir():
        raise InputError(f"--resume {options.resume}: no such folder; auto, never, or a run or its step-N")
    if path and len(recipes) > 1:
        raise InputError("--resume PATH goes with one recipe, not with several")
    return beginning
