"""The job that writes a study's page: noted, told by status and ended by cancel. Sending one to a real
cluster is in tests/slurm."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import yaml

from configs.errors import InputError
from launch.cli import main
from launch.slurm.page_job import PAGE, PageJob, note_page, read_page
from launch.slurm.scheduler import JobState
from launch.slurm.submission import Submission
from launch.status import pages
from launch.status.pages import find_pages, page_statuses
from launch.sweep_folder import SWEEP
from launch.sweeps import page as page_module
from launch.sweeps.page import page_again
from tests.launch.submissions import submitted


def study(folder: Path, job: str = "41", page: str = "42") -> Submission:
    """A sweep of two trainings that was sent with a page."""
    sweep = folder / "runs" / "sweeps" / "tiny"
    runs = [folder / "runs" / "bert_full" / name for name in ("a", "b")]
    submission = submitted(sweep, runs, job=job)
    rows = [{"label": run.name, "run": f"bert_full/{run.name}", "signature": ""} for run in runs]
    (sweep / SWEEP).write_text(yaml.safe_dump({"name": "tiny", "grid": "", "members": rows}))
    note_page(PageJob(submission.folder, page))
    return submission


def finish(page: PageJob) -> None:
    """What submitit leaves of a job that has ended well."""
    answer = page.submission / f"{page.job}_0_result.pkl"
    answer.write_bytes(pickle.dumps(("success", None)))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands of SLURM in a folder that is all of PATH: job 42 waits, as do the trainings; what is
    cancelled is written to a file."""
    folder = tmp_path / "bin"
    folder.mkdir()
    waiting = "41_[0-1]|41|PENDING||N/A|Priority\n42|42|PENDING||N/A|Dependency\n"
    (folder / "queue").write_text(waiting)
    scripts = {
        "scontrol": "echo Slurmctld is UP",
        "sacct": "exit 1",
        "squeue": f"/bin/cat {folder}/queue",
        "scancel": f'echo "$@" >>{folder}/cancelled',
    }
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_it_ends_with_its_sweep_and_before_the_trainings(
    tmp_path: Path, cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission = study(tmp_path)
    sweep = submission.folder.parents[1]
    assert main(["status", str(sweep)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "page: job 42 waiting: Dependency"
    assert main(["cancel", str(sweep)]) == 0
    assert (cluster / "cancelled").read_text() == "42\n41\n"
    assert "job 42, the page: cancelled" in capsys.readouterr().out
    (cluster / "queue").write_text("")
    assert main(["status", str(sweep)]) == 0
    shown = capsys.readouterr().out
    assert "2 trainings: 2 cancelled" in shown and "page: job 42 cancelled" in shown
    assert main(["cancel", str(sweep)]) == 0
    assert "job 42, the page: nothing to cancel, cancelled" in capsys.readouterr().out
    assert (cluster / "cancelled").read_text() == "42\n41\n"


def test_it_can_be_named_alone(tmp_path: Path, cluster: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = study(tmp_path).folder.parents[3]
    assert main(["status", "--json", "42", "--folder", str(runs)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["trainings"] == []
    assert document["pages"] == [{"job": "42", "state": "waiting", "detail": "Dependency"}]
    assert main(["cancel", "42", "--folder", str(runs)]) == 0
    assert (cluster / "cancelled").read_text() == "42\n"
    assert main(["cancel", str(runs / "bert_full" / "a")]) == 0  # one training is not its study
    assert (cluster / "cancelled").read_text() == "42\n41_0\n"


def test_a_page_that_cannot_be_ended(
    tmp_path: Path, cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission = study(tmp_path)
    (cluster / "scancel").write_text("#!/bin/sh\necho scancel: error: Access denied >&2; exit 1\n")
    assert main(["cancel", str(submission.folder)]) == 1
    errors = capsys.readouterr().err
    assert "error: job 42, the page: job 42 could not be cancelled: Access denied" in errors
    known = read_page(submission.folder)
    assert known is not None and not known.cancelled


def test_what_has_finished_is_not_written_beside_its_job(
    tmp_path: Path,
    cluster: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is left to train: while the job is yet to end it writes the page, then the command does."""
    sweep = study(tmp_path).folder.parents[1]
    written: list[Path] = []
    monkeypatch.setattr(page_module, "write_page", lambda folder: written.append(folder) or 1)
    assert page_again(sweep, on_slurm=True, wait=False) == 0 and not written
    assert "page: job 42 waiting: Dependency; the same command writes" in capsys.readouterr().out
    assert page_again(sweep, on_slurm=False, wait=False) == 1 and written == [sweep]
    (cluster / "queue").write_text("")  # it has ended, and whether well or not does not matter
    assert page_again(sweep, on_slurm=True, wait=False) == 1 and written == [sweep, sweep]


@pytest.mark.parametrize(
    ("known", "done", "log", "line"),
    [
        (JobState("PENDING", "Dependency"), False, False, "waiting: Dependency"),
        (JobState("PENDING", "Requeued"), False, True, "waiting: Requeued"),
        (JobState("RUNNING", "", "n1"), False, True, "running: on n1"),
        (JobState("COMPLETED"), True, True, "finished"),
        (None, True, True, "finished"),
        (JobState("CANCELLED"), False, False, "cancelled"),
        (JobState("FAILED"), False, True, "failed: see "),
        (None, False, False, "ended: without a word"),
    ],
)
def test_how_it_stands(
    known: JobState | None,
    done: bool,
    log: bool,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    submission = study(tmp_path)
    page = PageJob(submission.folder, "42")
    if log:
        page.log.touch()
    if done:
        finish(page)
    monkeypatch.setattr(pages, "job_states", lambda jobs: {"42": known} if known else {})
    (status,) = page_statuses(find_pages([str(submission.folder.parents[1])], tmp_path))
    assert str(status).startswith(f"page: job 42 {line}")


@pytest.mark.parametrize(("log", "state"), [(False, "waiting"), (True, "running")])
def test_nobody_answers(log: bool, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    submission = study(tmp_path)
    if log:
        PageJob(submission.folder, "42").log.touch()
    (status,) = page_statuses(find_pages([str(submission.folder)], tmp_path))
    assert status.state == state


def test_of_several_pages_the_newest_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = study(tmp_path), study(tmp_path, "51", "52")
    old, new = sorted((first.folder, second.folder), key=lambda folder: folder.name)
    note_page(PageJob(old, "42"))
    note_page(PageJob(new, "52"))
    finish(PageJob(old, "42"))
    sweep = str(old.parents[1])
    monkeypatch.setattr(pages, "job_states", lambda jobs: {"52": JobState("PENDING")})
    assert [one.page.job for one in page_statuses(find_pages([sweep], tmp_path))] == ["52"]
    finish(PageJob(new, "52"))
    monkeypatch.setattr(pages, "job_states", lambda jobs: {})
    assert [one.page.job for one in page_statuses(find_pages([sweep], tmp_path))] == ["52"]
    assert [page.job for page in find_pages(["42"], tmp_path / "runs")] == ["42"]


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    folder = study(tmp_path).folder
    (folder / PAGE).write_text("{")
    with pytest.raises(InputError, match=r"page\.json: damaged; remove it"):
        read_page(folder)
    (folder / PAGE).unlink()
    assert read_page(folder) is None and find_pages([str(folder), "no-such"], tmp_path) == []
