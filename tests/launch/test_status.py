"""How trainings stand: what is made of their folders and of SLURM's words. Jobs of a real cluster are
looked at in tests/slurm, one of this machine here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.files import write_json
from launch.cli import main
from launch.slurm.scheduler import JobState
from launch.slurm.submission import Submission, note_cancelled
from launch.status.state import State, standing_of
from launch.status.targets import Target, find_targets
from launch.sweep_folder import note_outcome
from tests.launch.submissions import ended, said, saved, started, submitted

WAITS = JobState("PENDING", "Priority")
RUNS = JobState("RUNNING", "", "n[1-2]", "2026-01-02T10:00:00")
LATER = JobState("RUNNING", "", "n1", "2036-01-02T10:00:00")
CANCELLED = JobState("CANCELLED", "by 0")
KILLED = JobState("NODE_FAIL")


@pytest.fixture
def no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command is found: as on a machine without SLURM."""
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))


@pytest.fixture
def utc() -> Iterator[None]:
    """SLURM and we tell times of this machine's zone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def one(folder: Path, cluster: str = "slurm") -> tuple[Submission, Target]:
    """A run that was submitted alone."""
    run = folder / "runs" / "bert" / "run"
    submission = submitted(run, [run], cluster=cluster)
    return submission, Target(run, submission, submission.members[0])


@pytest.mark.parametrize(
    ("outcome", "known", "answered", "state", "detail"),
    [
        (None, WAITS, True, "waiting", "Priority"),
        (None, None, False, "waiting", ""),
        ("none yet", RUNS, True, "running", "on n[1-2] since 2026-01-02 10:00:00"),
        ("none yet", None, False, "running", "since 2026-01-02"),
        ("none yet", KILLED, True, "ended", "without a word (SLURM: NODE_FAIL)"),
        ("none yet", None, True, "ended", "without a word (the queue has it no more)"),
        ("none yet", CANCELLED, True, "cancelled", "goes on from step-8"),
        ("requeued", WAITS, True, "saved", "goes on from step-8 (Priority)"),
        ("requeued", None, False, "saved", "goes on from step-8"),
        ("requeued", RUNS, True, "running", "n[1-2]"),
        ("saved", CANCELLED, True, "cancelled", "submitted again it goes on"),
        ("saved", None, True, "stopped", "submitted again it goes on from step-8"),
        ("finished", None, True, "finished", ""),
        ("finished", None, False, "finished", ""),
        ("finished", JobState("COMPLETING"), True, "finished", ""),
        ("failed", JobState("FAILED"), True, "failed", "error: no room"),
        ("failed", RUNS, True, "failed", "error: no room"),
        ("failed", LATER, True, "running", "on n1"),  # somebody has requeued it
        ("killed", JobState("FAILED"), True, "failed", "error: no room"),
        ("killed", CANCELLED, True, "cancelled", "goes on from step-8"),
        ("no progress", None, True, "failed", "error: no room"),
    ],
)
def test_states(
    outcome: str | None,
    known: JobState | None,
    answered: bool,
    state: State,
    detail: str,
    tmp_path: Path,
    utc: None,
) -> None:
    submission, target = one(tmp_path)
    if outcome:
        saved(target.run, 4)
        saved(target.run, 8)
        attempt = started(submission)
        if outcome != "none yet":
            ended(attempt, outcome, "Traceback ...\nerror: no room\n\n")
    standing = standing_of(target, known, answered)
    assert standing.state == state
    assert detail in standing.detail and bool(detail) == bool(standing.detail)


def test_a_rank_that_failed_is_heard_without_the_job_s_last_line(tmp_path: Path) -> None:
    submission, target = one(tmp_path)
    said(started(submission), 1, "failed", "error: shards/x: damaged")
    standing = standing_of(target, None, True)
    assert (standing.state, standing.detail) == ("failed", "error: shards/x: damaged")


def test_ranks_that_saved_are_heard_without_the_job_s_last_line(tmp_path: Path) -> None:
    """Its batch script was killed."""
    submission, target = one(tmp_path)
    saved(target.run, 8)
    said(started(submission), 0, "saved")
    standing = standing_of(target, JobState("FAILED"), True)
    assert standing.state == "stopped"
    assert standing.detail == "SLURM: FAILED; submitted again it goes on from step-8"


def test_a_run_that_was_finished_otherwise_is_finished(tmp_path: Path) -> None:
    submission, target = one(tmp_path)
    ended(started(submission), "failed", "error: no room")
    summary = target.run / "summary.json"
    summary.write_text("{}")
    assert standing_of(target, None, True).state == "finished"
    os.utime(summary, (0, 0))  # of the run before, which this submission is to replace
    assert standing_of(target, None, True).state == "failed"


def test_a_process_that_is_another_s_is_not_the_job(tmp_path: Path) -> None:
    submission, target = one(tmp_path, "local")
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen([*sleeping, "other"]) as other:
        started(submission, pid=other.pid)
        assert standing_of(target, None, True).state == "ended"
        other.kill()
    with subprocess.Popen([*sleeping, str(submission.folder)]) as ours:
        started(submission, pid=ours.pid)
        assert standing_of(target, None, True).state == "running"
        ours.kill()
    assert standing_of(target, None, True).state == "ended"


def test_a_process_of_another_machine_is_taken_at_its_word(tmp_path: Path) -> None:
    submission, _ = one(tmp_path, "local")
    attempt = started(submission, pid=os.getpid())
    write_json(submission.folder / "submission.json", {**submission.facts, "host": "elsewhere"})
    run = submission.members[0].run
    elsewhere = Submission(submission.folder)
    target = Target(run, elsewhere, elsewhere.members[0])
    assert standing_of(target, None, True).state == "running"
    ended(attempt, "finished")
    assert standing_of(target, None, True).state == "finished"


def test_runs_that_were_never_submitted(tmp_path: Path) -> None:
    run = tmp_path / "bert" / "run"
    assert standing_of(Target(run), None, True).state == "new"
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    assert standing_of(Target(run), None, True).state == "ended"
    (run / "lock").write_text(f"process {os.getpid()} on {os.uname().nodename}\n")
    assert standing_of(Target(run), None, True).state == "running"
    (run / "lock").write_text("process 0 on elsewhere\n")
    saved(run, 12)
    assert standing_of(Target(run), None, True).detail == "the same command goes on from step-12"
    (run / "summary.json").touch()
    assert standing_of(Target(run), None, True).state == "finished"


@pytest.mark.usefixtures("no_slurm")
def test_a_sweep_by_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [Path("runs/bert") / name for name in ("a", "b", "c")]
    sweep = Path("runs/sweeps/grid")
    first = submitted(sweep, runs, job="41")
    for number, outcome in enumerate(("finished", "failed", "finished")):
        ended(started(first, number), outcome, "error: no room" if outcome == "failed" else "")
    (runs[0] / "metrics.jsonl").write_text('{"kind": "train", "step": 7, "epoch": 2}\n{"kind": "tr')
    again = submitted(sweep, [runs[1]], job="52")
    started(again)

    for name in ("runs/sweeps/grid", "41", "runs"):
        assert main(["status", name]) == 0
        shown = capsys.readouterr()
        lines = shown.out.splitlines()
        rows = [line.split() for line in lines if line.startswith(("41", "52"))]
        again_state = "failed" if name == "41" else "running"
        assert {(row[-1][-1], row[1]) for row in rows} == {
            ("a", "finished"),
            ("b", again_state),
            ("c", "finished"),
        }
        assert any("7, epoch 2 of 3" in line and "bert/a" in line for line in lines)
        assert lines[-1].startswith("3 trainings: ")
        assert "no SLURM on this machine" in shown.err and shown.err.count("\n") == 1
    assert "error: no room" not in shown.out

    assert main(["status", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["trainings"]
    assert [(row["job"], row["state"], row["starts"]) for row in rows] == [("52", "running", 1)]

    assert main(["status", "41_1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["trainings"]
    assert (row["state"], row["detail"]) == ("failed", "error: no room")
    assert row["run"] == str(runs[1].absolute()) and row["log"] == str(first.folder)


@pytest.mark.usefixtures("no_slurm")
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nothing", "nothing: no run directory, sweep, grid or job id"),
        ("", "an empty name is no run directory"),
        ("99", "job 99: not submitted by sokhan"),
        ("41_3", "job 41_3: 41 has no such member"),
        ("empty", "empty: no run directory, and nothing was submitted below it"),
        ("recipe.yaml", "recipe.yaml: a recipe, not a grid"),
    ],
)
def test_unknown_targets(
    word: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    submitted(Path("runs/sweeps/grid"), [Path("runs/bert/a"), Path("runs/bert/b")])
    Path("empty").mkdir()
    Path("recipe.yaml").write_text("task: nli\n")
    for command in ("status", "cancel", "logs"):
        assert main([command, word]) == 2
        shown = capsys.readouterr().err
        assert message in shown and shown.count("\n") == 1


def test_the_newest_of_several_jobs_with_one_number(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    older = submitted(runs / "bert" / "a", [runs / "bert" / "a"])
    moved = older.folder.with_name("20200101-000000-aaaa")
    shutil.move(older.folder, moved)
    newer = submitted(runs / "bert" / "b", [runs / "bert" / "b"])
    (found,) = find_targets(["41"], runs)
    assert found.submission == newer
    (found,) = find_targets([str(moved)], runs)
    assert found.run == runs / "bert" / "a"


def test_a_sweep_on_this_machine_tells_why_one_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, run = tmp_path / "sweeps" / "grid", tmp_path / "bert" / "a"
    sweep.mkdir(parents=True)
    run.mkdir(parents=True)
    row = {"label": "bert seed 0", "run": "bert/a", "signature": ""}
    write_json(sweep / "sweep.yaml", {"name": "grid", "members": [row]})
    note_outcome(sweep, run, 1, "Traceback\nerror: no room")
    assert main(["status", str(sweep)]) == 0
    assert "bert seed 0: error: no room" in capsys.readouterr().out


@pytest.mark.usefixtures("no_slurm")
def test_logs_by_rank_and_start(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    submission, target = one(tmp_path)

    def log(rank: int, text: str) -> None:
        for path, mark in zip(submission.logs(submission.members[0], rank), "oe", strict=True):
            with path.open("a") as stream:
                stream.write(f"{text} {mark}\n")

    assert main(["logs", str(target.run)]) == 0
    assert b"nothing yet: waiting" in capfdbinary.readouterr().err
    started(submission)
    log(0, "first")
    log(1, "other")
    sizes = {path.name: path.stat().st_size for path in submission.folder.glob("*_log.*")}
    second = started(submission, logs=sizes)
    log(0, "دوم")
    log(1, "again")
    said(second, 1, "failed", "error: no room")

    def shown(*words: str) -> tuple[str, str]:
        assert main(["logs", str(target.run), *words]) == 0
        seen = capfdbinary.readouterr()
        return seen.out.decode(), seen.err.decode()

    why = "error: no room\n"
    assert shown() == ("first o\nدوم o\n", "first e\nدوم e\n" + why)
    assert shown("--attempt", "0") == ("first o\n", "first e\n")
    assert shown("--attempt", "1", "--rank", "1") == ("again o\n", "again e\n" + why)
    log(0, why.strip())
    ended(second, "failed", why)  # the job's last line has told it in rank 0's log
    assert shown("--attempt", "1")[1].count(why.strip()) == 1
    for wrong in (["--rank", "2"], ["--attempt", "2"], ["-f", "--attempt", "0"]):
        assert main(["logs", str(target.run), *wrong]) == 2
    assert capfdbinary.readouterr().err.count(b"error: --") == 3


def test_logs_are_followed_over_starts_until_the_job_has_ended(tmp_path: Path) -> None:
    submission, target = one(tmp_path, "local")
    out = submission.logs(submission.members[0], 0)[0]
    alive = [sys.executable, "-c", "import time; time.sleep(600)", str(submission.folder)]
    with subprocess.Popen(alive) as job:
        attempt = started(submission, pid=job.pid)
        out.write_text("one\n")
        command = [sys.executable, "-m", "launch", "logs", "-f", str(target.run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
            assert following.stdout
            assert following.stdout.readline() == "one\n"
            with out.open("a") as stream:
                stream.write("two\n")
            assert following.stdout.readline() == "two\n"
            assert following.poll() is None
            with out.open("a") as stream:
                stream.write("three\n")
            ended(attempt, "saved")
            job.kill()
            assert following.stdout.read() == "three\n"
            assert following.wait() == 0


@pytest.mark.parametrize("answered", [True, False])
def test_what_was_cancelled_stays_so_when_slurm_has_forgotten_it(answered: bool, tmp_path: Path) -> None:
    runs = [tmp_path / "runs" / "bert_full" / name for name in ("a", "b")]
    submission = submitted(tmp_path / "runs" / "sweeps" / "x", runs)
    note_cancelled(submission, submission.members[1])
    waiting, cancelled = (
        standing_of(Target(member.run, submission, member), None, answered) for member in submission.members
    )
    assert cancelled.state == "cancelled"
    assert waiting.state == ("ended" if answered else "waiting")


def test_a_folder_of_runs_is_looked_into(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "bert_full" / "a"
    submitted(run, [run])
    for folder in (tmp_path / "runs", tmp_path / "runs" / "bert_full", run):
        assert [target.run for target in find_targets([str(folder)], tmp_path)] == [run]


def test_a_process_is_cancelled_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submission, target = one(tmp_path, "local")
    alive = [sys.executable, "-c", "import time; time.sleep(600)", str(submission.folder)]
    with subprocess.Popen(alive) as job:
        started(submission, pid=job.pid)
        assert main(["cancel", str(target.run)]) == 0
        assert job.wait() == -15
    assert main(["cancel", str(target.run)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told == [
        f"job 41: process {job.pid} was asked to save and stop",
        "job 41: nothing to cancel, ended",
    ]


@pytest.mark.usefixtures("no_slurm")
def test_a_job_cannot_be_cancelled_while_nobody_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, target = one(tmp_path)
    assert main(["cancel", str(target.run)]) == 1
    assert "error: job 41: no SLURM on this machine" in capsys.readouterr().err


def test_a_training_in_a_terminal_is_not_ours_to_cancel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").touch()
    (tmp_path / "lock").write_text(f"process {os.getpid()} on {os.uname().nodename}\n")
    assert main(["cancel", str(tmp_path)]) == 1
    assert "stop it where it was started" in capsys.readouterr().err
