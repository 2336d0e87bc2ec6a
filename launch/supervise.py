"""Run the ranks of one start to their end: pass a wish to stop on, tell who failed, leave nobody.

DeepSpeed's launcher can report success while ranks have died, leaves them behind when it is killed,
and gives them 30 seconds when it is asked to end. So the ranks say themselves how they end
(configs/rank_status.py), signals go to them directly, and whatever they leave is ended here.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from configs.lifetime import adopting_orphans, end_with_parent
from configs.rank_status import (
    FAILED,
    LAUNCHED_BY,
    STATUS,
    STOPPED,
    TRAINED,
    WRONG_INPUT,
    RankStatus,
    read_statuses,
)
from launch.last_words import errors

_GRACE = 10.0
"""Seconds that the other ranks, and helpers of ended ranks, have to end by themselves."""
_LEAVING = 60.0
"""Seconds between the first rank that leaves in peace and the last one."""
_STARTERS = 3.0
"""Seconds that DeepSpeed's launcher has to end when all others have: it knows how ranks have ended."""
_LOOK = 0.2
_AT_ONCE = (signal.SIGINT, signal.SIGTERM)
"""Signals of which a second one ends everything at once."""
ONE_CAUSE = 0.5
"""Seconds in which further signals are no second wish: `timeout` signals its command and then the group
that it is in, and a wrapper passes on the Ctrl-C that the terminal has sent to both."""


def run_ranks(
    command: Sequence[str],
    environment: Mapping[str, str],
    ranks: int,
    words: Path | None = None,
    timeout: float = float("inf"),
) -> int:
    """Start the ranks, see them end, and print, last of all, the error of the one that failed.

    ``words`` is a folder that keeps what the ranks say of their end; None: it is not kept. Ranks that
    are all suspended for ``timeout`` seconds hang; of other ways to hang the ranks tell themselves.
    Exit codes: 0, 1, 2 and 75 as in trainers/__main__.py; 128+n when signal n has ended everything
    at once. When this returns, no process that was started here is left.
    """
    with _signals_noted() as signals, _status_folder(words) as folder, adopting_orphans():
        extra = {STATUS: str(folder), **({LAUNCHED_BY: str(os.getpid())} if ranks > 1 else {})}
        others = _descendants()
        # Without this command ranks save and leave, which DeepSpeed's launcher would cut short.
        number = signal.SIGTERM if ranks == 1 else signal.SIGKILL
        process = subprocess.Popen(
            command,
            env={**environment, **extra},
            start_new_session=True,
            preexec_fn=functools.partial(end_with_parent, os.getpid(), number),
        )
        watched = _Ranks(process, folder, ranks, others)
        patience = starters = 0.0
        try:
            ended_by = _wait(watched, signals, timeout)
            watched.look()  # who has ended meanwhile has not been killed by what follows
            patience = 0.0 if ended_by or watched.running() else _GRACE
            starters = 0.0 if ended_by or ranks == 1 else _STARTERS
        finally:
            _end_all(process, others, patience, starters)
        if ended_by:
            _say("stopped at once: what was not saved is lost")
            return 128 + ended_by
        code, text = _outcome(watched)
        if text:
            _say(text)
        return code


class _Ranks:
    """What the ranks have said, and which of them live."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        folder: Path,
        size: int,
        others: set[psutil.Process],
    ) -> None:
        self.process, self.size = process, size
        self.statuses: Mapping[int, RankStatus] = {}
        self.vanished: list[int] = []
        """Ended without a word, before any rank had failed."""
        self.left: list[int] = []
        """Ended, in whatever way."""
        self.suspended: list[int] = []
        """Living, but stopped by a signal."""
        self._folder, self._others = folder, others
        self._processes: dict[int, psutil.Process | None] = {}

    def look(self) -> bool:
        """Read and see anew; returns whether anything still runs."""
        _bury_orphans(self.process, self._others)  # DeepSpeed's launcher waits until they are gone
        ended = self.process.poll() is not None
        # First who lives, then what they have said: their last act is to say it.
        states = {rank: _state(process) for rank, process in self._processes.items()}
        self.left = [rank for rank, state in states.items() if state == psutil.STATUS_ZOMBIE]
        self.suspended = [rank for rank, state in states.items() if state == psutil.STATUS_STOPPED]
        self.statuses = read_statuses(self._folder, self.size)
        for rank, status in self.statuses.items():
            if rank not in self._processes:
                self._processes[rank] = _find(status.pid)
        if not self.in_state("failed", "hung_peer"):
            silent = [rank for rank in self.left if self.statuses[rank].state == "started"]
            self.vanished = silent
        return not ended or len(self.left) < len(self._processes)

    def in_state(self, *states: str) -> list[RankStatus]:
        """The words of the ranks that are in one of these states, in rank order."""
        return [status for status in self.statuses.values() if status.state in states]

    def all_started(self) -> bool:
        """Whether a signal would reach every rank, and none unprepared."""
        return len(self.statuses) == self.size

    def all_suspended(self) -> bool:
        """Whether those that live would wait for ever, with nobody to notice."""
        return bool(self.suspended) and len(self.suspended) + len(self.left) == len(self._processes)

    def running(self) -> bool:
        """Whether the launcher or a rank is left, as of the last look."""
        return self.process.returncode is None or len(self.left) < len(self._processes)

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the ranks that live: they save and leave together."""
        for rank, process in self._processes.items():
            if rank not in self.left and process is not None:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGTERM)


