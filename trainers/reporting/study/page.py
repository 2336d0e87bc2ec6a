"""The page of a study: all its parts, what they found and how sure that is, from its run directories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from configs.errors import InputError
from trainers.reporting.page.blocks import Block, Heading, Text
from trainers.reporting.page.write import Report, write_pages
from trainers.reporting.runs.beside import beside_reference
from trainers.reporting.runs.record import Run
from trainers.reporting.runs.reference import other_settings, why_not_comparable
from trainers.reporting.study.baselines import Baseline, baseline_sections, find_baselines
from trainers.reporting.study.facts import (
    cost_section,
    data_section,
    method_section,
    missing_section,
)
from trainers.reporting.study.file import Members, Study, read_members, read_study
from trainers.reporting.study.findings import findings
from trainers.reporting.study.part_result import PartResult, part_result
from trainers.reporting.study.parts import part_sections

_OF_REFERENCE = ("model.regime", "data.split")
"""Fields that may be varied beside the reference: its regimes, and its split among others."""


def write_study(folder: Path, out: Path | None = None, left_out: Sequence[str] = ()) -> Report:
    """Write ``report.html`` and ``report.md`` of a study's folder (runs/sweeps/NAME) into it, or into
    ``out``.

    The page is made of the trainings that have finished; the others are listed on it, with the reasons
    that ``left_out`` gives (lines that name their runs). Baselines are computed if the study wants them
    and they are not there yet. Raises InputError where no training has finished.
    """
    study = read_study(folder)
    members = read_members(study, left_out)
    if not members.found:
        first = next(iter(members.missing.items()), ("", "it has no trainings"))
        raise InputError(f"{folder}: no training has finished yet; {first[0]}: {first[1]}")
    missing = tuple(f"{run}: {why}" for run, why in members.missing.items())
    return write_pages(study_blocks(study, members), out or folder, "report", missing)


def study_blocks(study: Study, members: Members) -> list[Block]:
    """The content of the page."""
    runs = list(members.found.values())
    results = [part_result(n, part, members) for n, part in enumerate(study.parts, 1)]
    baselines: list[Baseline] = []
    problems: list[str] = []
    if study.baselines:
        methods = [method for result in results for method in result.methods]
        baselines, problems = find_baselines(methods, study.output / "baselines")
    blocks: list[Block] = [Heading(1, study.title), Text(_summary(study, members), "note")]
    if any(run.synthetic for run in runs):
        every = all(run.synthetic for run in runs)
        blocks.append(Text("SYNTHETIC DATA" if every else "SOME RUNS ON SYNTHETIC DATA", "badge"))
    if members.missing:
        count = len(members.missing)
        text = f"{count} training{'s are' if count > 1 else ' is'} missing; see the end of the page."
        blocks.append(Text(text, "warning"))
    blocks += [*findings(results, baselines), *method_section(study), *data_section(runs)]
    blocks += baseline_sections(baselines, problems)
    for result in results:
        blocks += part_sections(result, results, members)
    blocks += _beside_reference(results)
    return [*blocks, *missing_section(study, members), *cost_section(study, members)]


def _summary(study: Study, members: Members) -> str:
    """How many trainings of what, and when."""
    runs = members.found.values()
    corpora = ", ".join(dict.fromkeys(str(run.data["corpus"]) for run in runs))
    times = sorted(str(start["time"]) for run in runs for start in run.starts if start.get("time"))
    days = [times[0][:10], times[-1][:10]] if times else []
    when = f", trained {' to '.join(dict.fromkeys(days))}" if days else ""
    total = len(members.found) + len(members.missing)
    return f"{len(members.found)} of {total} trainings on {corpora}{when}. Study {study.name}."


def _beside_reference(results: Sequence[PartResult]) -> list[Block]:
    blocks = beside_reference(_comparable(results))
    continued = [result.title for result in results if result.part.start_from and result.methods]
    if blocks and continued:
        text = f"Runs that go on from another run's weights stand in: {', '.join(continued)}."
        blocks.append(Text(text, "note"))
    return blocks


def _comparable(results: Sequence[PartResult]) -> list[Run]:
    """Runs that did what the reference report did: on its own test part, in parts that neither draw a
    curve nor go on from other weights, of recipes as they are but for the regime and the split; with
    its number of epochs where there are such.
    """
    runs: dict[str, Run] = {}
    for result in results:
        if result.part.curve or result.part.start_from:
            continue
        found = {"/".join(run.path.parts[-2:]): run for method in result.methods for run in method.runs}
        for member in result.part.members:
            run = found.get(member.run)
            other = [key for key in member.varied if not key.startswith(_OF_REFERENCE)]
            if run and not other and not why_not_comparable(run):
                runs.setdefault(member.run, run)
    alike = [run for run in runs.values() if not other_settings(run)]
    return alike or list(runs.values())
