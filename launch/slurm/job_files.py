"""What submitit keeps of a job that is one plain command, in the folder that it was sent from."""

from __future__ import annotations

from pathlib import Path


def is_done(folder: Path, job: str) -> bool:
    """Whether a job has ended well; submitit leaves its answer then."""
    from submitit.core.utils import JobPaths, pickle_load

    answer = JobPaths(folder, job_id=job, task_id=0).result_pickle
    return answer.is_file() and pickle_load(answer)[0] == "success"


def log_of(folder: Path, job: str) -> Path:
    """Where a job says what goes on and what went wrong."""
    return folder / f"{job}_0_log.err"
