"""What is left of a sweep, by part, and what it is expected to cost before anything is started.

Where trainings of the same recipe and corpus have finished, their time is the measure, in proportion
to what is computed; else a rate is assumed, and said to be.
"""

from __future__ import annotations

import json
import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.load import SUMMARY
from configs.study import GridMember
from launch.sweeps.arithmetic import BASE, Encoder, Work, encoder_of, work_of

START_UP = 20.0
"""Seconds of a start: Python, torch, weights, ranks."""


@dataclass(frozen=True)
class Machine:
    """What is assumed of a machine: operations a second that training reaches."""

    name: str
    half: float
    """With bf16 or fp16."""
    full: float
    """With fp32."""
    pass_seconds: float
    """A micro-batch takes at least so long: its kernels must be started."""


H100 = Machine("one H100", 250e12, 60e12, 0.03)


def this_machine() -> Machine:
    """A machine without a GPU."""
    cores = os.cpu_count() or 1
    return Machine(f"{cores} cores without a GPU", cores * 60e9, cores * 60e9, 0.02)


@dataclass(frozen=True)
class Expected:
    """One training that is left."""

    steps: int | None
    """None: its shards or its split are not there."""
    seconds: float | None
    measured: str = ""
    """The hardware that it was measured on; empty: assumed."""
    unknown: str = ""
    """Why there are no seconds."""


def expect(trainings: Sequence[GridMember], left: Collection[Path], machine: Machine) -> dict[Path, Expected]:
    """Run directory of each training that is left -> what to expect of it. The others, if finished,
    are what it is measured by."""
    works: dict[Path, Work | None] = {}
    encoders: dict[Path, Encoder | None] = {}
    for member in trainings:  # those that others start from come first
        own = encoder_of(member.recipe)
        encoders[member.run] = encoders.get(member.source, own) if member.source else own
        # A measured time is only scaled, so that any size does where the encoder's is not known.
        works[member.run] = work_of(member.recipe, encoders[member.run] or BASE)
    rates = _measured(trainings, works, machine)
    expected = {}
    for member in trainings:
        work = works[member.run]
        if member.run not in left:
            continue
        if work is None:
            expected[member.run] = Expected(None, None, unknown="their shards or splits are not there yet")
        elif measured := rates.get(_kind(member)):
            hardware, slowness = measured
            seconds = slowness * _assumed(member, work, machine) + START_UP
            expected[member.run] = Expected(work.steps, seconds, hardware)
        elif encoders[member.run] is None:
            unknown = f"their encoder {member.recipe.model.pretrained} is not there yet"
            expected[member.run] = Expected(work.steps, None, unknown=unknown)
        else:
            seconds = _assumed(member, work, machine) + START_UP
            expected[member.run] = Expected(work.steps, seconds)
    return expected


def describe_cost(
    parts: Mapping[str, Sequence[GridMember]], expected: Mapping[Path, Expected], machine: Machine
) -> str:
    """Lines: trainings, steps and time of each part and of all, and what the figures rest on."""
    rows: list[tuple[str, ...]] = [("", "trainings", "left", "steps", "expected")]
    counted: set[Path] = set()
    for name, members in parts.items():
        runs = {member.run for member in members} - counted
        counted |= runs
        if name:
            rows.append(_row(name, runs, expected))
    rows.append(_row("together" if len(rows) > 1 else "", counted, expected))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = []
    for row in rows:
        numbers = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(["", row[0].ljust(widths[0]), *numbers]))
    return "\n".join([*lines, _basis(expected, machine)])


def _basis(expected: Mapping[Path, Expected], machine: Machine) -> str:
    """What the figures rest on."""
    known = {run: one for run, one in expected.items() if one.seconds is not None}
    measured = {run: one for run, one in known.items() if one.measured}
    told = []
    if measured:
        hardware = " and ".join(sorted({one.measured for one in measured.values()}))
        told.append(f"{_time(measured)} measured by finished trainings on {hardware}")
    if assumed := {run: one for run, one in known.items() if not one.measured}:
        told.append(
            f"{_time(assumed)} on {machine.name}, assumed, not measured: {machine.half / 1e12:g} TFLOP/s "
            f"in bf16, {machine.full / 1e12:g} in fp32, {machine.pass_seconds * 1000:g} ms a micro-batch "
            f"at least, {START_UP:g} s a start"
        )
    reasons = Counter(one.unknown for run, one in expected.items() if run not in known)
    told += [f"{count} not known: {why}" for why, count in reasons.items()]
    return "expected: " + "; ".join(told) if told else "expected: nothing is left"


def _row(name: str, runs: set[Path], expected: Mapping[Path, Expected]) -> tuple[str, ...]:
    left = {run: expected[run] for run in runs if run in expected}
    steps = [one.steps for one in left.values()]
    known = [count for count in steps if count is not None]
    return name, str(len(runs)), str(len(left)), _beside(f"{sum(known):,}", known, steps), _time(left)


def _time(left: Mapping[Path, Expected]) -> str:
    seconds = [one.seconds for one in left.values()]
    known = [value for value in seconds if value is not None]
    total = sum(known)
    text = f"{total / 3600:.1f} h" if total >= 5400 else f"{total / 60:.0f} min"
    return _beside(text, known, seconds)


def _beside(total: str, known: Sequence[float], of_all: Sequence[float | None]) -> str:
    """A total, and how many trainings it leaves out."""
    left_out = len(of_all) - len(known)
    if left_out and not known:
        return "not known"
    return f"{total} without {left_out} of {len(of_all)}" if left_out else total


def _assumed(member: GridMember, work: Work, machine: Machine) -> float:
    """Seconds at the assumed rate, without the start."""
    whole = member.recipe.engine.precision in ("fp32", "tf32")
    rate = machine.full if whole else machine.half
    return max(work.flop / rate, work.passes * machine.pass_seconds)


def _measured(
    trainings: Sequence[GridMember], works: Mapping[Path, Work | None], machine: Machine
) -> dict[tuple[str, str], tuple[str, float]]:
    """Recipe and corpus -> hardware, and the median of what finished trainings took there over what
    the assumptions say."""
    found: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    for member in trainings:
        work, end = works[member.run], _finished(member.run)
        if work and end:
            found[_kind(member)].append((end[0], end[1] / _assumed(member, work, machine)))
    return {key: (rows[0][0], statistics.median(r for _, r in rows)) for key, rows in found.items()}


def _kind(member: GridMember) -> tuple[str, str]:
    return member.recipe.recipe, member.recipe.data.shards


def _finished(run: Path) -> tuple[str, float] | None:
    """Hardware and seconds of a finished run; None if it has not finished or does not say."""
    try:
        summary = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
        environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
        return str(environment["hardware"]), float(summary["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
