"""``sokhan pack --slurm PARTS``: the parts of a corpus as a job array, and a job that joins them.

Every member is the very command that was typed, with ``--part I/N`` in place of ``--slurm``; the
last job is the same with ``--merge``. Where there is no SLURM, this machine runs them in turn.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from configs.check_slurm import duration
from configs.cluster import Site, load_cluster
from configs.errors import InputError
from configs.files import write_json
from configs.slurm import SlurmConfig
from launch.code_snapshot import keep_code
from launch.command_job import CommandJob
from launch.packing.wait import SentPack, wait_for
from launch.slurm.attempt import now
from launch.slurm.batch import job_parameters
from launch.slurm.job_files import log_of
from launch.slurm.sbatch import send_jobs
from launch.slurm.scheduler import SchedulerError, cancel
from launch.slurm.submission import new_folder
from launch.slurm.submit import Where, choose

# Before what is typed, after the site, whose settings are for training. A part cannot be saved
# halfway, so nobody has to be told that its time is nearly up.
_DEFAULTS = (
    "--slurm.nodes",
    "1",
    "--slurm.tasks_per_node",
    "1",
    "--slurm.gpus_per_task",
    "0",
    "--slurm.notice",
    "0s",
)


@dataclass(frozen=True)
class SplitPack:
    """A packing command, to be run part by part."""

    corpus: str
    arguments: tuple[str, ...]
    """The command as typed, without what is said of jobs."""
    out: Path
    parts: int
    missing: tuple[int, ...]
    """The parts that are not there yet."""
    processes: int | None
    """What the command says of processes."""

    def job(self, *more: str) -> CommandJob:
        """The command with more options."""
        return CommandJob((*self.arguments, *more), os.getcwd())

    def part(self, number: int, *more: str) -> CommandJob:
        """What packs a part."""
        return self.job("--part", f"{number}/{self.parts}", *more)


def load_site(site: str | None, slurm: Sequence[str]) -> Site:
    """What to ask the cluster for. Raises InputError where it is not for one task."""
    settings = load_cluster(site, [*_DEFAULTS, *slurm])
    if settings.slurm.ranks != 1:
        raise InputError(
            "--slurm.nodes, --slurm.tasks_per_node: a part is packed by one task; ask for more parts"
        )
    return settings


def run(pack: SplitPack, site: Site, where: Where, at_most: int | None, *, wait: bool) -> int:
    """Submit the parts that are missing and the job that joins them, or run them here; returns the
    exit code."""
    if choose(where, site) != "slurm":
        return _run_here(pack)
    sent = _submit(pack, site.slurm, at_most)
    array = [job.partition("_")[0] for job in sent.parts.values()][:1]
    told = f", after job {array[0]} has packed {len(sent.parts)} of them" if array else ""
    jobs = [*array, sent.merge]
    logs = log_of(sent.folder, f"{array[0]}_*" if len(sent.parts) > 1 else jobs[0])
    print(f"job {sent.merge} joins {pack.parts} parts{told}\nlogs: {logs}")
    print(f"squeue -j {','.join(jobs)}\nscancel {' '.join(jobs)}", flush=True)
    return wait_for(sent) if wait else 0


def _run_here(pack: SplitPack) -> int:
    """One after the other, up to the first that fails; typed again, it goes on there."""
    for job in [*(pack.part(number) for number in pack.missing), pack.job("--merge")]:
        if code := job.run():
            return code
    return 0


def _submit(pack: SplitPack, slurm: SlurmConfig, at_most: int | None) -> SentPack:
    from data_shards.pack_parts import parts_folder

    folder = new_folder(parts_folder(pack.out))
    sent: list[str] = []
    try:
        keep_code(folder)
        parameters = job_parameters(slurm, folder, f"pack-{pack.corpus}")
        parameters["signal_delay_s"] = duration("slurm.notice", slurm.notice)
        parameters["additional_parameters"]["requeue"] = True
        # A node that is shared shows all its cores where tasks are not bound to theirs.
        cores = () if pack.processes else ("--processes", str(slurm.cpus_per_task))
        parts = [pack.part(number, *cores) for number in pack.missing]
        if parts:
            limit = {"array_parallelism": at_most or len(parts)}  # else submitit's own, 256
            sent += send_jobs(folder, parts, slurm, {**parameters, **limit})
            parameters["dependency"] = f"afterok:{sent[0].partition('_')[0]}"
            # Without its parts it would wait for ever.
            parameters["additional_parameters"]["kill-on-invalid-dep"] = "yes"
        sent += send_jobs(folder, [pack.job("--merge", *cores)], slurm, parameters)
    except BaseException:
        _take_back(folder, sent)
        raise
    members = dict(zip(pack.missing, sent, strict=False))
    facts = {
        "job": sent[0].partition("_")[0],
        "cluster": "slurm",
        "time": now(),
        "array": len(members) > 1,
    }
    write_json(folder / "submission.json", {**facts, "parts": members, "merge": sent[-1]})
    return SentPack(folder, members, sent[-1])


def _take_back(folder: Path, sent: Sequence[str]) -> None:
    """Nothing half-submitted stays."""
    for job in dict.fromkeys(job.partition("_")[0] for job in sent):
        try:
            cancel(job)
        except SchedulerError as error:
            print(f"warning: job {job} is left behind: {error}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # unless they hold what was there before
        folder.parent.rmdir()
        folder.parent.parent.rmdir()
