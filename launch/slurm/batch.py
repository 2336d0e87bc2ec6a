"""The batch script of a job, built apart from submitting it: settings -> what submitit is to write.

One srun task a rank, on the code as it was submitted. What stands around srun decides whether the
job is requeued: it is the last to live when ranks have died (launch/slurm/attempt.py).
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.check_slurm import duration
from configs.slurm import SlurmConfig
from launch.slurm.submission import check_path

SUBMISSION = "SOKHAN_SUBMISSION"
"""Environment variable of a job: the submission's folder."""
ATTEMPT = "SOKHAN_ATTEMPT"
"""Environment variable of a job: the folder of this start."""
SHELL = "SOKHAN_SHELL"
"""Environment variable of a job: the process id of the batch script's shell, on the first node."""

_LEAVING = 30
"""Seconds that all ranks have to end after the first one."""


def training_parameters(slurm: SlurmConfig, submission: Path, name: str) -> dict[str, Any]:
    """Parameters of submitit's SlurmExecutor for a job, or a member of an array, that trains."""
    attempt = f"{shlex.quote(sys.executable)} -m launch.slurm.attempt"
    parameters = job_parameters(slurm, submission, name)
    # Before its end the job gets a wish to stop, as any signal is one: the ranks save, and the last
    # line requeues. (submitit's own handler would save on rank 0 alone.)
    parameters["signal_delay_s"] = duration("slurm.notice", slurm.notice)
    parameters["setup"] += [
        # The shell is signalled with the ranks, and must see their end.
        "trap : TERM USR1 USR2 HUP",
        f"{ATTEMPT}=$({attempt} begin) || exit",
        f'[ "${ATTEMPT}" ] || exit 0',  # it has finished already
        f"export {ATTEMPT} {SHELL}=$$",
    ]
    # From here on signals are ignored, by what is started here too: the job's time may end, which
    # signals everything, while its requeueing is under way.
    ignore = "trap '' TERM USR1 USR2 HUP"
    parameters["teardown"] = ["code=$?", ignore, f"{attempt} end $code $PPID"]
    parameters["additional_parameters"]["requeue"] = True
    return parameters


def job_parameters(slurm: SlurmConfig, submission: Path, name: str) -> dict[str, Any]:
    """Parameters of submitit's SlurmExecutor for any job that runs the code in ``submission``."""
    check_path(submission)
    more: dict[str, Any] = {"export": "ALL", **_gpus(slurm)}
    if slurm.reservation:
        more["reservation"] = slurm.reservation
    said = {
        key: value
        for key in (
            "partition",
            "account",
            "qos",
            "constraint",
            "nodelist",
            "exclude",
            "exclusive",
            "mail_user",
            "mail_type",
        )
        if (value := getattr(slurm, key))
    }
    if slurm.memory:
        more["mem"] = slurm.memory
    return {
        "job_name": name,
        "time": -(-duration("slurm.time", slurm.time) // 60),
        "nodes": slurm.nodes,
        "ntasks_per_node": slurm.tasks_per_node,
        "cpus_per_task": slurm.cpus_per_task,
        "wckey": None,
        "setup": _setup(slurm, submission),
        "srun_args": _srun(slurm),
        "additional_parameters": more,
        **said,
    }


def rank_python(slurm: SlurmConfig) -> str:
    """What runs Python in a rank, as shell words. Around the ranks it is always the one that has
    submitted: a container seldom holds SLURM's commands."""
    if slurm.container_runtime == "apptainer":
        words = ["apptainer", "exec", *slurm.container_options, slurm.container]
        return shlex.join([*words, slurm.container_python])
    if slurm.container_runtime == "pyxis":
        return slurm.container_python
    return shlex.quote(sys.executable)


def script(parameters: Mapping[str, Any], submission: Path, python: str, members: int) -> str:
    """The batch script that submitit writes for these parameters; sends nothing."""
    from submitit.slurm.slurm import _make_sbatch_string

    command = f"{python} -u -m submitit.core._submit {shlex.quote(str(submission))}"
    array: dict[str, Any] = {"map_count": members} if members > 1 else {}
    return _make_sbatch_string(command=command, folder=submission, **parameters, **array)


def _setup(slurm: SlurmConfig, submission: Path) -> list[str]:
    # The job runs what was submitted, whatever the checkout has become: its packages come first, after
    # whatever the site's lines do, and Python does not look into the current folder before.
    code = shlex.quote(str(submission / "code"))
    # What a `module load` has put there is of no use inside a container.
    rest = "${PYTHONPATH:+:$PYTHONPATH}" if slurm.container_runtime == "none" else ""
    return [
        *(f"export {key}={shlex.quote(value)}" for key, value in slurm.environment.items()),
        *slurm.setup,
        f"export PYTHONPATH={code}{rest}",
        "export PYTHONSAFEPATH=1",
        f"export {SUBMISSION}={shlex.quote(str(submission))}",
    ]


def _srun(slurm: SlurmConfig) -> list[str]:
    # srun takes cpus-per-task from the batch job no longer (SLURM 22.05), and a site's SBATCH_EXPORT or
    # SLURM_EXPORT_ENV may keep the environment from the ranks.
    # Ranks leave together. Without --wait srun would wait for ever for one whose slurmstepd is dead.
    words = [f"--cpus-per-task={slurm.cpus_per_task}", "--kill-on-bad-exit=1", f"--wait={_LEAVING}"]
    words.append("--export=ALL")
    if slurm.cpu_bind:
        words.append(f"--cpu-bind={slurm.cpu_bind}")
    if slurm.container_runtime == "pyxis":
        words += [f"--container-image={slurm.container}", *slurm.container_options]
    return words


def _gpus(slurm: SlurmConfig) -> dict[str, Any]:
    """How GPUs are asked for. By node if the cluster lets us: then every rank of a node sees all of
    them, and NCCL its neighbours'."""
    if not slurm.gpus_per_task:
        return {}
    kind = f"{slurm.gpu_type}:" if slurm.gpu_type else ""
    count = slurm.tasks_per_node * slurm.gpus_per_task
    if slurm.gpu_request == "gres":
        return {"gres": f"gpu:{kind}{count}"}
    if slurm.gpu_request == "gpus_per_task":
        return {"gpus-per-task": f"{kind}{slurm.gpus_per_task}"}
    return {"gpus-per-node": f"{kind}{count}"}
