"""Sending jobs to SLURM through submitit, and asking sbatch what it thinks of a script."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.slurm import SlurmConfig
from launch.slurm.batch import rank_python


def send_jobs(
    folder: Path, tasks: Sequence[Callable[[], Any]], slurm: SlurmConfig,
    parameters: Mapping[str, Any],
) -> list[str]:  # fmt: skip
    """Submit callables, as one array if there are several; returns the numbers of their jobs.

    Raises InputError with sbatch's words if it refuses; then nothing was submitted.
    """
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = submitit.SlurmExecutor(folder, python=rank_python(slurm))
    executor.update_parameters(**parameters)
    try:
        with redirect_stderr(io.StringIO()):  # what sbatch says is told below, in one line
            return [str(job.job_id) for job in executor.submit_array(list(tasks))]
    except (FailedJobError, FailedSubmissionError) as error:
        lines = [line for line in str(error).splitlines() if "error:" in line] or [str(error)]
        words = lines[-1].strip().rpartition("error:")[2].strip()
        raise InputError(f"sbatch refused the job: {words}") from None


def try_script(text: str) -> str:
    """What sbatch says of a script without taking it: when and where it would run, or why not."""
    if shutil.which("sbatch") is None:
        return "not tested: there is no sbatch on this machine"
    done = subprocess.run(["sbatch", "--test-only"], input=text, capture_output=True, text=True)
    return "; ".join((done.stderr or done.stdout).strip().splitlines())
