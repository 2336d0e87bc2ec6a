"""A finished run directory, read and checked: everything a report says comes from here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from configs.errors import InputError
from trainers.metrics import SplitMetrics, TokenMetrics
from trainers.reporting.runs.record import Line, Run

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

ANALYSES = {
    "pruning": ("heads", "score_on", "score_items", "round_share", "importance", "whole", "points"),
    "probes": ("weights", "features", "layers", "majority"),
    "noise": ("clean", "noised", "changed"),
    "layer_weights": ("weights",),
}
"""What a run may have measured on its model, eval/<name>.json, and what must be in it."""

_WHERE = "a run lies in runs/<recipe>/<name>, a sweep in runs/sweeps/<name>"


def read_run(path: Path) -> Run:
    """Read a run directory. Raises InputError naming what is missing or damaged."""
    if not path.is_dir():
        raise InputError(f"{path}: no such run directory; {_WHERE}")
    if not (path / "config.yaml").is_file():
        raise InputError(f"{path}: not a run directory (no config.yaml); {_WHERE}")
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
    analyses = [name for name in ANALYSES if (path / f"eval/{name}.json").is_file()]

    def lines_of(kind: str) -> tuple[Line, ...]:
        return tuple(line for line in lines if line.get("kind") == kind)

    def build() -> Run:
        config = _mapping(yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8")))
        scores = _mapping(evaluation["splits"])
        of_tokens = config["task"] == "mlm"
        return Run(
            path=path,
            config=config,
            command=(path / "command.txt").read_text(encoding="utf-8").strip(),
            environment=_json(path / "environment.json"),
            data=_json(path / "data.json"),
            parameters=_json(path / "eval/parameters.json"),
            summary=summary,
            best=dict(evaluation["best"]),
            labels=() if of_tokens else tuple(evaluation["labels"]),
            splits={} if of_tokens else {n: SplitMetrics.from_dict(m) for n, m in scores.items()},
            tokens={n: TokenMetrics.from_dict(m) for n, m in scores.items()} if of_tokens else {},
            subsets=_mapping(evaluation.get("subsets") or {}),
            analyses={name: _json(path / f"eval/{name}.json") for name in analyses},
            starts=tuple(starts),
            steps=lines_of("train"),
            epochs=lines_of("train_epoch"),
            validations=lines_of("validation"),
            tests=lines_of("test"),
            perf=tuple(line for line in performance if "rate" in line),
            saves=tuple(line for line in performance if line.get("kind") == "save"),
        )

    run = _or_damaged(path, build)
    _or_damaged(path, lambda: _check(run))
    return run


def _check(run: Run) -> None:
    """Touch every value that a report cannot do without."""
    for value in (run.recipe, run.task, run.seed, run.synthetic, run.regime, run.start):
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
    for line in (*run.steps, *run.validations, *run.tests):
        int(line["step"])
        float(line["loss"])
    for line in run.perf:
        float(line["rate"])
        str(line["unit"])
    for name, values in run.analyses.items():
        for key in ANALYSES[name]:
            str(values[key])
    if not run.splits and not run.tokens:
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
