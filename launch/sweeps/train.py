"""Train what is left of a sweep: as an array of jobs, or here, one after the other."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.beginning import Beginning
from configs.cluster import Site
from configs.errors import InputError
from configs.heads import command_that_makes, shipped_file
from configs.load import AnyRecipe
from configs.rank_status import FAILED, TRAINED
from configs.study import GridMember
from launch.local import count_gpus
from launch.slurm.submit import Where, choose, prefetch
from launch.sweep_folder import recorded, write_sweep
from launch.sweeps.arithmetic import encoder_of, is_here
from launch.sweeps.cost import H100, describe_cost, expect, this_machine
from launch.sweeps.local import train_here
from launch.sweeps.page import page_again, write_page
from launch.sweeps.slurm import Sending, submit_sweep
from launch.sweeps.study_file import write_study_file
from launch.sweeps.sweep import (
    IN_HAND,
    Sweep,
    check_all,
    describe,
    left_to_do,
    look,
    trainings_text,
)


@dataclass(frozen=True)
class How:
    """What the command line says of the trainings besides their fields."""

    where: Where
    ranks: int | None
    """Of each training on this machine; None: one a GPU, else one."""
    at_most: int | None
    """Trainings at the same time on a cluster; None: what the grid says."""
    beginning: Beginning
    command: str
    dry_run: bool
    """Only tell how each training stands."""
    wait: bool


def train_sweep(sweep: Sweep, site: Site, how: How) -> int:
    """Show how the trainings stand, then train those that are left; returns the exit code."""
    on_slurm = choose(how.where, site) == "slurm"
    _check(how, on_slurm)
    trainings = [recorded(member) for member in sweep.trainings]
    found, note = look(trainings, sweep.folder)
    print(describe(sweep.grid.name, trainings, found), flush=True)
    if note:
        print(f"note: {note}; what is told is what the files say", file=sys.stderr)
    left = left_to_do(sweep.trainings, found, how.beginning)
    gpus = 0 if on_slurm else count_gpus()
    ranks = how.ranks if how.ranks is not None else max(1, gpus)
    if left:
        machine = H100 if on_slurm or gpus else this_machine()
        expected = expect(sweep.trainings, {member.run for member in left}, machine)
        print(describe_cost(sweep.parts, expected, machine), flush=True)
    absent = _absent_encoders(left)
    for line in sorted({_how_to_get(recipe, sweep.grid.path) for recipe in absent}):
        print(f"not on this machine yet: {line}", flush=True)
    check_all(left, site.slurm.ranks if on_slurm else ranks, gpus, how.beginning, sweep.grid.path)
    if not left:
        in_hand = any(status.state in IN_HAND for status in found)
        return 0 if how.dry_run or in_hand else _all_finished(sweep, on_slurm, how)
    at_most = how.at_most or sweep.grid.at_most or 0
    jobs = " as jobs on SLURM" + (f", at most {at_most} at once" if at_most else "")
    pace = jobs if on_slurm else " on this machine, one at a time"
    print(f"left to train: {trainings_text(len(left))}{pace}", flush=True)
    if how.dry_run:
        return 0
    if on_slurm and note:
        raise InputError(f"{note}; --cluster local trains on this machine")
    if not on_slurm:
        prefetch(absent)  # one line now instead of the same one from each training
    _write(sweep, how.command)
    if on_slurm:
        others = [m.run for m, s in zip(sweep.trainings, found, strict=True) if s.state in IN_HAND]
        sending = Sending(site, at_most, how.beginning, how.command)
        return submit_sweep(sweep, left, others, sending, wait=how.wait)
    code = train_here(left, sweep.folder, ranks, how.beginning)
    if sweep.grid.is_study and code in (TRAINED, FAILED):
        return max(code, write_page(sweep.folder))
    return code


def _all_finished(sweep: Sweep, on_slurm: bool, how: How) -> int:
    """Bring the folder up to what was asked now, and the page with it: an earlier command may have
    been killed before its page, or the grid may have got another text or one more part."""
    _write(sweep, how.command)
    return page_again(sweep.folder, on_slurm=on_slurm, wait=how.wait) if sweep.grid.is_study else 0


def _absent_encoders(left: Sequence[GridMember]) -> list[AnyRecipe]:
    """Recipes whose encoder is neither here nor made by another training of the sweep."""
    names = {member.recipe.model.pretrained for member in left if member.source is None}
    absent = {name for name in names if name is not None and not is_here(name)}
    return [member.recipe for member in left if member.recipe.model.pretrained in absent]


def _how_to_get(recipe: AnyRecipe, grid: Path) -> str:
    """An encoder that is not here, and where it comes from."""
    name = str(recipe.model.pretrained)
    for file in (grid, shipped_file(recipe.recipe)):
        if command := command_that_makes(name, file):
            return f"{name}; make it with `{command}`"
    ways = f"a folder is made with `sokhan export RUN --out {name}`"
    if name.count("/") <= 1 and not name.startswith((".", "/", "~")):
        ways = f"a model of the hub is fetched with `sokhan download model {name}`, {ways}"
    guess = " (its size is guessed from its name)" if encoder_of(recipe) else ""
    return f"{name}{guess}; {ways}"


def _check(how: How, on_slurm: bool) -> None:
    if how.at_most is not None and how.at_most < 1:
        raise InputError(f"--at_most {how.at_most}: use at least 1")
    if on_slurm and how.ranks is not None:
        raise InputError(
            "--ranks is for this machine, and needs --cluster local where there is SLURM; jobs take "
            "--slurm.nodes and --slurm.tasks_per_node"
        )


def _write(sweep: Sweep, command: str) -> None:
    new, gone = write_sweep(sweep.folder, sweep.grid, sweep.trainings, command)
    write_study_file(sweep.folder, sweep.grid, sweep.parts, command)
    if new or gone:
        print(f"the sweep has changed: {new} new, {gone} no longer in it")
    print(f"sweep folder: {sweep.folder}", flush=True)
