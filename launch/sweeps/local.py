"""The trainings of a sweep on this machine, one after the other in the foreground.

Each is a start of its own, as by ``sokhan train``: one that fails does not stop the others, but for
those that were to go on from its model. A signal stops the one that trains after a save, and no other
is started.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from configs.beginning import Beginning
from configs.errors import InputError
from configs.lifetime import STOP_SIGNALS
from configs.load import is_finished
from configs.rank_status import FAILED, STOPPED, TRAINED, read_statuses
from configs.study import GridMember
from launch.last_words import errors, last_line
from launch.local import train
from launch.sweep_folder import note_outcome, recorded
from launch.sweeps.command import train_command
from launch.sweeps.sweep import IN_HAND, look


def train_here(trainings: Sequence[GridMember], folder: Path, ranks: int, beginning: Beginning) -> int:
    """Train them on ``ranks`` processes each; returns the exit code: 0 all have finished, 1 some have
    failed, 75 stopped after a save, 128+n ended at once by signal n."""
    failed: list[tuple[GridMember, str]] = []
    finished = 0
    with _stops_noted() as stopped:
        for position, member in enumerate(trainings, 1):
            if stopped():
                print("stopped; the same command goes on", flush=True)
                return STOPPED
            if seen_to := _seen_to(member, folder, beginning):
                print(f"{member.label}: {seen_to}", flush=True)
                finished += seen_to == "finished"
                continue
            print(f"training {position} of {len(trainings)}: {member.label}", flush=True)
            if missing := _missing_source(member, [other.run for other, _ in failed]):
                print(missing, file=sys.stderr, flush=True)
                code, words = FAILED, missing
            else:
                code, words = _train(member, ranks, beginning)
            if code == STOPPED or code >= 128:
                return code
            note_outcome(folder, member.run, code, words)
            if code == TRAINED:
                finished += 1
            else:
                failed.append((member, words))
    print(
        f"{finished} of {len(trainings)} trainings have finished: sokhan report {folder}",
        flush=True,
    )
    for member, words in failed:
        why = last_line(words).removeprefix("error: ")
        print(f"error: {member.label} failed: {why}", file=sys.stderr, flush=True)
    return FAILED if failed else TRAINED


def _train(member: GridMember, ranks: int, beginning: Beginning) -> tuple[int, str]:
    """Exit code and error of one training."""
    with tempfile.TemporaryDirectory(prefix="sokhan-", ignore_cleanup_errors=True) as words:
        try:
            code = train(
                [member.name],
                member.words,
                ranks=ranks,
                beginning=beginning,
                command=train_command(member, ranks),
                words=Path(words),
            )
        except (InputError, OSError) as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            return FAILED, f"error: {error}"
        said = read_statuses(Path(words), ranks).values()
    if code == TRAINED:
        return code, ""
    failed = errors(word for word in said if word.state in ("failed", "hung_peer"))
    return code, "\n".join(failed) or "error: a rank ended without a word, perhaps killed"


def _missing_source(member: GridMember, failed: Sequence[Path]) -> str:
    """Why a training cannot go on from the model of another one; empty: it can, or does not."""
    if member.source is None or (member.source not in failed and is_finished(member.source)):
        return ""
    return f"error: it goes on from {member.source}, which has not finished"


def _seen_to(member: GridMember, folder: Path, beginning: Beginning) -> str:
    """Why a training is passed over that another command has taken up meanwhile."""
    [status], _ = look([recorded(member)], folder)
    if status.state in IN_HAND or (status.state == "finished" and not beginning.overwrite):
        return " ".join(filter(None, [status.state, status.detail]))
    return ""


@contextmanager
def _stops_noted() -> Iterator[Callable[[], bool]]:
    """Whether a signal to stop has come, also one for which the training of that moment had no use:
    it was about to end anyway."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    seen: list[int] = []

    def stopped() -> bool:
        try:
            seen.extend(number for number in os.read(reading, 4096) if number in STOP_SIGNALS)
        except BlockingIOError:
            pass
        return bool(seen)

    # While a training runs its handlers stand before these; Python writes to the pipe in any case.
    before = {
        number: signal.signal(number, lambda number, frame: None)
        for number in STOP_SIGNALS
        if signal.getsignal(number) != signal.SIG_IGN
    }
    pipe_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield stopped
    finally:
        signal.set_wakeup_fd(pipe_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)
