"""What SLURM's commands print, as we read it. What a test cluster can say itself is in tests/slurm."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.slurm.ask import SchedulerDown, SchedulerError, fields, last_words
from launch.slurm.scheduler import (
    JobState,
    cancel,
    is_job_id,
    job_states,
    members_of,
    requeue,
    show_job,
)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH: no SLURM but what a test writes there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def says(command: Path, output: str, errors: str = "", code: int = 0) -> None:
    """A command that prints this, whatever it is asked."""
    command.with_suffix(".out").write_text(output)
    command.with_suffix(".err").write_text(errors)
    out, err = command.with_suffix(".out"), command.with_suffix(".err")
    command.write_text(f"#!/bin/sh\n/bin/cat '{out}'; /bin/cat '{err}' >&2; exit {code}\n")
    command.chmod(0o755)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("7", ["7"]),
        ("7_3", ["7_3"]),
        ("7_[0-2]", ["7_0", "7_1", "7_2"]),
        ("7_[1,4-5%2]", ["7_1", "7_4", "7_5"]),
        ("7_[0-6:3]", ["7_0", "7_3", "7_6"]),
        ("7_[0-1,...]", ["7_0", "7_1"]),
    ],
)
def test_members_that_wait_are_written_together(written: str, meant: list[str]) -> None:
    assert members_of(written) == meant


def test_an_array_in_parts(commands: Path) -> None:
    says(
        commands / "squeue",
        "7_[2-3%2]|7|PENDING||N/A|JobArrayTaskLimit\n7_1|9|RUNNING|n[1-2]|2026-11-23T14:00:00|None\n",
    )
    says(
        commands / "sacct",
        "7_0|8|CANCELLED by 1000|2026-11-23T13:00:00|n1\n7_[2-3%2]|7|PENDING|Unknown|None assigned\n",
    )
    waiting = JobState("PENDING", "JobArrayTaskLimit")
    running = JobState("RUNNING", "", "n[1-2]", "2026-11-23T14:00:00")
    assert job_states(["7_0", "7_1", "7_3"]) == {
        "7_0": JobState("CANCELLED", "by 1000", "n1", "2026-11-23T13:00:00"),
        "7_1": running,
        "7_3": waiting,
    }
    assert job_states(["9"]) == {"9": running}
    assert job_states(["7"])["7_2"] == waiting


def test_a_reason_may_hold_anything(commands: Path) -> None:
    says(commands / "squeue", "7|7|PENDING||N/A|Nodes (n1|n2) are DOWN, DRAINED or reserved\n")
    assert job_states(["7"])["7"].reason == "Nodes (n1|n2) are DOWN, DRAINED or reserved"


def test_without_accounting_ended_jobs_are_unknown(commands: Path) -> None:
    says(commands / "squeue", "", "slurm_load_jobs error: Invalid job id specified", 1)
    says(commands / "sacct", "", "Slurm accounting storage is disabled", 1)
    assert job_states(["7", "8_1"]) == {}


@pytest.mark.parametrize(
    "words",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        "squeue: error: something that we have never seen",
    ],
)
def test_a_queue_that_is_not_read_is_no_empty_queue(words: str, commands: Path) -> None:
    says(commands / "squeue", "", words, 1)
    with pytest.raises(SchedulerDown, match=words.partition("error: ")[2].partition(" (")[0]):
        job_states(["7"])


def test_no_slurm_at_all(commands: Path) -> None:
    assert job_states([]) == {}
    for ask in (lambda: job_states(["7"]), lambda: show_job("7"), lambda: cancel("7")):
        with pytest.raises(SchedulerDown, match="no SLURM on this machine"):
            ask()


@pytest.mark.parametrize(
    ("words", "code", "outcome"),
    [
        ("", 0, True),
        ("scancel: error: Kill job error on job id 7: Invalid job id specified", 1, False),
        ("scancel: error: Kill job error on job id 7: Job/step already completing or completed", 1, False),
        ("scancel: error: Kill job error on job id 7: Access/permission denied", 1, SchedulerError),
        ("scancel: error: Unable to contact slurm controller", 1, SchedulerDown),
    ],
)
def test_cancelling(words: str, code: int, outcome: object, commands: Path) -> None:
    says(commands / "scancel", "", words, code)
    if isinstance(outcome, bool):
        assert cancel("7") is outcome
        return
    with pytest.raises(SchedulerError) as raised:
        cancel("7")
    assert type(raised.value) is outcome


def test_requeueing(commands: Path) -> None:
    says(commands / "scontrol", "")
    requeue("7")
    says(commands / "scontrol", "", "Job is pending execution for job 7", 1)
    requeue("7")
    says(commands / "scontrol", "", "Unexpected message received for job 7", 1)
    with pytest.raises(SchedulerDown):  # as 22.05 says it without a controller
        requeue("7")
    says(commands / "scontrol", "", "Requested operation is presently disabled for job 7", 1)
    with pytest.raises(SchedulerError, match="presently disabled"):
        requeue("7")


def test_fields_with_blanks() -> None:
    shown = fields("JobId=7 Command=/a b/c.sh x StdOut=/a b/7_0_log.out Power= NtasksPerN:B:S:C=1:0")
    assert shown["Command"] == "/a b/c.sh x"
    assert shown["StdOut"] == "/a b/7_0_log.out"
    assert (shown["Power"], shown["NtasksPerN:B:S:C"]) == ("", "1:0")


def test_words() -> None:
    assert last_words("squeue: error: a\nscontrol: error: no way\n\n") == "no way"
    assert [is_job_id(word) for word in ("7", "7_1", "7_", "-7", "7.0", "٧")] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]
