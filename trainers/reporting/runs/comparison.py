"""The sections over several runs: side by side, and over seeds."""

from __future__ import annotations

from collections.abc import Sequence

from trainers.reporting.page.blocks import (
    Block,
    Heading,
    Table,
    Text,
    duration,
    number,
    spread,
    thousands,
)
from trainers.reporting.runs.costs import memory_text, rate_text
from trainers.reporting.runs.record import Run
from trainers.reporting.runs.settings import seed_groups, varied

SCORES = ("accuracy", "uar", "macro_f1", "weighted_f1", "loss")
SCORE_TITLES = ("accuracy", "UAR", "macro F1", "weighted F1", "loss")


def side_by_side(runs: Sequence[Run]) -> list[Block]:
    """Scores and costs, one row per run."""
    scores, costs = [], []
    settings = varied(runs)
    differ = any(settings.values())
    for run in runs:
        test = run.splits.get("test")
        values = [getattr(test, name) if test else None for name in SCORES]
        corpus = f"{_corpus(run)}, {run.data['split']}"
        own = (settings[run.path] or "–",) if differ else ()
        scores.append((run.name, corpus, run.regime, *own, str(run.seed), *map(number, values)))
        costs.append(
            (
                run.name,
                thousands(int(run.parameters["trainable"])),
                str(run.environment.get("ranks", "–")),
                str(run.summary["steps"]),
                duration(float(run.summary["seconds"])),
                rate_text(run),
                memory_text(run),
                f"{run.best['epoch']} ({run.best['metric']} {float(run.best['value']):.3f})",
            )
        )
    blocks: list[Block] = [Heading(2, "Comparison")]
    if any(run.synthetic for run in runs):
        every = all(run.synthetic for run in runs)
        blocks.append(Text("SYNTHETIC DATA" if every else "SOME RUNS ON SYNTHETIC DATA", "badge"))
    titles = ("run", "corpus, split", "regime", *(("settings",) if differ else ()), "seed", *SCORE_TITLES)
    blocks.append(Table(titles, tuple(scores), "Scores of the test part", left=3 + differ))
    if len({(run.data["corpus"], run.data["split"]) for run in runs}) > 1:
        text = "These runs differ in corpus or split: scores compare only within one of them."
        blocks.append(Text(text, "warning"))
    header = (
        "run",
        "trainable weights",
        "ranks",
        "steps",
        "duration",
        "throughput",
        "peak memory",
        "best epoch (validation)",
    )
    return [*blocks, Table(header, tuple(costs), "What they cost")]


def over_seeds(runs: Sequence[Run]) -> list[Block]:
    """Mean and spread over seeds by recipe and settings; nothing if no run differs only in the seed."""
    groups = seed_groups([run for run in runs if "test" in run.splits])
    if all(len(group) < 2 for group in groups):
        return []
    settings = varied([group[0] for group in groups])
    differ = any(settings.values())
    rows = tuple(
        (
            group[0].recipe,
            *((settings[group[0].path] or "–",) if differ else ()),
            _corpus(group[0]),
            ", ".join(str(run.seed) for run in group),
            *(spread([getattr(run.splits["test"], name) for run in group]) for name in SCORES),
        )
        for group in groups
    )
    caption = "Test part, mean ± sample standard deviation over runs that differ only in the seed"
    titles = ("recipe", *(("settings",) if differ else ()), "corpus", "seeds", *SCORE_TITLES)
    table = Table(titles, rows, caption, left=3 + differ)
    return [Heading(2, "Over seeds"), table]


def _corpus(run: Run) -> str:
    return f"{run.data['corpus']}{' SYNTHETIC' if run.synthetic else ''}"
