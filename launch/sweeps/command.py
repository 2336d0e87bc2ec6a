"""The command that trains one member of a sweep alone. Its run keeps it in ``command.txt``; the sweep's own
command stands in ``sweep.yaml``, and a study's in ``study.json``, too."""

from __future__ import annotations

import shlex

from configs.study import GridMember


def train_command(member: GridMember, ranks: int | None = None) -> str:
    """`sokhan train` with the recipe as the grid names it and all that is set over it: by the site, by
    the grid, by the command line, and by what it goes on from.

    ``ranks``: processes; None: left to the machine that trains it again.
    """
    processes = [] if ranks is None else [f"--ranks={ranks}"]
    return shlex.join(["sokhan", "train", member.name, *processes, *member.words])
