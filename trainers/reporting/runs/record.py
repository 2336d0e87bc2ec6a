"""What a finished run directory says, as one record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.metrics import SplitMetrics, TokenMetrics

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
        """What weights it began with; a model of another run is named by that run's recipe."""
        pretrained = str(self.config["model"].get("pretrained") or "")
        folder = Path(pretrained)
        if folder.name == "model" and (folder.parent / "config.yaml").is_file():
            return f"a run of {folder.parent.parent.name}"
        return pretrained or "fresh weights"

    @property
    def synthetic(self) -> bool:
        """Whether the corpus was made up by our own code."""
        return bool(self.data["synthetic"])

    @property
    def regime(self) -> str:
        """What trains, in words: the fine-tuning regime, or HuBERT's head."""
        model = self.config["model"]
        if self.task == "mlm":
            words = "whole words" if model.get("whole_words") else "tokens"
            return f"masked language model, {float(model['mask_share']):.0%} of {words} predicted"
        if self.task != "nli":
            frozen = ", convolutions frozen" if model.get("freeze_conv") else ""
            return f"{model.get('head', '?')} head{frozen}, {model.get('padding', '?')} padding"
        regime = model["regime"]
        share = regime.get("heads_share")
        detail = {
            "freeze_first": f"first {regime.get('layers')} layers frozen",
            "embeddings_last": "embeddings and last layer train",
            "intermediate": f"classifier on layer {regime.get('layers')}",
            "heads_removed": f"{share:.0%} of attention heads removed"
            if share
            else "heads removed",
        }
        return detail.get(regime["kind"], "full fine-tuning")
