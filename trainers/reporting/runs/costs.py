"""What a run cost: throughput, padding, memory, and the weights that train."""

from __future__ import annotations

from statistics import median

from trainers.reporting.page.blocks import Block, Code, Table, Text, thousands
from trainers.reporting.runs.record import Run


def rate_text(run: Run) -> str:
    """Median throughput with its unit. The first logged step warms up and is left out."""
    rates = [float(line["rate"]) for line in run.perf]
    return f"{thousands(median(rates[1:] or rates))} {run.perf[0]['unit']}" if rates else "–"


def starts_text(run: Run) -> str:
    """How often the run was started, from where, and with which changes of settings."""
    places = [str(start["checkpoint"]) for start in run.starts if start["checkpoint"]]
    text = f"{len(run.starts)}"
    if places:
        text += f"; went on from {', '.join(places)}"
    changes = [change for start in run.starts for change in start.get("changed", ())]
    return f"{text}; settings changed by force: {', '.join(changes)}" if changes else text


def peak_memory(run: Run) -> float:
    """Bytes of a rank, the highest logged; 0 where none was."""
    return max((float(line.get("peak_memory_bytes") or 0) for line in run.perf), default=0.0)


def memory_text(run: Run) -> str:
    """Peak memory of a rank, the highest logged."""
    peak = peak_memory(run)
    return f"{peak / 2**30:.2f} GiB" if peak else "–"


def throughput(run: Run) -> Table:
    """Rate, padding, memory, and the settings that decide them."""
    rows = [("throughput, median", rate_text(run)), ("peak memory of a rank", memory_text(run))]
    padding = [float(line["padding"]) for line in run.steps if "padding" in line]
    if padding:
        share = sum(padding) / len(padding)
        rows.append(("padding", f"{share:.1%} of what the model reads, mean over steps"))
    if len(run.starts) > 1 or any(start["checkpoint"] for start in run.starts):
        rows.append(("starts", starts_text(run)))
    if run.saves:
        stall = median(float(line["stall"]) for line in run.saves)
        text = f"{len(run.saves)} saves; training stood still for {stall:.2f} s each (median)"
        rows.append(("checkpoints", text))
    batching = run.config.get("batching", {})
    if batching:
        kind = batching.get("kind")
        size = f"{batching.get('items')} items" if kind == "fixed" else f"budget {batching.get('budget')}"
        rows.append(("global step", f"{kind}, {size}, {batching.get('micro_batches')} micro-batches"))
    optim = run.config.get("optim", {})
    if optim:
        keys = ("kind", "lr", "weight_decay", "schedule", "warmup", "clip")
        rows.append(("optimizer", ", ".join(f"{key} {optim[key]}" for key in keys if key in optim)))
    engine = run.config.get("engine", {})
    if engine:
        rows.append(("engine", f"ZeRO {engine.get('zero')}, {engine.get('precision')}"))
    return Table(("", ""), tuple(rows), left=2)


def parameters(run: Run) -> list[Block]:
    """How many weights train, and which."""
    facts = run.parameters
    total = max(int(facts["total"]), 1)
    rows = tuple(
        (name, thousands(int(facts[name])), f"{int(facts[name]) / total:.1%}")
        for name in ("trainable", "frozen", "total")
    )
    blocks: list[Block] = [Table(("parameters", "number", "share"), rows)]
    if facts.get("summary"):
        blocks.append(Text(str(facts["summary"])))
    names = facts.get("trainable_names") or []
    if names:
        blocks.append(Code("\n".join(names), f"the {len(names)} tensors that train"))
    return blocks
