"""Where a run's numbers go: metrics.jsonl (the truth), perf.jsonl, and W&B as a view of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from trainers.files.line_file import METRICS, PERFORMANCE, LineFile
from trainers.tracking.wandb_run import NoWandb, WandbRun


class Tracker(Protocol):
    """Takes a run's numbers. Ranks other than 0 get one that drops them."""

    def metrics(self, line: dict[str, Any]) -> None:
        """What must be the same when the run is repeated. Steps never decrease."""

    def performance(self, line: dict[str, Any]) -> None:
        """Times, rates and memory; steps may come late."""

    def sync(self) -> int:
        """Have all lines on the disk; returns the length of metrics.jsonl in bytes."""

    def finish(self, summary: dict[str, Any]) -> None:
        """The last call of a finished run."""

    def pause(self) -> None:
        """The last call of a run that stops to be resumed."""

    def fail(self) -> None:
        """The last call of a run that cannot go on."""


class NoTracker:
    """For ranks that write nothing."""

    def metrics(self, line: dict[str, Any]) -> None:
        """Drop."""

    def performance(self, line: dict[str, Any]) -> None:
        """Drop."""

    def sync(self) -> int:
        """Nothing to do."""
        return 0

    def finish(self, summary: dict[str, Any]) -> None:
        """Drop."""

    def pause(self) -> None:
        """Nothing to do."""

    def fail(self) -> None:
        """Nothing to do."""


class FileTracker:
    """Appends lines to the run directory and passes them to W&B. An OSError (a full disk) names the
    file in its ``filename`` and leaves no half-written line."""

    def __init__(self, folder: Path, wandb_run: WandbRun | NoWandb) -> None:
        self._metrics = LineFile(folder / METRICS)
        self._performance = LineFile(folder / PERFORMANCE)
        self._wandb = wandb_run

    def metrics(self, line: dict[str, Any]) -> None:
        """One line of metrics.jsonl."""
        self._metrics.append(line)
        self._wandb.metrics(line)

    def performance(self, line: dict[str, Any]) -> None:
        """One line of perf.jsonl."""
        self._performance.append(line)
        self._wandb.performance(line)

    def sync(self) -> int:
        """Have all lines on the disk; returns the length of metrics.jsonl in bytes."""
        self._performance.sync()
        return self._metrics.sync()

    def finish(self, summary: dict[str, Any]) -> None:
        """Close the files and W&B's run, which gets its summary."""
        self._close()
        self._wandb.finish(summary)

    def pause(self) -> None:
        """Close the files; W&B's run ends quickly, without a summary."""
        self._close()
        self._wandb.pause()

    def fail(self) -> None:
        """Close the files; W&B's run is marked as failed."""
        self._close()
        self._wandb.fail()

    def _close(self) -> None:
        self._metrics.close()
        self._performance.close()
