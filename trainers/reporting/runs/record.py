"""What a finished run directory says, as one record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.metrics import SplitMetrics, TokenMetrics
from trainers.models.regime_words import regime_words

Line = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One finished run."""

    path: Path
    config: dict[str, Any]
    command: str
    environment: dict[str, Any]
    data: dict[str, Any]
    parameters: dict[str, Any]
    summary: dict[str, Any]
    best: dict[str, Any]
    """epoch, step, metric, value of the weights that were evaluated."""
    labels: tuple[str, ...]
    splits: dict[str, SplitMetrics]
    """In the order in which they were evaluated; empty for a language model."""
    tokens: dict[str, TokenMetrics]
    """The same of a language model."""
    subsets: dict[str, dict[str, dict[str, float]]]
    """Part -> group=value -> items, accuracy, uar, macro_f1."""
    analyses: dict[str, dict[str, Any]]
    """Those of ANALYSES that were made."""
    starts: tuple[Line, ...]
    """When it was started, from which checkpoint, and which settings were other ones then."""
    steps: tuple[Line, ...]
    """Lines of metrics.jsonl: one logged training step each."""
    epochs: tuple[Line, ...]
    """One training epoch each."""
    validations: tuple[Line, ...]
    tests: tuple[Line, ...]
    """The test part after each epoch, where the recipe asks for it."""
    perf: tuple[Line, ...]
    """Lines of perf.jsonl: times and rates of the same steps."""
    saves: tuple[Line, ...]
    """Lines of perf.jsonl: one saved checkpoint each."""

    @property
    def name(self) -> str:
        """recipe/name, as the run directory lies."""
        return f"{self.recipe}/{self.path.name}"

    @property
    def recipe(self) -> str:
        """Name of the recipe."""
        return str(self.config["recipe"])

    @property
    def task(self) -> str:
        """emotion, nli or mlm."""
        return str(self.config["task"])

    @property
    def seed(self) -> int:
        """The seed that decided everything random."""
        return int(self.config["seed"])

    @property
    def start(self) -> str:
        """What weights it began with; a model of another run is named by that run's recipe.

        The form of the path decides, <recipe>/<name>/model: the page is read where that run may not be.
        """
        pretrained = str(self.config["model"].get("pretrained") or "")
        parts = Path(pretrained).parts
        if len(parts) > 2 and parts[-1] == "model":
            return f"a run of {parts[-3]}"
        return pretrained or "fresh weights"

    @property
    def continued(self) -> bool:
        """Whether it goes on from the weights of another run."""
        return self.start.startswith("a run of ")

    @property
    def synthetic(self) -> bool:
        """Whether the corpus was made up by our own code."""
        return bool(self.data["synthetic"])

    @property
    def regime(self) -> str:
        """What trains, in words: the fine-tuning regime, or what of HuBERT trains."""
        return regime_words(self.task, self.config["model"])
