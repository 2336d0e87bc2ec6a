"""Runs of masked language models: loss and perplexity of every part, and over steps."""

from __future__ import annotations

from collections.abc import Sequence

from trainers.reporting.page.blocks import Block, Chart, Table, duration, number, thousands
from trainers.reporting.page.charts import Panel, Series, panels
from trainers.reporting.runs.plots import thinned
from trainers.reporting.runs.record import Run


def token_results(runs: Sequence[Run]) -> Table:
    """One row a run and part; pairs and shared tokens where any of the runs was asked to tell them."""
    scores = [tokens for run in runs for tokens in run.tokens.values()]
    pairs = any(tokens.pair_accuracy is not None for tokens in scores)
    shared = any(tokens.shared_accuracy is not None for tokens in scores)
    header = ["run", "part", "predicted tokens", "loss (nats)", "accuracy", "perplexity"]
    rows = [
        [
            run.name,
            part,
            thousands(tokens.items),
            number(tokens.loss),
            number(tokens.accuracy),
            number(tokens.perplexity, 2),
            *[number(tokens.pair_accuracy)] * pairs,
            *[number(tokens.shared_accuracy)] * shared,
            duration(float(run.summary["seconds"])),
        ]
        for run in runs
        for part, tokens in run.tokens.items()
    ]
    header += ["pairs told rightly"] * pairs + ["shared tokens told rightly"] * shared + ["time"]
    title = "Masked tokens predicted with the best weights"
    return Table(tuple(header), tuple(map(tuple, rows)), title, left=2)


def loss_chart(runs: Sequence[Run], name: str) -> list[Block]:
    """Loss of training and validation, and validation perplexity, over steps."""
    training, validation, perplexity, rows = [], [], [], []
    for run in runs:
        label = run.name if len(runs) > 1 else "train"
        x, y = thinned([line["step"] for line in run.steps], [line["loss"] for line in run.steps])
        if len(x):
            training.append(Series(label, x.tolist(), y.tolist()))
        steps = [float(line["step"]) for line in run.validations]
        if not steps:
            continue
        label = run.name if len(runs) > 1 else "validation"
        validation.append(Series(label, steps, [float(line["loss"]) for line in run.validations]))
        told = [(float(n["step"]), float(n["perplexity"])) for n in run.validations if "perplexity" in n]
        if told:
            perplexity.append(Series(label, *map(list, zip(*told, strict=True))))
        rows += [
            (
                run.name,
                str(line.get("epoch", "–")),
                str(line["step"]),
                number(line["loss"]),
                number(line.get("accuracy")),
                number(line.get("perplexity"), 2),
            )
            for line in run.validations
        ]
    content = [
        Panel(title, "step", tuple(series))
        for title, series in (
            ("Training loss", training),
            ("Validation loss", validation),
            ("Validation perplexity", perplexity),
        )
        if series
    ]
    if not content:
        return []
    header = ("run", "epoch", "step", "validation loss", "accuracy", "perplexity")
    caption = "Loss (nats a masked token) and perplexity over steps"
    table = Table(header, tuple(rows), caption)
    return [Chart(f"{name}-tokens", caption, panels(content, 3), table)]
