"""Where a run's numbers go: metrics.jsonl (the truth), perf.jsonl, and Weights & Biases as a view."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any, Protocol

from configs.load import to_dict
from configs.schema import EmotionRecipe, NliRecipe

log = logging.getLogger("sokhan")


class Tracker(Protocol):
    """Takes a run's numbers. Ranks other than 0 get one that drops them."""

    def metrics(self, line: dict[str, Any]) -> None:
        """What must be the same when the run is repeated."""

    def performance(self, line: dict[str, Any]) -> None:
        """Times, rates and memory."""

    def finish(self, summary: dict[str, Any]) -> None:
        """The last call."""


class NoTracker:
    """For ranks that write nothing."""

    def metrics(self, line: dict[str, Any]) -> None:
        """Drop."""

    def performance(self, line: dict[str, Any]) -> None:
        """Drop."""

    def finish(self, summary: dict[str, Any]) -> None:
        """Drop."""


class FileTracker:
    """Appends lines to the run directory and passes them to W&B."""

    def __init__(self, folder: Path, wandb_run: WandbRun | NoWandb) -> None:
        self._metrics = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        self._performance = (folder / "perf.jsonl").open("a", encoding="utf-8")
        self._wandb = wandb_run

    def metrics(self, line: dict[str, Any]) -> None:
        """One line of metrics.jsonl."""
        self._metrics.write(json.dumps(line) + "\n")
        self._metrics.flush()
        prefix = line["kind"]
        self._wandb.log(
            {f"{prefix}/{k}": v for k, v in line.items() if k not in ("kind", "step")}, line["step"]
        )

    def performance(self, line: dict[str, Any]) -> None:
        """One line of perf.jsonl."""
        self._performance.write(json.dumps(line) + "\n")
        self._performance.flush()
        self._wandb.log(
            {f"perf/{k}": v for k, v in line.items() if k not in ("step", "unit")}, line["step"]
        )

    def finish(self, summary: dict[str, Any]) -> None:
        """Close the files and W&B's run."""
        self._metrics.close()
        self._performance.close()
        self._wandb.finish(summary)


class NoWandb:
    """W&B switched off."""

    def log(self, values: dict[str, Any], step: int) -> None:
        """Drop."""

    def finish(self, summary: dict[str, Any]) -> None:
        """Drop."""


class WandbRun:
    """A W&B run below ``folder``. Its failures never end a training: one warning, then silence."""

    def __init__(
        self, recipe: EmotionRecipe | NliRecipe, folder: Path, data: dict[str, Any]
    ) -> None:
        import wandb

        settings = recipe.tracking
        online = settings.wandb == "auto" and _has_key()
        self._broken = False
        self._run = wandb.init(
            mode="online" if online else "offline",
            dir=str(folder),
            project=settings.project,
            entity=settings.entity,
            tags=[*settings.tags, *(["synthetic"] if data["synthetic"] else [])],
            group=recipe.recipe,
            name=folder.name,
            config={**to_dict(recipe), "corpus": data},
            settings=wandb.Settings(silent=True, console="off"),
        )

    def log(self, values: dict[str, Any], step: int) -> None:
        """One step's numbers."""
        self._try(lambda: self._run.log(values, step=step))

    def finish(self, summary: dict[str, Any]) -> None:
        """The run's summary values, and the end."""
        self._try(lambda: self._run.summary.update(summary))
        self._try(self._run.finish)

    def _try(self, action: Any) -> None:
        if self._broken:
            return
        try:
            action()
        except Exception as error:  # its service may have died; metrics.jsonl has all numbers
            self._broken = True
            log.warning("W&B stopped taking numbers (%s); metrics.jsonl has them all", error)


def open_wandb(
    recipe: EmotionRecipe | NliRecipe, folder: Path, data: dict[str, Any]
) -> WandbRun | NoWandb:
    """The W&B run that the recipe asks for."""
    if recipe.tracking.wandb == "off":
        return NoWandb()
    try:
        return WandbRun(recipe, folder, data)
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
