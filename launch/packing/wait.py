"""Waiting for the jobs of a split packing, and telling which of them failed."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from launch.slurm.job_files import is_done, log_of
from launch.slurm.scheduler import SchedulerDown, job_states
from launch.slurm.waiting import SETTLE, looks

_WORDS = (
    r"^error: (.+)",
    r"^slurmstepd.*\b(?:TIME LIMIT|[Oo]ut [Oo]f [Mm]emory|oom.kill).*",
    r"^stopped: (.+)",
    r"^srun: error: (.+)",
)
"""What a log is searched for, best first: ours, then SLURM's."""


@dataclass(frozen=True)
class SentPack:
    """The jobs that a packing was sent as."""

    folder: Path
    """Scripts and logs."""
    parts: dict[int, str]
    """Part -> the member of the array that packs it."""
    merge: str
    """The job that joins all."""


def wait_for(sent: SentPack) -> int:
    """Return when the parts are joined, or cannot be; the exit code. Ctrl-C ends the waiting only."""
    try:
        _wait(sent)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"waiting only; job {sent.merge} and its parts go on") from None
    if is_done(sent.folder, sent.merge):
        print(f"job {sent.merge} is done", flush=True)
        return 0
    failed = [part for part, job in sent.parts.items() if not is_done(sent.folder, job)]
    for part in failed:
        _tell(f"part {part}", sent.folder, sent.parts[part])
    if not failed:
        _tell("joining the parts", sent.folder, sent.merge)
    print("the same command again packs what is missing", file=sys.stderr)
    return 1


def _wait(sent: SentPack) -> None:
    """Until all is over: SLURM drops the last job when a part fails, while others still go on."""
    jobs = [*sent.parts.values(), sent.merge]
    gone_since: float | None = None
    for _ in looks():
        if is_done(sent.folder, sent.merge):
            return
        try:
            live = any(not state.over for state in job_states(jobs).values())
        except SchedulerDown:
            live = True  # it will be back
        now = time.monotonic()
        gone_since = None if live else gone_since or now
        if gone_since is not None and now >= gone_since + SETTLE:
            return


def _tell(what: str, folder: Path, job: str) -> None:
    log = log_of(folder, job)
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    found = (re.findall(pattern, text, re.MULTILINE) for pattern in _WORDS)
    words = next((lines[-1] for lines in found if lines), "it has ended without a word")
    print(f"error: {what} (job {job}) failed: {words}; see {log}", file=sys.stderr)
