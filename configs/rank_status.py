"""What each rank tells the command that started it: one small file a rank in a folder of that start.

`sokhan train` and the jobs of `sokhan submit` make the folder and name it in SOKHAN_STATUS. Without it
(torchrun, a plain start) nothing is written, and a rank prints its own errors.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

STATUS = "SOKHAN_STATUS"
"""Environment variable with the folder."""
LAUNCHED_BY = "SOKHAN_LAUNCHED_BY"
"""Environment variable with the process id of `sokhan train` where DeepSpeed's launcher, which must
not outlive it, stands between the two."""
JOB = "SOKHAN_JOB"
"""Environment variable with the submission and member that a start belongs to: the same for all starts
of a job, and told from those of other submissions."""
COMMAND = "SOKHAN_COMMAND"
"""Environment variable with what the user typed."""

TRAINED, FAILED, WRONG_INPUT, STOPPED = 0, 1, 2, 75
"""Exit codes of a training; the last (EX_TEMPFAIL): stopped after saving, start again to go on."""

State = Literal["started", "finished", "saved", "failed", "hung_peer", "lost_peer"]
"""failed: by its own error; hung_peer: by a fault of machine or scheduler, which it names, so that the
same start may do later (another rank hangs or has not come, the port is taken, an earlier start of the
job still holds the run directory); lost_peer: another rank is gone."""


@dataclass(frozen=True)
class RankStatus:
    """The last word of a rank."""

    rank: int
    pid: int
    state: State
    text: str = ""
    """An error: one line, or a whole traceback."""
    code: int = 0
    """Exit code that it leaves with."""


def supervised() -> bool:
    """Whether somebody reads what this rank reports, and so will tell of its errors."""
    return STATUS in os.environ


def report(state: State, text: str = "", code: int = 0) -> bool:
    """Leave this rank's word; returns whether it was left."""
    if not supervised():
        return False
    rank = int(os.environ.get("RANK", "0"))
    path = status_path(Path(os.environ[STATUS]), rank)
    partial = path.with_suffix(".partial")
    document = asdict(RankStatus(rank, os.getpid(), state, text, code))
    try:
        partial.write_text(json.dumps(document), encoding="utf-8")
        partial.replace(path)
    except OSError:  # the starter is gone and its folder with it, or the disk is full
        return False
    return True


def withdraw() -> None:
    """Remove this rank's word, and the folder with the last one: nobody is left to do so."""
    folder = Path(os.environ[STATUS])
    with contextlib.suppress(OSError):
        status_path(folder, int(os.environ.get("RANK", "0"))).unlink()
        folder.rmdir()


def read_statuses(folder: Path, ranks: int) -> Mapping[int, RankStatus]:
    """The last words of those ranks that have left one, in rank order."""
    found = {}
    for rank in range(ranks):
        path = status_path(folder, rank)
        if path.is_file():
            found[rank] = RankStatus(**json.loads(path.read_text(encoding="utf-8")))
    return found


def status_path(folder: Path, rank: int) -> Path:
    """A rank's file."""
    return folder / f"rank-{rank}.json"
