"""Saving without stopping: ranks copy their share on the device, write it in the background, and
learn through the control word of the training loop when all have.

A save goes through three phases on all ranks alike: every rank's thread writes its share; when the
word says that all have, the shares' contents go to rank 0, whose thread completes the checkpoint and
deletes what is kept no longer; when the word says so, the save is done. The threads call no
collective. At most one save is under way.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import torch

from configs.errors import InputError
from configs.schema import CheckpointConfig
from trainers.checkpoints.checkpoint import (
    CHECKPOINTS,
    SET_ASIDE,
    Checkpoint,
    Damaged,
    Share,
    commit,
    list_checkpoints,
    remove,
    remove_checkpoint,
    remove_optimizer,
    step_of,
    write_share,
    writing,
)
from trainers.checkpoints.sharding import Piece
from trainers.ranks.world import World

log = logging.getLogger("sokhan")

_LAST_WRITES = 5.0
"""Seconds that a save under way has to end when training ends by an error; the next start sweeps."""


@dataclass(frozen=True)
class Flags:
    """What a rank tells the others of its save, to be summed over ranks."""

    written: float = 0.0
    """Its share is on the disk."""
    failed: float = 0.0
    committed: float = 0.0
    """Rank 0 only: the checkpoint is complete."""


@dataclass(frozen=True)
class Saved:
    """What a finished save cost."""

    step: int
    tag: str
    stall: float
    """Seconds for which training stood still."""
    seconds: float
    """From its start until the checkpoint was complete."""
    bytes: int
    """Of this rank's share."""


class Saver:
    """Writes the checkpoints of one run. All ranks make the same calls in the same order."""

    def __init__(self, run: Path, world: World, config: CheckpointConfig, attempt: str) -> None:
        """``attempt`` is new at each start of the run, so that a process of an earlier start that
        has not quite died writes to a folder of its own."""
        self.folder = run / CHECKPOINTS
        self.saved: list[Saved] = []
        """Saves that were done since the list was emptied."""
        self._world, self._config, self._attempt = world, config, attempt
        self._phase: Literal["idle", "writing", "committing"] = "idle"
        self._task: _Background | None = None
        self._staging = self._final = self.folder
        self._facts: dict[str, Any] = {}
        self._cost = Saved(0, "", 0.0, 0.0, 0)
        self._last = self._began = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether a checkpoint should be made after ``step``, by the number of steps."""
        every = self._config.every_steps
        return every is not None and step % every == 0

    def late(self) -> bool:
        """Whether the last checkpoint is too old; ranks' clocks differ, so only rank 0 tells."""
        minutes = self._config.every_minutes
        too_old = minutes is not None and time.monotonic() - self._last > 60 * minutes
        return self._world.main and too_old and self._phase == "idle"

    def start(self, tag: str, step: int, pieces: list[Piece], facts: dict[str, Any], began: float) -> None:
        """Copy ``pieces`` and have them written; waits only for a save that is still under way.
        ``began`` (of ``time.monotonic``) is when training stood still for it."""
        self.wait()
        self._staging = self.folder / f".saving-{tag}-{self._attempt}"
        self._final = self.folder / tag
        self._facts, self._began = facts, began
        copies = _copied(pieces)
        rank, device, staging = self._world.rank, self._world.device, self._staging
        ready = _mark_of_now(device)

        def write() -> Share:
            with writing(staging):
                staging.mkdir(parents=True, exist_ok=True)
            return write_share(staging, rank, _to_host(copies, ready, device))

        self._task, self._phase = _Background(write), "writing"
        size = sum(piece.tensor.numel() * piece.tensor.element_size() for piece in pieces)
        self._cost = Saved(step, tag, time.monotonic() - began, 0.0, size)
        self._last = time.monotonic()

    def flags(self) -> Flags:
        """What to put into the next control word."""
        if self._task is None or self._task.running:
            return Flags()
        return Flags(
            written=float(self._phase == "writing" and self._task.problem is None),
            failed=float(self._task.problem is not None),
            committed=float(self._phase == "committing" and self._task.problem is None),
        )

    def advance(self, sums: Flags) -> None:
        """Go on to the next phase if the ranks' flags say so. Raises InputError on all ranks if a
        share could not be written."""
        if sums.failed:
            self._fail()
        elif self._phase == "writing" and sums.written == self._world.size:
            self._commit()
        elif self._phase == "committing" and sums.committed:
            self._finish()

    def wait(self) -> None:
        """Finish the save that is under way, if there is one."""
        while self._phase != "idle":
            if self._task is not None:
                self._task.join()
            flags = self.flags()
            sums = self._world.sum([flags.written, flags.failed, flags.committed])
            self.advance(Flags(*sums))

    def _commit(self) -> None:
        """All shares are written; rank 0 learns what is in them and completes the checkpoint."""
        began = time.monotonic()
        assert self._task is not None
        shares = self._world.gather(self._task.result)
        self._phase, self._task = "committing", None
        if self._world.main:
            staging, final, facts = self._staging, self._final, self._facts

            def complete() -> None:
                commit(staging, final, shares, facts)
                with _only_warning("older checkpoints cannot be deleted"):
                    self.prune(final.name)

            self._task = _Background(complete)
        self._cost = replace(self._cost, stall=self._cost.stall + time.monotonic() - began)

    def _finish(self) -> None:
        self._phase, self._task = "idle", None
        self.saved.append(replace(self._cost, seconds=time.monotonic() - self._began))

    def _fail(self) -> None:
        """Every rank ends with the same line, and nothing half-written stays."""
        if self._task is not None:
            self._task.join()
        problem = self._task.problem if self._task is not None else None
        problems = self._world.gather(problem)
        if self._world.main:
            shutil.rmtree(self._staging, ignore_errors=True)
        self._phase, self._task = "idle", None
        raise next(problem for problem in problems if problem is not None)

    def prune(self, newest: str) -> None:
        """Delete what is kept no longer, now that ``newest`` is safe. For rank 0 only."""
        tags = [path.name for path in list_checkpoints(self.folder)]
        kept = newest_steps(tags, newest, self._config.keep)
        bests = {best for tag in kept if (best := _best_of(self.folder / tag))}
        for tag in tags:
            path = self.folder / tag
            if tag not in kept and tag not in bests:
                remove_checkpoint(path)
            elif tag != newest and self._config.optimizer == "newest":
                _without_optimizer(path)
        for path in self.folder.glob(f"{SET_ASIDE}*"):
            remove(path)

    def keep_finished(self, best: str) -> None:
        """What stays of a finished run: the newest and the ``best``, without the optimizer's state
        unless that is wanted."""
        if not self._world.main:
            return
        tags = [path.name for path in list_checkpoints(self.folder)]
        kept = newest_steps(tags, tags[0], self._config.keep)
        with _only_warning("older checkpoints cannot be deleted"):
            for tag in tags:
                if tag not in kept and tag != best:
                    remove_checkpoint(self.folder / tag)
                elif self._config.optimizer != "always":
                    _without_optimizer(self.folder / tag)

    def abandon(self) -> None:
        """Leave nothing half-written behind when training ends by an error."""
        if self._phase == "idle":
            return
        if self._task is not None:
            # Deleting beside the thread could take files of what it has just given its name.
            self._task.join(_LAST_WRITES)
            if self._task.running:
                return
        if self._world.main:
            shutil.rmtree(self._staging, ignore_errors=True)


