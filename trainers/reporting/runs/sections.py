"""The sections about one run: what it was, how well it did, how it got there, what it cost."""

from __future__ import annotations

from trainers.metrics import SplitMetrics, classification_rows
from trainers.reporting.page.blocks import (
    Beside,
    Block,
    Cards,
    Chart,
    Code,
    Heading,
    Table,
    Text,
    duration,
    number,
    thousands,
)
from trainers.reporting.runs import plots
from trainers.reporting.runs.analyses import analysis_blocks
from trainers.reporting.runs.costs import parameters, throughput
from trainers.reporting.runs.language_model import loss_chart, token_results
from trainers.reporting.runs.record import Run


def run_sections(run: Run, level: int, prefix: str) -> list[Block]:
    """All sections of one run under headings of ``level``; ``prefix`` keeps chart names unique."""
    analyses = analysis_blocks({run.name: [run]}, prefix)
    return [
        *headline(run),
        *warnings(run),
        Heading(level, "Results"),
        *_results(run, level, prefix),
        Heading(level, "Training"),
        *_training(run, prefix),
        throughput(run),
        *([Heading(level, "Measured on the model"), *analyses] if analyses else []),
        Heading(level, "Data"),
        counts(run),
        Heading(level, "Parameters"),
        *parameters(run),
    ]


def _results(run: Run, level: int, prefix: str) -> list[Block]:
    if run.tokens:
        return [token_results([run])]
    return [results(run), *subsets(run), *baselines(run), *_per_class(run, level, prefix)]


def _training(run: Run, prefix: str) -> list[Block]:
    if run.tokens:
        return loss_chart([run], prefix)
    drawn = plots.curves(run)
    return [Chart(f"{prefix}-curves", "Loss, accuracy, UAR by step", drawn, epochs(run))]


def headline(run: Run) -> list[Block]:
    """Badge, the figures to see first, and the facts that a result is worthless without."""
    blocks: list[Block] = []
    if run.synthetic:
        blocks.append(Text("SYNTHETIC DATA", "badge"))
    blocks.append(cards(run))
    environment = run.environment
    versions = ", ".join(
        f"{name} {environment[name]}"
        for name in ("python", "torch", "deepspeed", "transformers")
        if environment.get(name)
    )
    best = run.best
    value = f"validation {best['metric']}, {float(best['value']):.4f}"
    steps, epochs = (int(run.summary[name]) for name in ("steps", "epochs"))
    facts = (
        ("corpus", f"{run.data['corpus']}{' (synthetic)' if run.synthetic else ''}"),
        ("split", str(run.data["split"])),
        (
            "task",
            {
                "emotion": "speech emotion",
                "nli": "language inference",
                "mlm": "masked language model",
            }.get(run.task, run.task),
        ),
        ("recipe", run.recipe),
        ("regime", run.regime),
        ("starting from", run.start),
        ("seed", str(run.seed)),
        ("ranks", str(environment.get("ranks", "–"))),
        ("hardware", str(environment.get("hardware", "–"))),
        ("versions", versions or "–"),
        ("code", str(environment.get("git") or "–")),
        ("duration", duration(float(run.summary["seconds"]))),
        ("trained for", f"{steps} steps in {epochs} epoch{'s' if epochs != 1 else ''}"),
        ("weights evaluated", f"epoch {best['epoch']} (step {best['step']}), the best by {value}"),
    )
    blocks.append(Table(("", ""), facts, left=2))
    blocks.append(Code(run.command))
    return blocks


def cards(run: Run) -> Cards:
    """The figures of the test part; of the last part evaluated where there is no test."""
    scored = run.tokens or run.splits
    shown = "test" if "test" in scored else next(reversed(scored))
    if run.tokens:
        tokens = run.tokens[shown]
        values = [
            ("perplexity", number(tokens.perplexity, 2)),
            ("loss", number(tokens.loss)),
            ("accuracy", number(tokens.accuracy)),
        ]
    else:
        metrics = run.splits[shown]
        values = [
            ("accuracy", number(metrics.accuracy)),
            ("UAR", number(metrics.uar)),
            ("macro F1", number(metrics.macro_f1)),
            ("loss", number(metrics.loss)),
        ]
    return Cards(tuple((f"{shown} {name}", value) for name, value in values))


def subsets(run: Run) -> list[Block]:
    """Scores of the subsets of each part."""
    rows = tuple(
        (
            part,
            name,
            thousands(one["items"]),
            *map(number, (one["accuracy"], one["uar"], one["macro_f1"])),
        )
        for part, own in run.subsets.items()
        for name, one in own.items()
    )
    header = ("part", "subset", "items", "accuracy", "UAR", "macro F1")
    return [Table(header, rows, "Subsets", left=2)] if rows else []


