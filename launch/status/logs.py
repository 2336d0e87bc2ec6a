"""`sokhan logs`: what a rank wrote, over all starts of its job or of one, and why it failed at last."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from configs.errors import InputError
from launch.last_words import errors, last_line
from launch.slurm.log_parts import part_of
from launch.slurm.submission import Attempt, Member, Submission
from launch.status.state import PENDING
from launch.status.status import statuses
from launch.status.targets import Target, find_targets

_LOOK = 0.5
"""Seconds between looks at the files."""
_ASK = {"slurm": 10.0, "local": 1.0, "debug": 1.0}
"""Seconds between questions whether a job has ended, while it writes nothing."""
_TAIL = 2**14


@dataclass
class _Log:
    """One of a rank's two files, and how far it has been shown."""

    path: Path
    stream: IO[bytes]
    shown: int = 0
    until: int | None = None
    tail: bytes = field(default=b"", init=False)

    def show(self) -> bool:
        """Show what is new; returns whether anything was."""
        before = self.shown
        # Opened anew each time: over NFS only that makes sure of what other machines wrote.
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self.shown)
            while self.until is None or self.shown < self.until:
                size = 2**16 if self.until is None else min(2**16, self.until - self.shown)
                data = file.read(size)
                if not data:
                    break
                self.stream.write(data)
                self.shown += len(data)
                self.tail = (self.tail + data)[-_TAIL:]
        self.stream.flush()
        return self.shown > before


def run_logs(word: str, folder: Path, *, follow: bool, rank: int, attempt: int | None) -> int:
    """Show a rank's stdout on stdout and its stderr on stderr; the exit code is 0, whatever they say."""
    target, submission, member = _one(word, folder)
    if not 0 <= rank < member.ranks:
        raise InputError(f"--rank {rank}: this training has ranks 0 to {member.ranks - 1}")
    if follow and attempt is not None:
        raise InputError("--attempt shows one start, -f follows all: use one of them")
    paths = submission.logs(member, rank)
    out = _Log(paths[0], sys.stdout.buffer)
    err = _Log(paths[1], sys.stderr.buffer)
    if attempt is not None:
        for log in (out, err):
            log.shown, log.until = part_of(submission, member, attempt, log.path.name)
    if follow:
        _follow(target, out, err)
    elif not out.show() | err.show() and not paths[0].exists():
        _say(f"nothing yet: {_describe(target)}")
    _tell_errors(submission.attempts(member), attempt, member, err.tail)
    return 0


def _one(word: str, folder: Path) -> tuple[Target, Submission, Member]:
    targets = find_targets([word], folder)
    if len(targets) != 1:
        raise InputError(
            f"{word}: names {len(targets)} trainings; `sokhan status {word}` lists them, logs takes one"
        )
    target = targets[0]
    if target.submission is None or target.member is None:
        raise InputError(f"{word}: was not submitted; `sokhan train` writes to its terminal alone")
    return target, target.submission, target.member


def _follow(target: Target, out: _Log, err: _Log) -> None:
    """Show what comes until the job has ended, over all its starts."""
    assert target.submission
    patience, told = _ASK.get(target.submission.cluster, 1.0), ""
    asked = -patience
    while True:
        if out.show() | err.show():
            asked = max(asked, time.monotonic() - patience + _LOOK * 2)
        elif time.monotonic() >= asked + patience:
            (status,), _ = statuses([target])
            if status.state not in PENDING:
                break
            asked = time.monotonic()
            words = f"{status.state}: {status.detail}"
            if status.state != "running" and words != told:
                _say(f"job {target.job} is {words}")
            told = words
        time.sleep(_LOOK)
    out.show()
    err.show()


def _describe(target: Target) -> str:
    (status,), note = statuses([target])
    return ", ".join(filter(None, [status.state, status.detail, note]))


def _tell_errors(starts: list[Attempt], number: int | None, member: Member, told: bytes) -> None:
    """Why a start failed, unless the log has just ended with it: only rank 0's has the job's words."""
    chosen = [start for start in starts if number in (None, start.number)]
    if not chosen:
        return
    said = chosen[-1].statuses(member.ranks).values()
    failed = [word for word in said if word.state in ("failed", "hung_peer")]
    words = str(chosen[-1].end.get("words") or "\n".join(errors(failed)))
    if words.strip() and last_line(words).encode() not in told:
        _say(words)


def _say(words: str) -> None:
    sys.stdout.flush()
    print(words, file=sys.stderr, flush=True)
