"""What SLURM says of jobs, and what it is asked to do with them: squeue, sacct, scontrol, scancel.

Works with and without accounting. States are SLURM's own words: https://slurm.schedmd.com/squeue.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launch.slurm.ask import (
    SchedulerDown,
    SchedulerError,
    ask,
    check_controller,
    fields,
    last_words,
    run,
    unreachable,
)

_UNKNOWN = re.compile(r"invalid job ?id", re.IGNORECASE)
_OVER = re.compile(r"already (completing|finished|completed)|job/step already", re.IGNORECASE)

WAITING = frozenset(
    "PENDING CONFIGURING REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT RESV_DEL_HOLD".split()
)
ACTIVE = frozenset("RUNNING COMPLETING SUSPENDED STOPPED RESIZING SIGNALING STAGE_OUT".split())


@dataclass(frozen=True)
class JobState:
    """One job, or one member of an array, in SLURM's words."""

    state: str
    reason: str = ""
    """Why it waits, or has ended; empty: not said."""
    nodes: str = ""
    """Such as `n[1-2]`; empty while it waits."""
    since: str = ""
    """When it was started, or is expected to; ISO without a zone."""

    @property
    def waits(self) -> bool:
        """Whether it is yet to start, the first time or again."""
        return self.state in WAITING

    @property
    def active(self) -> bool:
        """Whether it holds nodes."""
        return self.state in ACTIVE

    @property
    def over(self) -> bool:
        """Whether it will not run again by itself."""
        return not (self.waits or self.active)


def job_states(jobs: Sequence[str]) -> dict[str, JobState]:
    """The states of jobs by id: ``123``, a member's ``123_4``, or a member's own number.

    An array's id, ``123``, gives all its members, as ``123_0`` and so on. Jobs that neither the queue
    nor the accounting knows are left out. Raises SchedulerDown if nobody answers.
    """
    if not jobs:
        return {}
    check_controller()
    wanted = set(jobs)
    found = _wanted(_queued(sorted({base_id(job) for job in jobs})), wanted)
    gone = [job for job in jobs if job not in found and job not in map(base_id, found)]
    if gone:
        found |= _wanted(_accounted(sorted({base_id(job) for job in gone})), set(gone))
    return found


def base_id(job: str) -> str:
    """``123_4`` -> ``123``."""
    return job.partition("_")[0]


def is_job_id(word: str) -> bool:
    """Whether a word can be a job's id: ``123`` or ``123_4``."""
    return re.fullmatch(r"\d{1,18}(_\d{1,18})?", word, re.ASCII) is not None


def show_job(job: str) -> dict[str, str]:
    """What ``scontrol show job`` says of one job, by its own keys; empty if it knows it no more."""
    check_controller()
    try:
        lines = ask("scontrol", "show", "job", "-o", job).splitlines()
    except SchedulerDown:
        raise
    except SchedulerError:
        return {}
    shown = [fields(line) for line in lines]
    # One member of an array has the array's own number, by which all members are shown.
    return next((one for one in shown if one.get("JobId") == job), shown[0] if shown else {})


def submit_line(job: str) -> str:
    """The sbatch command that made a job, from the accounting; empty without one."""
    try:
        shown = ask("sacct", "-X", "-n", "-P", "-j", base_id(job), "-o", "SubmitLine")
    except SchedulerError:
        return ""
    return next((line for line in shown.splitlines() if line.strip()), "")


def cancel(job: str) -> bool:
    """End a job, an array, or one member of it; False: SLURM says that it has ended already, or that
    it knows no such job (of which 22.05 says nothing).

    Raises SchedulerError if it may not be ended, SchedulerDown if nobody answers.
    """
    check_controller()
    done = run("scancel", job)
    words = last_words(done.stderr)
    if unreachable(words):
        raise SchedulerDown(f"SLURM does not answer: {words}")
    if _OVER.search(words) or _UNKNOWN.search(words):
        return False
    if done.returncode or words:
        raise SchedulerError(f"job {job} could not be cancelled: {words}")
    return True


def requeue(job: str) -> None:
    """Have a job start again. Raises SchedulerError if SLURM refuses, SchedulerDown if nobody answers."""
    check_controller()
    try:
        ask("scontrol", "requeue", job)
    except SchedulerError as error:
        if "pending" not in str(error).lower():  # it is to start again already
            raise


def members_of(job: str) -> list[str]:
    """``123_[0-2,7%2]``, as waiting members are written together -> ``123_0``, ``123_1``, ...;
    any other id as it is."""
    base, _, rest = job.partition("_")
    if not rest.startswith("["):
        return [job]
    members = []
    for part in rest.strip("[]").partition("%")[0].split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if match is None:  # `...`: SLURM cuts long lists
            continue
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        members += [f"{base}_{n}" for n in range(first, last + 1, step)]
    return members


def _queued(jobs: Sequence[str]) -> Iterator[tuple[tuple[str, str], JobState]]:
    """What the controller has: everything that waits and runs, and what ended some minutes ago."""
    form = "%i|%A|%T|%N|%S|%r"  # the reason last: it is a free text
    command = ("squeue", "-h", "-a", "-r", "-t", "all", "-j", ",".join(jobs), "-o", form)
    try:
        shown = ask(*command)
    except SchedulerDown:
        raise
    except SchedulerError as error:
        if _UNKNOWN.search(str(error)):
            return
        raise SchedulerDown(f"SLURM does not answer: {error}") from None
    for line in shown.splitlines():
        if line.count("|") >= 5:
            job, number, state, nodes, since, reason = line.split("|", 5)
            known = JobState(state, _said(reason), _said(nodes), _said(since))
            yield from (((member, number), known) for member in members_of(job))


def _accounted(jobs: Sequence[str]) -> Iterator[tuple[tuple[str, str], JobState]]:
    """What the accounting has; nothing where there is none."""
    form = "JobID,JobIDRaw,State,Start,NodeList"
    try:
        shown = ask("sacct", "-X", "-n", "-P", "-j", ",".join(jobs), "-o", form)
    except SchedulerError:
        return
    for line in shown.splitlines():
        if line.count("|") >= 4:
            job, number, state, since, nodes = line.split("|", 4)
            words = state.split()  # `CANCELLED by 1000`
            if words:
                reason = " ".join(words[1:])
                known = JobState(words[0], reason, _said(nodes), _said(since))
                yield from (((member, number), known) for member in members_of(job))


def _wanted(rows: Iterator[tuple[tuple[str, str], JobState]], wanted: set[str]) -> dict[str, JobState]:
    """Rows by the id that was asked for: the array's, the member's, or the member's own number."""
    found = {}
    for (job, number), state in rows:
        if job in wanted or base_id(job) in wanted:
            found[job] = state
        if number in wanted:
            found[number] = state
    return found


def _said(word: str) -> str:
    empty = ("", "None", "N/A", "(null)", "Unknown", "None assigned", "n/a")
    return "" if word.strip() in empty else word.strip()
