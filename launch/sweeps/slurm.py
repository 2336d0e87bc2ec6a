"""The trainings of a sweep as arrays of jobs: one for those that need no other, one for those that go on
from the models of these, and so on; and a last job that writes the page of a study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.beginning import Beginning
from configs.cluster import Site
from configs.errors import InputError
from configs.rank_status import FAILED, STOPPED, TRAINED
from configs.study import GridMember
from launch.slurm.page_job import PageJob, send_page, wait_for_page
from launch.slurm.submission import Submission, newest_submission
from launch.slurm.submit import Training, submit_members
from launch.slurm.waiting import wait_for
from launch.sweep_folder import note_outcome
from launch.sweeps.command import train_command
from launch.sweeps.sweep import Sweep, trainings_text


@dataclass(frozen=True)
class Sending:
    """How the trainings of a sweep are sent."""

    site: Site
    at_most: int
    """At the same time, of each array; 0: all."""
    beginning: Beginning
    command: str


def submit_sweep(
    sweep: Sweep, left: Sequence[GridMember], others: Iterable[Path], how: Sending, *, wait: bool
) -> int:
    """Submit what is left of a sweep; returns the exit code. ``others`` are the run directories that
    somebody sees to already."""
    folder = sweep.folder
    jobs = _jobs_of(others)
    sent: list[Submission] = []
    for level in levels(left, jobs):
        after = sorted({jobs[member.source] for member in level if member.source in jobs})
        trainings = [
            Training(member.recipe, how.beginning, member.source, train_command(member)) for member in level
        ]
        try:
            submission = submit_members(
                trainings,
                how.site,
                "slurm",
                folder=folder,
                name=sweep.grid.name,
                command=how.command,
                at_most=how.at_most,
                after=after,
            )
        except InputError as error:
            if not sent:
                raise
            before = ", ".join(earlier.job for earlier in sent)
            raise InputError(
                f"job {before} is sent, what goes on from it is not: {error}; the same command sends it"
            ) from None
        sent.append(submission)
        for member, row in zip(level, submission.members, strict=True):
            note_outcome(folder, member.run, 0)  # what failed on this machine is tried again
            jobs[member.run] = submission.job_of(row)
        print(f"job {submission.job}: {trainings_text(len(level))}{_after(after)}", flush=True)
    page: PageJob | None = None
    if sweep.grid.is_study:
        running = [job for job in jobs.values() if job.partition("_")[0] not in _numbers(sent)]
        page = send_page(sent[-1].folder, folder, how.site.slurm, [*_numbers(sent), *running])
        print(f"job {page.job}: the page, when all have ended")
    print(f"sokhan status {folder}\nsokhan cancel {folder}\nsokhan report {folder}", flush=True)
    return _wait(sent, page) if wait else 0


def levels(left: Sequence[GridMember], in_hand: Mapping[Path, str]) -> list[list[GridMember]]:
    """Trainings that can be sent together: first those that need no other that has yet to be trained,
    then those that go on from them, and so on."""
    depth: dict[Path, int] = {}
    for member in left:  # what others start from comes before them
        waits = member.source in depth or member.source in in_hand
        depth[member.run] = 1 + depth.get(member.source, 0) if member.source and waits else 0
    return [
        [member for member in left if depth[member.run] == level] for level in sorted(set(depth.values()))
    ]


def _jobs_of(runs: Iterable[Path]) -> dict[Path, str]:
    """The jobs of runs that are seen to, but for those that this machine trains itself."""
    newest = {run: newest_submission(run) for run in runs}
    return {
        run: found[0].job_of(found[1])
        for run, found in newest.items()
        if found and found[0].cluster == "slurm"
    }


def _numbers(sent: Sequence[Submission]) -> list[str]:
    return [submission.job for submission in sent]


def _after(jobs: Sequence[str]) -> str:
    """Told by arrays: an array's members are many."""
    numbers = dict.fromkeys(job.partition("_")[0] for job in jobs)
    return f", after job {', '.join(numbers)}" if numbers else ""


def _wait(sent: Sequence[Submission], page: PageJob | None) -> int:
    """Until all have ended; the exit code."""
    codes = [wait_for(submission) for submission in sent]
    if page:
        codes.append(wait_for_page(page))
    bad = [code for code in codes if code != TRAINED]
    return STOPPED if bad and set(bad) == {STOPPED} else FAILED if bad else TRAINED
