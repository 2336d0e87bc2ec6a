"""The sections of a study about everything but its scores: data, time, hardware, commands, gaps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainers.reporting.page.blocks import (
    Block,
    Code,
    Heading,
    Table,
    Text,
    duration,
    isolated,
    thousands,
)
from trainers.reporting.runs.costs import memory_text
from trainers.reporting.runs.record import Run
from trainers.reporting.study.file import Members, Study

_VERSIONS = ("python", "torch", "torchaudio", "deepspeed", "transformers", "hazm", "numpy")


def method_section(study: Study) -> list[Block]:
    """What the grid says of the study."""
    paragraphs = [text for text in study.method.split("\n\n") if text.strip()]
    if not paragraphs:
        return []
    return [Heading(2, "Method"), *(Text(" ".join(text.split())) for text in paragraphs)]


def data_section(runs: Sequence[Run]) -> list[Block]:
    """Corpora and splits, and whether speakers stand in train and test."""
    rows: dict[tuple[str, ...], tuple[str, ...]] = {}
    counts: dict[tuple[str, ...], tuple[str, ...]] = {}
    digests: dict[str, set[str]] = {}
    for run in runs:
        digests.setdefault(_shards(run), set()).add(str(run.data.get("digest")))
    for run in runs:
        data, shards = run.data, _shards(run)
        if len(digests[shards]) > 1:  # packed anew in the same folder
            shards = f"{shards} (digest {str(data.get('digest'))[:8]})"
        key = (str(data["corpus"]), str(data.get("digest")), str(data["split"]))
        sizes = [sum(data["counts"].get(p, {}).values()) for p in ("train", "validation", "test")]
        shared = int(data["speaker_overlap"].get("train/test") or 0)
        # Runs of older versions do not say how many speakers the test part has.
        among = f" of {n}" if (n := data.get("speakers", {}).get("test")) else ""
        rows.setdefault(
            key,
            (
                f"{data['corpus']}{' (synthetic)' if run.synthetic else ''}",
                shards,
                str(data["split"]),
                str(data.get("protocol", "–")),
                *map(thousands, sizes),
                f"{shared}{among}: LEAKY" if shared else "none" if data.get("kind") == "audio" else "–",
            ),
        )
        if run.labels:
            test = data["counts"].get("test", {})
            by_label = ", ".join(f"{isolated(label)} {thousands(test.get(label, 0))}" for label in run.labels)
            counts.setdefault(key, (str(data["corpus"]), str(data["split"]), by_label))
    header: tuple[str, ...] = (
        "corpus",
        "shards",
        "split",
        "how it was made",
        "train",
        "validation",
        "test",
        "test speakers in train",
    )
    several = len({row[:2] for row in rows.values()}) > len({row[0] for row in rows.values()})
    if not several:  # nothing is to be told apart by the folders
        header = (header[0], *header[2:])
        rows = {key: (row[0], *row[2:]) for key, row in rows.items()}
    blocks: list[Block] = [
        Heading(2, "Data"),
        Table(header, tuple(rows.values()), "Corpora and splits, samples", left=3 + several),
        Table(("corpus", "split", "test samples by class"), tuple(counts.values()), left=3),
    ]
    if any("LEAKY" in row[-1] for row in rows.values()):
        text = (
            "Splits with speakers in both train and test let a model know the voices that it is "
            "tested on; compare methods within such a split, and with nobody's result on new voices."
        )
        blocks.append(Text(text, "warning"))
    return blocks


def _shards(run: Run) -> str:
    return Path(str(run.data.get("shards", ""))).name


def missing_section(study: Study, members: Members) -> list[Block]:
    """Trainings that are not on the page, and why."""
    rows = tuple(
        (part.title, member.label, member.run, members.missing[member.run])
        for part in study.parts
        for member in part.members
        if member.run in members.missing
    )
    if not rows:
        return []
    count = len(members.missing)
    text = f"{count} training{'s are' if count > 1 else ' is'} missing; the page is of the others."
    table = Table(("part", "training", "run", "why"), rows, left=4)
    return [Heading(2, "Missing trainings"), Text(text, "warning"), table]


def cost_section(study: Study, members: Members) -> list[Block]:
    """Time by part, hardware, versions, and the commands that make all this again."""
    runs = list(members.found.values())
    rows = []
    for part in study.parts:
        own = {m.run: members.found[m.run] for m in part.members if m.run in members.found}
        rows.append(
            (
                part.title,
                str(len({m.run for m in part.members})),
                str(len(own)),
                *_spent(list(own.values())),
            )
        )
    total = len({member.run for part in study.parts for member in part.members})
    rows.append(("all, each training once", str(total), str(len(runs)), *_spent(runs)))
    header = ("part", "trainings", "finished", "time", "time x ranks", "longest")
    hardware: dict[str, int] = {}
    for run in runs:
        place = f"{run.environment.get('hardware', 'unknown')}, {run.environment.get('ranks')} rank(s)"
        hardware[place] = hardware.get(place, 0) + 1
    versions = [
        (name, ", ".join(sorted({str(run.environment[name]) for run in runs if name in run.environment})))
        for name in (*_VERSIONS, "git")
    ]
    commands = "\n".join(run.command for run in runs)
    blocks: list[Block] = [
        Heading(2, "Time, hardware, commands"),
        Table(
            header, tuple(rows), "Time of the trainings, their evaluation included", rules=(len(rows) - 1,)
        ),
        Table(("hardware", "trainings"), tuple((k, str(n)) for k, n in hardware.items())),
        Table(("", ""), tuple((name, text or "–") for name, text in versions), "Versions", left=2),
        Text("The whole study again, what has finished is not trained anew:"),
        Code(study.command),
    ]
    if study.grid:
        blocks.append(Code(study.grid, "the grid file"))
    blocks.append(Code(commands, f"the commands of the {len(runs)} trainings"))
    listed = tuple((run.name, duration(float(run.summary["seconds"])), memory_text(run)) for run in runs)
    blocks.append(Code(_lines(listed), "the run directories"))
    return blocks


def _spent(runs: Sequence[Run]) -> tuple[str, str, str]:
    seconds = [float(run.summary["seconds"]) for run in runs]
    ranks = [float(run.environment.get("ranks") or 1) for run in runs]
    weighted = sum(s * r for s, r in zip(seconds, ranks, strict=True))
    return duration(sum(seconds)), duration(weighted), duration(max(seconds, default=0.0))


def _lines(rows: Sequence[tuple[str, ...]]) -> str:
    return "\n".join("  ".join(row) for row in rows)
