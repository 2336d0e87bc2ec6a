"""Sending jobs to SLURM through submitit, and asking sbatch what it thinks of a script."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.slurm import SlurmConfig
from launch.slurm.ask import PATIENCE, last_words, unreachable
from launch.slurm.batch import rank_python, script

_OF_THE_CLUSTER = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_TIME_FORMAT")
_OF_A_RANK = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# sbatch takes options from these, too, and they win over those that stand in a script: a user's
# SBATCH_PARTITION over --slurm.partition, SBATCH_NO_REQUEUE over the requeueing. Here those are that
# are not named after their option, and what means another kind of the same.
_OPTION = {
    "TIMELIMIT": "time",
    "NO_REQUEUE": "requeue",
    "MEM_PER_NODE": "mem",
    "MEM_PER_CPU": "mem",
    "MEM_PER_GPU": "mem",
    "GPUS": "gpus",
    "GPUS_PER_NODE": "gpus",
    "GPUS_PER_TASK": "gpus",
    "GPUS_PER_SOCKET": "gpus",
    "GRES": "gpus",
}
_NEVER = ("SBATCH_ARRAY_INX", "SBATCH_WAIT")
"""These would make other jobs of ours, or have sbatch wait for their end."""


def send_jobs(
    folder: Path,
    tasks: Sequence[Callable[[], Any]],
    slurm: SlurmConfig,
    parameters: Mapping[str, Any],
) -> list[str]:
    """Submit callables, as one array if there are several; returns the numbers of their jobs.

    Raises InputError with sbatch's words if it refuses; then nothing was submitted.
    """
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = submitit.SlurmExecutor(folder, python=rank_python(slurm))
    executor.update_parameters(**parameters)
    try:
        with (
            _outside_of_jobs(script(parameters, folder, rank_python(slurm), len(tasks))),
            redirect_stderr(io.StringIO()),
        ):  # what sbatch says is told below, in one line
            return [str(job.job_id) for job in executor.submit_array(list(tasks))]
    except (FailedJobError, FailedSubmissionError) as error:
        lines = [line for line in str(error).splitlines() if "error:" in line] or [str(error)]
        words = lines[-1].strip().rpartition("error:")[2].strip()
        raise InputError(f"sbatch refused the job: {words} (--cluster local: on this machine)") from None


def try_script(text: str) -> tuple[bool, str]:
    """What sbatch says of a script without taking it: whether it would ever run, and when and where,
    or why not. Where nobody is there to ask, it is taken for one that would."""
    if shutil.which("sbatch") is None:
        return True, "not tested: there is no sbatch on this machine"
    try:
        with _outside_of_jobs(text):
            done = subprocess.run(
                ["sbatch", "--test-only"], input=text, capture_output=True, text=True, timeout=PATIENCE
            )
    except subprocess.TimeoutExpired:
        return True, f"not tested: SLURM does not answer (sbatch took over {PATIENCE:.0f} s)"
    words = (done.stderr or done.stdout).strip()
    if done.returncode == 0:
        return True, _one_line(words) or "sbatch would take it"
    if unreachable(words):
        return True, f"not tested: SLURM does not answer ({last_words(words)})"
    return False, _one_line(words) or f"sbatch refuses it without a word (exit code {done.returncode})"


def _one_line(words: str) -> str:
    return "; ".join(words.splitlines())


@contextmanager
def _outside_of_jobs(text: str) -> Iterator[None]:
    """Jobs inherit the environment; but not, where one is submitted from inside another (a notebook,
    `salloc`), what SLURM and launchers say of that one, nor what would change the script ``text``."""
    before = dict(os.environ)
    for name in before:
        of_a_job = name.startswith("SLURM_") and name not in _OF_THE_CLUSTER
        if of_a_job or name in _OF_A_RANK or _says_otherwise(name, text):
            del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(before)


def _says_otherwise(name: str, text: str) -> bool:
    """Whether a variable of sbatch stands against an option of the script. What the script is silent
    of, such as an account, a user may have set for all jobs."""
    if not name.startswith("SBATCH_"):
        return False
    said = set(re.findall(r"^#SBATCH --([a-z-]+)", text, re.MULTILINE))
    if said.intersection({"gres", "gpus-per-node", "gpus-per-task"}):
        said.add("gpus")
    word = name.removeprefix("SBATCH_")
    return name in _NEVER or _OPTION.get(word, word.lower().replace("_", "-")) in said