def _wait(ranks: _Ranks, signals: list[int], timeout: float) -> int | None:
    """Return when the ranks have ended, or have to be ended; then with the signal that says so."""
    seen, asked, warned, deadline = 0, False, False, float("inf")
    suspended = 0.0  # counted, not taken from a clock, which runs on while this process is suspended
    while ranks.look() and time.monotonic() < deadline and suspended < timeout:
        suspended = suspended + _LOOK if ranks.all_suspended() else 0.0
        if new := signals[seen:]:
            final = [number for number in new if number in _AT_ONCE]
            if (final and warned) or not ranks.all_started():  # not started: nothing can be lost
                return (final or new)[-1]
            _say("stopping after a save; Ctrl-C again ends at once")
            ranks.ask_to_stop()
            asked = True
            time.sleep(ONE_CAUSE)
            seen = len(signals)
            warned = any(number in _AT_ONCE for number in signals[:seen])
        if ranks.size > 1 and ranks.process.returncode is not None and not asked:
            if not ranks.all_started():
                return None
            ranks.ask_to_stop()  # as the kernel has done, for those that were up already
            asked = True
        if ranks.vanished or ranks.in_state("failed", "hung_peer", "lost_peer"):
            deadline = min(deadline, time.monotonic() + _GRACE)
        elif ranks.left:
            deadline = min(deadline, time.monotonic() + _LEAVING)
        time.sleep(_LOOK)
    return None


def _outcome(ranks: _Ranks) -> tuple[int, str]:
    """Exit code, and the error of the rank that really failed."""
    failed = ranks.in_state("failed", "hung_peer")
    if words := errors(failed):
        words += _without_a_word(ranks, ranks.vanished)
        wrong_input = failed[0].code == WRONG_INPUT
        return WRONG_INPUT if wrong_input else FAILED, "\n".join(words)
    missing = [rank for rank in range(ranks.size) if rank not in ranks.statuses]
    if words := _without_a_word(ranks, [*ranks.vanished, *missing]):
        return FAILED, "\n".join(words)
    if lost := ranks.in_state("lost_peer"):
        return (
            FAILED,
            f"{lost[0].text}\nerror: rank {lost[0].rank} lost its connection to the others",
        )
    if stuck := ranks.in_state("started"):
        names = ", ".join(f"{status.rank} (process {status.pid})" for status in stuck)
        if ranks.suspended:
            return FAILED, f"error: rank {names} was suspended (SIGSTOP) for too long and was killed"
        return FAILED, f"error: rank {names} did not end with the others and was killed"
    if not ranks.in_state("saved"):
        return TRAINED, ""
    code = ranks.process.returncode
    killed = ranks.size > 1 and code is not None and code < 0
    note = f"DeepSpeed's launcher was killed (signal {-code}); the ranks have saved" if killed else ""
    return STOPPED, note


def _without_a_word(ranks: _Ranks, gone: Sequence[int]) -> list[str]:
    """One line for each rank that has ended without telling why."""
    code = ranks.process.returncode or 0
    # DeepSpeed's launcher exits with -n, cut to a byte, for the first rank that signal n has ended.
    number = 256 - code if code > 192 else -code if code < 0 and ranks.size == 1 else 0
    lines = []
    for rank in gone:
        status = ranks.statuses.get(rank)
        name = f"error: rank {rank} (process {status.pid})" if status else f"error: rank {rank}"
        if number and len(gone) == 1:
            hint = ", perhaps for lack of memory" if number == signal.SIGKILL else ""
            lines.append(f"{name} was killed (signal {number}){hint}")
        elif status:
            lines.append(f"{name} ended without a word, perhaps killed or out of memory")
        else:
            lines.append(f"{name} did not start")
    return lines


def _end_all(
    process: subprocess.Popen[bytes], others: set[psutil.Process], patience: float, starters: float
) -> None:
    """Wait for all descendants but ``others`` to end, for ``patience`` seconds, then kill them;
    ``process`` has ``starters`` seconds more."""
    now = time.monotonic()
    kill_at, give_up_at = now + patience, now + patience + starters + _GRACE
    while time.monotonic() < give_up_at:
        _bury_orphans(process, others)
        left = _descendants() - others
        if not left:
            return
        for one in left:
            if time.monotonic() >= kill_at + (starters if one.pid == process.pid else 0.0):
                with contextlib.suppress(psutil.Error):
                    one.kill()
        time.sleep(_LOOK / 4)
    _say(f"error: cannot end process(es) {sorted(one.pid for one in left)}")


def _bury_orphans(process: subprocess.Popen[bytes], others: set[psutil.Process]) -> None:
    """Take the ends of dead adopted processes: nobody else does."""
    foreign = {one.pid for one in others}
    while True:
        process.poll()  # first: its exit code is wanted
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if dead is None or dead.si_pid in foreign:
            return
        if dead.si_pid != process.pid:
            os.waitpid(dead.si_pid, 0)


def _descendants() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _find(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _state(process: psutil.Process | None) -> str:
    """As psutil names it; one that is gone has ended like a zombie."""
    try:
        return process.status() if process is not None else psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return psutil.STATUS_ZOMBIE


@contextmanager
def _status_folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="sokhan-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Note signals instead of following them. Those that this process ignores (nohup) stay ignored."""
    noted: list[int] = []
    before = {}
    for number in (*_AT_ONCE, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, lambda number, frame: noted.append(number))
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(words: str) -> None:
    """Write a line to stderr, whose reader may be gone: then nothing is to be told."""
    data = words.encode() + b"\n"
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(2, data) :]
