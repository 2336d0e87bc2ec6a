"""A submission's folder: everything that one `sokhan submit` or `sokhan sweep` has sent to a scheduler.

``<run or sweep folder>/slurm/<stamp>/`` holds the code and the recipes as they were submitted, what
submitit writes (script, pickles, logs), and a folder for every start of every member. The files are
the truth; the scheduler is only asked about what is waiting or running.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from configs.access import writing_run
from configs.errors import InputError
from configs.files import write_json
from configs.rank_status import RankStatus, read_statuses

Cluster = Literal["slurm", "local", "debug"]
Outcome = Literal["finished", "saved", "requeued", "failed", "killed", "no progress"]
"""saved: stopped after a save, and not requeued by the job itself."""
FINAL: tuple[Outcome, ...] = ("finished", "failed", "no progress")
"""What was stopped or killed may come back by the scheduler's will."""

FOLDER = "slurm"
"""Folder of a run or a sweep that holds its submissions."""
_NEWEST = "newest.json"
_SUBMISSION = "submission.json"
_MEMBERS = "members.json"
_CANCELLED = "cancelled"


@dataclass(frozen=True)
class Member:
    """One training of a submission."""

    number: int
    recipe_file: Path
    """The whole recipe, as it was submitted."""
    run: Path
    """Its run directory, absolute."""
    ranks: int
    flags: tuple[str, ...] = ()
    """What the command said of an earlier run: --overwrite, --resume, --force."""
    command: str = ""
    """What trains it alone, of a sweep's; empty: the submission's command does."""


@dataclass(frozen=True)
class Attempt:
    """One start of a member: the first, or one after a requeue."""

    folder: Path

    @property
    def number(self) -> int:
        """0 for the first."""
        return int(self.folder.name.rpartition("-")[2])

    @cached_property
    def start(self) -> dict[str, Any]:
        """time, job, nodes, pid, checkpoint, logs, port, flags; empty if it was never written."""
        return _read(self.folder / "start.json")

    @property
    def end(self) -> dict[str, Any]:
        """time, outcome, cause, code, words; empty as long as it runs, or if its batch shell was killed."""
        return _read(self.folder / "end.json")

    def statuses(self, ranks: int) -> Mapping[int, RankStatus]:
        """The ranks' last words."""
        return read_statuses(self.folder, ranks)


@dataclass(frozen=True)
class Submission:
    """One folder of a submission."""

    folder: Path

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What its jobs need to know, written before they are submitted: command, failures, gpus."""
        settings: dict[str, Any] = _read(self.folder / _MEMBERS).get("settings", {})
        return settings

    @cached_property
    def facts(self) -> dict[str, Any]:
        """job, cluster, host, time, array; empty until the scheduler has taken it."""
        return _read(self.folder / _SUBMISSION)

    @property
    def job(self) -> str:
        """The scheduler's number of the job or of the whole array."""
        return str(self.facts.get("job", ""))

    @property
    def cluster(self) -> str:
        """slurm, local or debug."""
        return str(self.facts.get("cluster", ""))

    @cached_property
    def members(self) -> list[Member]:
        """All trainings, in order."""
        rows = _read(self.folder / _MEMBERS).get("members", [])
        return [
            Member(
                row["number"],
                self.folder / row["recipe_file"],
                Path(row["run"]),
                row["ranks"],
                tuple(row["flags"]),
                row.get("command", ""),
            )
            for row in rows
        ]

    def job_of(self, member: Member) -> str:
        """The scheduler's number of one member: of an element of the array, where it is one."""
        return f"{self.job}_{member.number}" if self.facts.get("array") else self.job

    def attempts(self, member: Member) -> list[Attempt]:
        """A member's starts, oldest first."""
        folders = (self.folder / "attempts").glob(f"{member.number}-*")
        return sorted(map(Attempt, folders), key=lambda attempt: attempt.number)

    def newest_attempt(self, member: Member) -> Attempt | None:
        """A member's last start; None: it has not begun."""
        attempts = self.attempts(member)
        return attempts[-1] if attempts else None

    def start_id(self, member: Member) -> str:
        """What run.json keeps of the starts of this member: the same for all of them, and told from
        those of other submissions."""
        return f"{self.folder.name}/{member.number}"

    def cancelled(self, member: Member) -> bool:
        """Whether `sokhan cancel` has ended it."""
        return (self.folder / _CANCELLED / str(member.number)).exists()

    def logs(self, member: Member, rank: int) -> tuple[Path, Path]:
        """Where a rank's stdout and stderr go, over all attempts."""
        rank = rank if self.cluster == "slurm" else 0  # else one process starts them all
        name = self.folder / f"{self.job_of(member)}_{rank}_log"
        return name.with_suffix(".out"), name.with_suffix(".err")


