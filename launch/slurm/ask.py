"""SLURM's commands: run with list arguments and a time-out, without the user's usual filters."""

from __future__ import annotations

import os
import re
import subprocess

PATIENCE = 60.0
"""Seconds for one command; SLURM's own time-outs are shorter."""
_UNREACHABLE = re.compile(
    r"unable to contact|configuration source|connection (refused|timed)|timed out|standby mode|"
    # the last one: `scontrol requeue` while slurmctld is down
    r"zero bytes|unable to establish|authentication|munge|unexpected message",
    re.IGNORECASE,
)


class SchedulerError(Exception):
    """SLURM did not do what it was asked; one line."""


class SchedulerDown(SchedulerError):
    """Nobody answers: no SLURM here, or its controller is down. One line."""


def check_controller() -> None:
    """Raise SchedulerDown if slurmctld is down: this is told at once, while commands that need it wait
    for it as long as the cluster's MessageTimeout says, a minute even."""
    try:
        shown = run("scontrol", "ping").stdout
    except SchedulerDown:
        return  # what comes next says so itself
    if "DOWN" in shown and "UP" not in shown:
        raise SchedulerDown("SLURM does not answer: its controller (slurmctld) is down")


def ask(*command: str) -> str:
    """What one of SLURM's commands prints. Raises SchedulerError with its last words."""
    done = run(*command)
    if done.returncode == 0:
        return done.stdout
    words = last_words(done.stderr) or f"{command[0]} ended with {done.returncode}"
    if unreachable(done.stderr):
        raise SchedulerDown(f"SLURM does not answer: {words}")
    raise SchedulerError(f"{' '.join(command[:2])}: {words}")


def unreachable(words: str) -> bool:
    """Whether an error says that the controller was not reached."""
    return _UNREACHABLE.search(words) is not None


def fields(line: str) -> dict[str, str]:
    """``JobId=1 Command=/a b/c StdOut=/x`` -> its values, which may hold blanks, by key."""
    parts = re.split(r"(?:^|\s)([A-Z][A-Za-z0-9/:]*)=", line)
    return {key: value.strip() for key, value in zip(parts[1::2], parts[2::2], strict=True)}


def last_words(text: str) -> str:
    """The last line of an error, without the command's name."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return re.sub(r"^(\w+: )?((error|fatal): )?", "", lines[-1]) if lines else ""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """One command, whatever comes of it. Raises SchedulerDown if it is not there or hangs."""
    # A user's usual formats and filters are not for us.
    ours = {"SLURM_TIME_FORMAT": "standard", "SLURM_BITSTR_LEN": "0"}
    personal = ("SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(personal)} | ours
    try:
        return subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        raise SchedulerDown(f"no SLURM on this machine: {command[0]} is not there") from None
    except subprocess.TimeoutExpired:
        raise SchedulerDown(f"SLURM does not answer: {command[0]} took over {PATIENCE:.0f} s") from None
