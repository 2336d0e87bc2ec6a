"""The trainings of a sweep as one array of jobs."""

from __future__ import annotations

from collections.abc import Sequence

from configs.beginning import Beginning
from configs.cluster import Site
from configs.grid import GridMember
from launch.slurm.submit import Training, submit_members
from launch.slurm.waiting import wait_for
from launch.sweeps.folder import note_outcome
from launch.sweeps.sweep import Sweep, trainings_text


def submit_sweep(
    sweep: Sweep, left: Sequence[GridMember], site: Site, at_most: int, beginning: Beginning,
    command: str, *, wait: bool,
) -> int:  # fmt: skip
    """Submit what is left of a sweep, at most ``at_most`` at once (0: all); returns the exit code."""
    submission = submit_members(
        [Training(member.recipe, beginning) for member in left], site, "slurm",
        folder=sweep.folder, name=sweep.grid.name, command=command, at_most=at_most,
    )  # fmt: skip
    for member in left:
        note_outcome(sweep.folder, member.run, 0)  # what failed on this machine is tried again
    folder = sweep.folder
    print(f"job {submission.job}: {trainings_text(len(left))}")
    print(f"sokhan status {folder}\nsokhan cancel {folder}\nsokhan report {folder}", flush=True)
    return wait_for(submission) if wait else 0