def newest_steps(tags: list[str], newest: str, keep: int) -> list[str]:
    """Of tags with the newest first, those of the newest ``keep`` steps up to ``newest``: before and
    after a validation a step has the same weights, so they count as one."""
    after = tags[: tags.index(newest)]
    steps = list(dict.fromkeys(step_of(tag) for tag in tags[len(after) :]))[:keep]
    return [*after, *(tag for tag in tags[len(after) :] if step_of(tag) in steps)]


@contextlib.contextmanager
def _only_warning(what: str) -> Iterator[None]:
    """Tidying up that fails is no reason to end a training whose new checkpoint is safe."""
    try:
        yield
    except (OSError, InputError) as error:
        log.warning("%s: %s", what, error)


def _best_of(folder: Path) -> str | None:
    """Tag of the best weights that a checkpoint goes with."""
    try:
        best = Checkpoint(folder).facts["best"]
    except InputError:  # never of use again, so nothing is kept for it
        return None
    return str(best["tag"]) if best else None


def _without_optimizer(folder: Path) -> None:
    """A damaged checkpoint stays as it is: that is no reason not to train."""
    with contextlib.suppress(Damaged):
        remove_optimizer(folder)


def _copied(pieces: list[Piece]) -> list[Piece]:
    """On the device; where it has no room, in main memory, for which training stands still longer."""
    try:
        return [replace(piece, tensor=piece.tensor.clone()) for piece in pieces]
    except torch.OutOfMemoryError:
        return [replace(piece, tensor=piece.tensor.to("cpu", copy=True)) for piece in pieces]


def _mark_of_now(device: torch.device) -> torch.cuda.Event | None:
    """An event after all work that the GPU has been given so far."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record()
    return event


def _to_host(pieces: list[Piece], ready: torch.cuda.Event | None, device: torch.device) -> list[Piece]:
    """Copy to main memory beside the training, giving the device's memory back piece by piece."""
    if ready is None:
        return pieces
    copied = []
    with torch.cuda.device(device), torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda.current_stream().wait_event(ready)
        while pieces:
            piece = pieces.pop(0)
            copied.append(replace(piece, tensor=piece.tensor.cpu()))
    return copied


class _Background:
    """A function that runs in a thread; its result or its problem is there when it has ended."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.result: Any = None
        self.problem: Exception | None = None
        self._function = function
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def join(self, seconds: float | None = None) -> None:
        """Wait for its end, for ``seconds`` at most."""
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            self.result = self._function()
        except Exception as problem:  # told to all ranks in the main thread
            self.problem = problem
