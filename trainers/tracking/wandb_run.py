"""Weights & Biases as a view of a run directory.

A run directory has one W&B run for its whole life. Whenever training goes on after a stop or a crash,
that run is filled from metrics.jsonl and perf.jsonl, so it holds what they hold, each step once:
online what W&B has not got yet, offline all of it, in a new run that takes the older one's place.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

from configs.lifetime import signals_blocked
from configs.load import AnyRecipe, to_dict
from configs.rank_status import STOPPED
from trainers.files.line_file import METRICS, PERFORMANCE, read_lines

log = logging.getLogger("sokhan")

_NO_VALUES = ("kind", "step", "unit")
_LAST_UPLOADS = 300.0
"""Seconds that a finished run waits for W&B to take everything."""
_PAUSE = 10.0
"""The same for a run that stops to be resumed: a scheduler kills what does not leave soon."""


class NoWandb:
    """W&B switched off."""

    def metrics(self, line: dict[str, Any]) -> None:
        """Drop."""

    def performance(self, line: dict[str, Any]) -> None:
        """Drop."""

    def finish(self, summary: dict[str, Any]) -> None:
        """Nothing to do."""

    def pause(self) -> None:
        """Nothing to do."""

    def fail(self) -> None:
        """Nothing to do."""


class WandbRun:
    """The W&B run of a run directory. Its failures never end a training: one warning, then silence.

    W&B takes a step's numbers as one row, and rows in order of step only. So the lines of a step are
    gathered until a metrics line of a later step comes. A row that the run's end cuts short is not
    sent to W&B's server, which could not complete it when training goes on.
    """

    def __init__(self, recipe: AnyRecipe, folder: Path, data: dict[str, Any], run_id: str) -> None:
        settings = recipe.tracking
        self._folder, self._id = folder, run_id
        self._online = settings.wandb == "auto" and _has_key()
        self._lost = self._warned = self._ended = False
        self._rows: dict[int, dict[str, Any]] = {}
        self._next = 0
        """The lowest step that W&B still takes."""
        self._about: dict[str, Any] = {
            "mode": "online" if self._online else "offline",
            "dir": str(folder),
            "project": settings.project,
            "entity": settings.entity,
            "tags": [*settings.tags, *(["synthetic"] if data["synthetic"] else [])],
            "group": recipe.recipe,
            "name": folder.name,
            "config": {**to_dict(recipe), "corpus": data},
            "id": run_id,
            "resume": "allow" if self._online else None,
        }
        self._open()

    def metrics(self, line: dict[str, Any]) -> None:
        """One line of metrics.jsonl. What W&B has from before a crash comes again and is dropped."""
        self._gather(line["step"], line)
        self._send(line["step"])

    def performance(self, line: dict[str, Any]) -> None:
        """One line of perf.jsonl; a late one goes to the next row that is still open."""
        self._gather(max(line["step"], self._next), line)

    def finish(self, summary: dict[str, Any]) -> None:
        """All rows, the run's summary values, and the end."""

        def end() -> None:
            self._send()
            self._run.summary.update(summary)
            self._run.finish()

        self._end(end, _LAST_UPLOADS)

    def pause(self) -> None:
        """The end of this process's part, without a summary."""

        def end() -> None:
            if not self._online:  # a resumed offline run is made anew, with its last row complete
                self._send()
            self._run.mark_preempting()
            self._run.finish(exit_code=STOPPED)

        self._end(end, _PAUSE)

    def fail(self) -> None:
        """All rows, and the end of a run that failed."""

        def end() -> None:
            self._send()
            self._run.finish(exit_code=1)

        self._end(end, _PAUSE)

    def _open(self) -> None:
        """Start or continue the run and give it what the files hold and W&B has not got."""
        import wandb

        older = self._offline_runs()
        # wandb's helper process heeds SIGTERM and SIGINT all the same, but its own helpers do not.
        with signals_blocked():
            quiet = wandb.Settings(silent=True, console="off", reinit="create_new")
            self._run = wandb.init(**self._about, settings=quiet)
        self._lost, self._rows, self._next = False, {}, self._run.starting_step
        # perf.jsonl may repeat steps and be ahead of metrics.jsonl: the last line of a step counts,
        # and rows that metrics.jsonl has not come to stay open.
        for line in read_lines(self._folder / PERFORMANCE):
            self._gather(line["step"], line)
        for line in read_lines(self._folder / METRICS):
            self.metrics(line)
        if not self._lost:
            for path in older:  # synchronised later, it would take this one's place
                shutil.rmtree(path, ignore_errors=True)

    def _offline_runs(self) -> list[Path]:
        """The folders of this run that earlier processes left; W&B numbers those of one second."""
        folders = (self._folder / "wandb").glob("offline-run-*")
        return [path for path in folders if f"-{self._id}" in path.name]

    def _gather(self, step: int, line: dict[str, Any]) -> None:
        """Add a line to its step's row."""
        if step >= self._next and not self._lost:
            prefix = line.get("kind", "perf")
            values = {f"{prefix}/{k}": v for k, v in line.items() if k not in _NO_VALUES}
            self._rows.setdefault(step, {}).update(values)

    def _send(self, below: int | None = None) -> None:
        """Send the rows of the steps before ``below``, or all."""
        for step in sorted(s for s in self._rows if below is None or s < below):
            if not self._lost:
                try:
                    self._run.log(self._rows.pop(step), step=step)
                except Exception as error:  # its service may have died
                    self._lose(error)
                self._next = step + 1

    def _end(self, last: Callable[[], None], seconds: float) -> None:
        """Do the run's last calls, for ``seconds`` at most. If W&B's service has died (a scheduler's
        SIGTERM reaches it too), a new one is given everything first. What ended stays as it is."""
        if self._ended:
            return
        self._ended = True

        def work() -> None:
            for _ in range(2):
                try:
                    if self._lost:
                        self._open()
                    last()
                except Exception as error:
                    self._lose(error)
                if not self._lost:
                    return

        thread = Thread(target=work, name="last words to W&B", daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            log.warning("W&B has not taken everything within %.0f s; metrics.jsonl has all numbers", seconds)

    def _lose(self, error: Exception) -> None:
        """W&B takes no more: say so once."""
        import wandb

        self._lost, self._rows = True, {}
        if not self._warned:
            log.warning("W&B stopped taking numbers (%s); metrics.jsonl has them all", error)
        self._warned = True
        if isinstance(error, ConnectionError):
            # Have wandb forget its dead service: it would complain at exit, and no run could start.
            with contextlib.suppress(Exception):
                wandb.teardown()


def new_run_id() -> str:
    """An id for the W&B run of a new run directory; to be kept there and given to each resume."""
    return secrets.token_hex(5)


def open_wandb(recipe: AnyRecipe, folder: Path, data: dict[str, Any], run_id: str) -> WandbRun | NoWandb:
    """The W&B run that the recipe asks for, filled with what metrics.jsonl and perf.jsonl in
    ``folder`` hold: cut metrics.jsonl back to where training goes on before."""
    if recipe.tracking.wandb == "off":
        return NoWandb()
    try:
        return WandbRun(recipe, folder, data, run_id)
    except Exception as error:  # no W&B is no reason not to train
        log.warning("W&B could not start (%s); metrics.jsonl has all numbers", error)
        return NoWandb()


def _has_key() -> bool:
    if os.environ.get("WANDB_MODE") == "offline":
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path.home() / ".netrc"
    return netrc.is_file() and "api.wandb.ai" in netrc.read_text(encoding="utf-8", errors="replace")
