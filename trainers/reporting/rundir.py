"""A finished run directory, read and checked: everything a report says comes from here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from configs.errors import InputError
from trainers.metrics import SplitMetrics

FILES = (
    "config.yaml",
    "command.txt",
    "environment.json",
    "data.json",
    "metrics.jsonl",
    "perf.jsonl",
    "eval/metrics.json",
    "eval/parameters.json",
)
"""What a finished run holds besides summary.json, which is written last."""

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
    """In the order in which they were evaluated."""
    starts: tuple[Line, ...]
    """When it was started, from which checkpoint, and which settings were other ones then."""
    steps: tuple[Line, ...]
    """Lines of metrics.jsonl: one logged training step each."""
    epochs: tuple[Line, ...]
    """One training epoch each."""
    validations: tuple[Line, ...]
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
        """emotion or nli."""
        return str(self.config["task"])

    @property
    def seed(self) -> int:
        """The seed that decided everything random."""
        return int(self.config["seed"])

    @property
    def synthetic(self) -> bool:
        """Whether the corpus was made up by our own code."""
        return bool(self.data["synthetic"])

    @property
    def regime(self) -> str:
        """What trains, in words: the fine-tuning regime, or HuBERT's head."""
        model = self.config["model"]
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


def read_run(path: Path) -> Run:
    """Read a run directory. Raises InputError naming what is missing or damaged."""
    if not path.is_dir():
        raise InputError(f"{path}: no such run directory; a run lies in runs/<recipe>/<name>")
    if not (path / "config.yaml").is_file():
        raise InputError(f"{path}: not a run directory (no config.yaml)")
    summary = _json(path / "summary.json") if (path / "summary.json").is_file() else {}
    if not summary.get("finished"):
        why = "summary.json does not say finished" if summary else "no summary.json"
        raise InputError(f"{path}: the run has not finished ({why}); run its command again")
    missing = [name for name in FILES if not (path / name).is_file()]
    if missing:
        raise InputError(f"{path}: finished, but without {', '.join(missing)}; train it again")
    lines = _lines(path / "metrics.jsonl")
    performance = _lines(path / "perf.jsonl")
    starts = _json(path / "run.json")["starts"] if (path / "run.json").is_file() else []
    evaluation = _json(path / "eval/metrics.json")

    def lines_of(kind: str) -> tuple[Line, ...]:
        return tuple(line for line in lines if line.get("kind") == kind)

    def build() -> Run:
        return Run(
            path=path,
            config=_mapping(yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))),
            command=(path / "command.txt").read_text(encoding="utf-8").strip(),
            environment=_json(path / "environment.json"),
            data=_json(path / "data.json"),
            parameters=_json(path / "eval/parameters.json"),
            summary=summary,
            best=dict(evaluation["best"]),
            labels=tuple(evaluation["labels"]),
            splits={n: SplitMetrics.from_dict(m) for n, m in evaluation["splits"].items()},
            starts=tuple(starts),
            steps=lines_of("train"),
            epochs=lines_of("train_epoch"),
            validations=lines_of("validation"),
            perf=tuple(line for line in performance if "rate" in line),
            saves=tuple(line for line in performance if line.get("kind") == "save"),
        )

    run = _or_damaged(path, build)
    _or_damaged(path, lambda: _check(run))
    return run


def _check(run: Run) -> None:
    """Touch every value that a report cannot do without."""
    for value in (run.recipe, run.task, run.seed, run.synthetic, run.regime):
        str(value)
    for name in ("corpus", "split", "counts", "speaker_overlap"):
        str(run.data[name])
    for name in ("trainable", "frozen", "total"):
        int(run.parameters[name])
    for name in ("epoch", "step", "value"):
        float(run.best[name])
    str(run.best["metric"])
    for name in ("seconds", "steps", "epochs"):
        float(run.summary[name])
    for line in (*run.steps, *run.validations):
        int(line["step"])
        float(line["loss"])
    for line in run.perf:
        float(line["rate"])
        str(line["unit"])
    if not run.splits:
        raise ValueError("no split was evaluated")


def _or_damaged(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{path}: damaged, a file lacks {error}; train it again") from None
    except (ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: damaged ({reason}); train it again") from None


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected a mapping, found {type(value).__name__}")
    return value


def _json(path: Path) -> dict[str, Any]:
    try:
        return _mapping(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged ({error}); train the run again") from None


def _lines(path: Path) -> list[Line]:
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            lines.append(_mapping(json.loads(text)))
        except ValueError as error:
            raise InputError(f"{path}: line {number} is damaged ({error})") from None
    return lines