def warnings(run: Run) -> list[Block]:
    """What makes the numbers say less than they seem to."""
    blocks: list[Block] = []
    shared = {pair: n for pair, n in run.data["speaker_overlap"].items() if n}
    if shared:
        pairs = ", ".join(f"{pair} {n}" for pair, n in shared.items())
        text = f"Parts share speakers ({pairs}): scores are those of a speaker-dependent system."
        blocks.append(Text(text, "warning"))
    for name, metrics in run.splits.items():
        absent = [label for label, n in zip(metrics.labels, metrics.support, strict=True) if n == 0]
        if absent:
            text = (
                f"The {name} part has no sample of {', '.join(absent)}: its UAR leaves them out, "
                "its macro F1 counts them as 0."
            )
            blocks.append(Text(text, "warning"))
    return blocks


def results(run: Run) -> Table:
    """Accuracy, UAR, F1 and loss of every part."""
    rows = tuple(
        (
            name,
            thousands(m.items),
            *map(number, (m.accuracy, m.uar, m.macro_f1, m.weighted_f1, m.loss)),
        )
        for name, m in run.splits.items()
    )
    return Table(("part", "items", "accuracy", "UAR", "macro F1", "weighted F1", "loss"), rows)


def baselines(run: Run) -> list[Block]:
    """What guessing would score on the test part."""
    metrics = run.splits.get("test")
    if metrics is None:
        return []
    most = max(range(len(metrics.labels)), key=lambda n: metrics.support[n])
    share = metrics.support[most] / metrics.items
    present = sum(n > 0 for n in metrics.support)
    text = (
        f"Always answering “{metrics.labels[most]}” would score {number(share)} accuracy and "
        f"{number(1 / present)} UAR on the test part."
    )
    return [Text(text, "note")]


def _per_class(run: Run, level: int, prefix: str) -> list[Block]:
    blocks: list[Block] = []
    for name, metrics in run.splits.items():
        blocks.append(Heading(level + 1, f"Per class: {name}"))
        drawn = Chart(
            f"{prefix}-confusion-{len(blocks)}",
            f"Confusion matrix, {name}",
            plots.confusion(metrics.confusion, metrics.labels),
            confusion_table(metrics, name),
        )
        blocks.append(Beside((class_table(metrics), drawn)))
    return blocks


def class_table(metrics: SplitMetrics, digits: int = 3) -> Table:
    """The rows and columns of scikit-learn's classification report."""
    classes, summary = classification_rows(metrics)
    rows = tuple(
        (
            row.name,
            "" if row.precision is None else number(row.precision, digits),
            "" if row.recall is None else number(row.recall, digits),
            number(row.f1, digits),
            thousands(row.support),
        )
        for row in (*classes, *summary)
    )
    header = ("", "precision", "recall", "f1-score", "support")
    return Table(header, rows, rules=(len(classes),))


def confusion_table(metrics: SplitMetrics, name: str) -> Table:
    """The confusion matrix as a table."""
    rows = tuple(
        (label, *map(thousands, row)) for label, row in zip(metrics.labels, metrics.confusion, strict=True)
    )
    caption = f"Confusion matrix, {name}: rows are the truth, columns the prediction"
    return Table(("", *metrics.labels), rows, caption)


def epochs(run: Run) -> Table:
    """The curves' numbers, one row per epoch."""
    trained = {line.get("epoch"): line for line in run.epochs}
    rows = []
    for line in run.validations:
        train = trained.get(line.get("epoch"), {})
        values = (
            train.get("loss"),
            train.get("accuracy"),
            line["loss"],
            line.get("accuracy"),
            line.get("uar"),
            line.get("macro_f1"),
        )
        mark = " (best)" if line["step"] == run.best["step"] else ""
        rows.append((f"{line.get('epoch', '–')}{mark}", str(line["step"]), *map(number, values)))
    header = (
        "epoch",
        "step",
        "train loss",
        "train accuracy",
        "validation loss",
        "validation accuracy",
        "validation UAR",
        "validation macro F1",
    )
    return Table(header, tuple(rows), "Epoch by epoch")


def counts(run: Run) -> Table:
    """Samples by part and label, before balancing."""
    labels = tuple(run.labels)
    rows = []
    for part, by_label in run.data["counts"].items():
        numbers = [int(by_label.get(label, 0)) for label in labels]
        rows.append((part, *map(thousands, numbers), thousands(sum(by_label.values()))))
    balance = run.config.get("data", {}).get("balance", "none")
    caption = "Samples by part and label"
    if balance != "none":
        caption += f" (as stored; training balances them: {balance})"
    return Table(("part", *labels, "all"), tuple(rows), caption)
