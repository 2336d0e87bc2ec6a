"""The job that writes the page of a study when its trainings have ended: sending it, waiting for it, and
the note of it in the folder of a submission."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from configs.access import writing_run
from configs.errors import InputError
from configs.files import write_json
from configs.rank_status import FAILED, TRAINED
from configs.slurm import SlurmConfig
from launch.command_job import CommandJob
from launch.slurm.batch import job_parameters, rank_python, script
from launch.slurm.job_files import is_done, log_of
from launch.slurm.sbatch import send_jobs, try_script
from launch.slurm.scheduler import SchedulerDown, job_states
from launch.slurm.waiting import looks

PAGE = "page.json"


@dataclass(frozen=True)
class PageJob:
    """One sending of the job."""

    submission: Path
    """The folder that it was sent from, with its log."""
    job: str
    cancelled: bool = False
    """Whether `sokhan cancel` has ended it."""

    @property
    def log(self) -> Path:
        """Where it says what went wrong."""
        return log_of(self.submission, self.job)


def send_page(submission: Path, folder: Path, slurm: SlurmConfig, after: Sequence[str]) -> PageJob:
    """Send the job that writes the page of ``folder`` when the jobs ``after`` have ended, however.

    It runs the code of a submission. It asks for no GPU, unless the cluster refuses it then.
    """
    one = dataclasses.replace(slurm, nodes=1, tasks_per_node=1, gpus_per_task=0)
    job = CommandJob(("report", str(folder.absolute())), os.getcwd())
    for settings in (one, dataclasses.replace(one, gpus_per_task=slurm.gpus_per_task)):
        parameters = job_parameters(settings, submission, "page")
        parameters["dependency"] = "afterany:" + ":".join(after)
        parameters["additional_parameters"]["requeue"] = True
        accepted, _ = try_script(script(parameters, submission, rank_python(settings), 1))
        if accepted:
            break
    page = PageJob(submission, send_jobs(submission, [job], settings, parameters)[0])
    note_page(page)
    return page


def note_page(page: PageJob) -> None:
    """Keep what is known of it in its submission."""
    known = asdict(page)
    del known["submission"]
    with writing_run(page.submission):
        write_json(page.submission / PAGE, known)


def read_page(submission: Path) -> PageJob | None:
    """The page's job of a submission; None: none was sent with it. InputError if damaged."""
    try:
        row = json.loads((submission / PAGE).read_text(encoding="utf-8"))
        return PageJob(submission, str(row["job"]), bool(row["cancelled"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{submission / PAGE}: damaged; remove it, `squeue` still knows the job") from None


def wait_for_page(page: PageJob) -> int:
    """Until it has ended; the exit code."""
    for _ in looks():
        if is_done(page.submission, page.job):
            print(f"job {page.job} is done: the page", flush=True)
            return TRAINED
        try:
            states = job_states([page.job]).values()
        except SchedulerDown:
            continue  # it will be back
        if all(state.over for state in states) and not is_done(page.submission, page.job):
            break
    print(f"error: job {page.job}, the page, failed; see {page.log}", file=sys.stderr)
    return FAILED