def new_folder(parent: Path) -> Path:
    """Make the folder of a new submission in that of its run, sweep or corpus."""
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder = parent.absolute() / FOLDER / stamp
    check_path(folder)
    folder.mkdir(parents=True)
    return folder


def check_path(folder: Path) -> None:
    """Raise InputError unless a folder can stand in a batch script, where some of its names are
    patterns of sbatch."""
    name = str(folder)
    printable = name.replace("\u200c", "").isprintable()  # zero-width non-joiner: in Persian names
    if not printable or re.search(r"""['"\\%$`!;&|<>*?~]""", name):
        raise InputError(
            f"{name!r}: batch scripts need a path without quotes, backslashes, %, $ and the like; "
            "choose another folder"
        )


def write_members(folder: Path, members: Sequence[Member], settings: Mapping[str, Any]) -> None:
    """Before anything is submitted."""
    rows = []
    for member in members:
        row = asdict(member)
        rows.append({**row, "recipe_file": f"recipes/{member.number}.yaml", "run": str(member.run)})
    write_json(folder / _MEMBERS, {"members": rows, "settings": settings})


def write_submission(submission: Submission, facts: Mapping[str, Any]) -> Submission:
    """When the scheduler has taken it; every member's run directory then points to it."""
    write_json(submission.folder / _SUBMISSION, facts)
    taken = Submission(submission.folder)
    for member in taken.members:
        pointer = member.run / FOLDER / _NEWEST
        pointer.parent.mkdir(parents=True, exist_ok=True)
        write_json(pointer, {"submission": str(taken.folder), "member": member.number})
    return taken


def newest_submission(run: Path) -> tuple[Submission, Member] | None:
    """The last submission of a run, and which of its members the run is."""
    pointer = _read(run / FOLDER / _NEWEST)
    if not pointer:
        return None
    submission = Submission(Path(pointer["submission"]))
    members = [member for member in submission.members if member.number == pointer["member"]]
    return (submission, members[0]) if members else None


def note_cancelled(submission: Submission, member: Member) -> None:
    """SLURM forgets what it has ended."""
    mark = submission.folder / _CANCELLED / str(member.number)
    with writing_run(submission.folder):
        mark.parent.mkdir(exist_ok=True)
        mark.touch()


def earlier_starts(run: Path) -> list[dict[str, Any]]:
    """A line for each start that a run has had."""
    return list(_read(run / "run.json").get("starts", []))


def newest_checkpoint(run: Path) -> str | None:
    """How far a run has been saved: the name of the newest checkpoint, by step."""
    names = [path.name for path in (run / "checkpoints").glob("step-*")]
    tags = [name for name in names if re.fullmatch(r"step-\d{1,12}(-evaluated)?", name, re.ASCII)]
    return max(tags, key=lambda tag: (int(tag.split("-")[1]), tag), default=None)


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise InputError(f"{path}: damaged; `squeue` and `scancel` still know the job") from None
    return document if isinstance(document, dict) else {}
