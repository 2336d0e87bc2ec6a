"""Submission folders as jobs leave them, written without any job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from configs.files import write_json
from launch.slurm.submission import (
    Attempt,
    Member,
    Submission,
    new_folder,
    write_members,
    write_submission,
)

SENT = "2026-01-02T10:00:00+0000"


def submitted(
    folder: Path, runs: Sequence[Path], *, job: str = "41", cluster: str = "slurm", ranks: int = 2
) -> Submission:
    """A submission of these runs, as a run's (one) or a sweep's (several) in ``folder``."""
    path = new_folder(folder)
    (path / "recipes").mkdir()
    members = []
    for number, run in enumerate(runs):
        file = path / "recipes" / f"{number}.yaml"
        file.write_text(yaml.safe_dump({"task": "nli", "loop": {"epochs": 3, "max_steps": None}}))
        members.append(Member(number, file, run.absolute(), ranks))
    write_members(path, members, {"command": "sokhan submit demo/bert_full", "failures": 3})
    facts = {"job": job, "cluster": cluster, "time": SENT, "array": len(runs) > 1}
    return write_submission(Submission(path), facts)


def started(submission: Submission, member: int = 0, **start: object) -> Attempt:
    """One more start of a member."""
    number = len(submission.attempts(submission.members[member]))
    folder = submission.folder / "attempts" / f"{member}-{number}"
    folder.mkdir(parents=True)
    write_json(folder / "start.json", {"time": SENT, "pid": None, "checkpoint": None, **start})
    return Attempt(folder)


def ended(attempt: Attempt, outcome: str, words: str = "", time: str = SENT, code: int = 0) -> None:
    """The end of a start."""
    document = {"time": time, "outcome": outcome, "cause": "", "code": code, "words": words}
    write_json(attempt.folder / "end.json", document)


def said(attempt: Attempt, rank: int, state: str, text: str = "") -> None:
    """A rank's last word."""
    word = {"rank": rank, "pid": 4242, "state": state, "text": text, "code": 1}
    write_json(attempt.folder / f"rank-{rank}.json", word)


def saved(run: Path, step: int) -> None:
    """A checkpoint, as far as its name goes."""
    (run / "checkpoints" / f"step-{step}").mkdir(parents=True)


def stand_in_scheduler(folder: Path, job: str) -> Path:
    """Commands in place of SLURM's, in a new folder: the job's state and reason are in its file `state`,
    what is requeued or cancelled is written to files of these names."""
    folder.mkdir()
    commands = {
        "squeue": f'echo "{job}|{job}|$(cut -d " " -f 1 {folder}/state)|n1|2026-01-01T00:00:00|'
        f'$(cut -d " " -f 2 {folder}/state)"',
        "scontrol": f'[[ $1 != ping ]] || exec echo "Slurmctld(primary) at n1 is UP"\n'
        f'echo "$@" >>{folder}/requeued; exit $(cat {folder}/code 2>/dev/null || echo 0)',
        "scancel": f'echo "$@" >>{folder}/cancelled',
    }
    for name, line in commands.items():
        (folder / name).write_text(f"#!/bin/bash\nPATH=/usr/bin:/bin\n{line}\n")
        (folder / name).chmod(0o755)
    return folder
