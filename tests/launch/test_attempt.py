"""Starts of a job, begun and judged on real folders; SLURM's own part is in tests/slurm."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from configs.files import write_json
from configs.load import SUMMARY
from configs.rank_status import FAILED, STATUS, STOPPED, TRAINED, WRONG_INPUT, State, report
from launch.slurm.attempt import begin, close, end, main
from launch.slurm.batch import ATTEMPT, SUBMISSION
from launch.slurm.submission import Attempt, Member, Submission
from launch.slurm.verdict import FRUITLESS, Verdict, fruitless, judge
from tests.launch.submissions import ended, saved, stand_in_scheduler, started, submitted

JOB = "41"
PARENT = psutil.Process(os.getppid()).ppid()
"""As if this process' parent were the batch script's shell."""


class Job:
    """A submitted training of two ranks."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run = folder / "run"
        self.submission = submitted(self.run, [self.run], job=JOB)
        self.member = self.submission.members[0]
        self._monkeypatch = monkeypatch

    def words(self, attempt: Attempt, *states: State, text: str = "", code: int = 0) -> None:
        """What the ranks say; the text is the last one's."""
        self._monkeypatch.setenv(STATUS, str(attempt.folder))
        for rank, state in enumerate(states):
            self._monkeypatch.setenv("RANK", str(rank))
            last = rank == len(states) - 1
            assert report(state, text if last else "", code if last else 0)

    def begin(self) -> Attempt:
        """One more start."""
        attempt = begin(self.submission, self.member)
        assert not attempt.end
        return attempt


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setenv("SLURM_JOB_ID", JOB)
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
    return Job(tmp_path, monkeypatch)


def test_a_start_says_where_and_from_what(job: Job) -> None:
    first = job.begin()
    assert first.folder.name == "0-0" and first.number == 0
    assert first.start["checkpoint"] is None and first.start["nodes"] == "n[1-2]"
    assert first.start["job"] == JOB and 20_000 <= first.start["port"] < 32_000
    saved(job.run, 20)
    saved(job.run, 100)
    second = job.begin()
    assert second.folder.name == "0-1" and second.start["checkpoint"] == "step-100"
    assert [attempt.number for attempt in job.submission.attempts(job.member)] == [0, 1]


def test_flags_hold_until_a_start_of_this_submission_has_begun_the_run(job: Job) -> None:
    member = Member(0, job.member.recipe_file, job.run, 2, ("--overwrite",))

    def flags() -> list[str]:
        return list(begin(job.submission, member).start["flags"])

    assert flags() == ["--overwrite"]
    other = {"step": 0, "job": "20250101-000000-aaaa/0"}
    write_json(job.run / "run.json", {"starts": [other, {"step": 0, "job": None}]})
    assert flags() == ["--overwrite"]  # the first start was ended before it came to overwrite
    own = {"step": 0, "job": f"{job.submission.folder.name}/0"}
    write_json(job.run / "run.json", {"starts": [own]})
    saved(job.run, 1)
    assert flags() == []


def test_the_words_of_earlier_starts_are_not_those_of_this_one(job: Job) -> None:
    job.words(job.begin(), "failed", "failed", text="error: no", code=1)
    again = job.begin()
    job.words(again, "saved", "saved", code=STOPPED)
    assert judge(job.submission, job.member, again, STOPPED).outcome == "saved"


def test_trained(job: Job) -> None:
    attempt = job.begin()
    job.words(attempt, "finished", "finished")
    (job.run / SUMMARY).write_text("{}")
    verdict = judge(job.submission, job.member, attempt, 0)
    assert (verdict.outcome, verdict.code, verdict.again) == ("finished", TRAINED, False)


def test_trained_although_a_rank_died_after_the_last_line(job: Job) -> None:
    attempt = job.begin()
    job.words(attempt, "finished", "started")
    (job.run / SUMMARY).write_text("{}")
    assert judge(job.submission, job.member, attempt, 137).outcome == "finished"


def test_no_summary_no_success(job: Job) -> None:
    attempt = job.begin()
    job.words(attempt, "finished", "started")
    verdict = judge(job.submission, job.member, attempt, 137)
    assert verdict.outcome == "killed" and "rank 1 ended without a word" in verdict.words


@pytest.mark.parametrize("code", [FAILED, WRONG_INPUT])
def test_an_own_error_is_told_and_final(code: int, job: Job) -> None:
    """Whatever the other ranks said of it, and whatever srun made of their exit codes."""
    attempt = job.begin()
    job.words(attempt, "lost_peer", "failed", text="error: data.shards: gone", code=code)
    verdict = judge(job.submission, job.member, attempt, 137)
    assert (verdict.outcome, verdict.code, verdict.again) == ("failed", code, False)
    assert verdict.words == "error: data.shards: gone"


def test_an_error_of_all_ranks_is_told_once(job: Job) -> None:
    attempt = job.begin()
    job.words(attempt, "started", "failed", text="error: failed", code=1)
    job.words(attempt, "failed", text="error: failed", code=1)
    assert [word.state for word in attempt.statuses(2).values()] == ["failed", "failed"]
    assert judge(job.submission, job.member, attempt, 1).words == "error: failed"


@pytest.mark.parametrize("states", [("saved", "saved"), ("saved", "lost_peer"), ("started", "saved")])
def test_what_was_saved_goes_on(states: tuple[State, ...], job: Job) -> None:
    attempt = job.begin()
    job.words(attempt, *states, code=STOPPED)
    verdict = judge(job.submission, job.member, attempt, STOPPED)
    assert (verdict.outcome, verdict.code, verdict.again) == ("saved", STOPPED, True)


@pytest.mark.parametrize(
    ("states", "text", "told"),
    [
        ((), "", "rank 0, 1 ended without a word"),
        (("started", "started"), "", "rank 0, 1 ended without a word"),
        (("started", "lost_peer"), "Traceback", "rank 0 ended without a word"),
        (("lost_peer", "lost_peer"), "", "ranks lost their connections to each other"),
        (("started", "hung_peer"), "error: rank 0 has not answered for 10 min", "rank 0 has not answered"),
    ],
)
def test_the_killed_and_the_hung_go_on(states: tuple[State, ...], text: str, told: str, job: Job) -> None:
    attempt = job.begin()
    job.words(attempt, *states, text=text, code=1)
    verdict = judge(job.submission, job.member, attempt, 137)
    assert (verdict.outcome, verdict.code, verdict.again) == ("killed", FAILED, True)
    assert told in verdict.words and verdict.words.startswith("error: ")


def test_so_often_and_no_more(job: Job) -> None:
    """--slurm.failures is 3; what was saved or preempted meanwhile does not count."""
    outcomes = []
    for number in range(4):
        saved(job.run, 10 * number)
        close(started(job.submission), judge_of(job, "saved"))
        attempt = started(job.submission)
        verdict = judge(job.submission, job.member, attempt, 137)
        outcomes.append(verdict.again)
        close(attempt, verdict, failure=True)
    assert outcomes == [True, True, True, False]
    assert verdict.words.endswith("error: not started again after 3 failures (--slurm.failures)")


def judge_of(job: Job, state: State) -> Verdict:
    attempt = started(job.submission)
    job.words(attempt, state, state)
    return judge(job.submission, job.member, attempt, 0)


def test_progress_is_a_new_checkpoint(job: Job) -> None:
    def starts(*checkpoints: str | None) -> list[Attempt]:
        return [started(job.submission, checkpoint=tag) for tag in checkpoints]

    assert FRUITLESS == 3
    assert not fruitless(starts(None, None), None)
    assert fruitless(starts(None, None, None), None)
    assert not fruitless(starts(None, None, None), "step-1")
    assert not fruitless(starts(None, "step-1", "step-1"), "step-1")
    assert fruitless(starts(None, "step-1", "step-1", "step-1"), "step-1")
    assert not fruitless(starts("step-1", "step-1", "step-1"), "step-2")


def test_without_progress_it_is_not_started_again(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    """Preempted three times before anything was saved: the end of a start may never have run."""
    saved(job.run, 40)
    for _ in range(FRUITLESS):
        job.begin()
    last = begin(job.submission, job.member)
    assert last.number == FRUITLESS and last.end["outcome"] == "no progress"
    assert last.end["code"] == FAILED
    assert "3 starts have saved nothing new after step-40" in last.end["words"]
    assert "3 starts have saved nothing new after step-40" in capsys.readouterr().err
    saved(job.run, 41)  # by `sokhan train`, say
    assert not begin(job.submission, job.member).end


def test_a_finished_run_that_was_requeued_all_the_same_is_left_alone(job: Job) -> None:
    """A node that fails in a job's last seconds, say."""
    (job.run / SUMMARY).write_text("{}")
    other = {"step": 9, "job": "20250101-000000-aaaa/0"}
    write_json(job.run / "run.json", {"starts": [other]})
    assert not begin(job.submission, job.member).end  # it is to be replaced: --overwrite
    own = {"step": 9, "job": f"{job.submission.folder.name}/0"}
    write_json(job.run / "run.json", {"starts": [other, own]})
    again = begin(job.submission, job.member)
    assert again.end["outcome"] == "finished" and again.end["code"] == TRAINED


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for SLURM's commands."""
    folder = stand_in_scheduler(tmp_path / "bin", JOB)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_a_saved_start_of_a_running_job_is_requeued(job: Job, scheduler: Path) -> None:
    (scheduler / "state").write_text("RUNNING None")
    attempt = job.begin()
    job.words(attempt, "saved", "saved")
    assert end(job.submission, job.member, attempt, STOPPED, PARENT) == STOPPED
    assert (scheduler / "requeued").read_text() == f"requeue {JOB}\n"
    assert attempt.end["outcome"] == "requeued" and attempt.end["cause"] == ""


@pytest.mark.parametrize("state", ["COMPLETING None", "CANCELLED None", "PENDING BeginTime"])
def test_what_the_scheduler_has_ended_is_left_to_it(state: str, job: Job, scheduler: Path) -> None:
    (scheduler / "state").write_text(state)
    attempt = job.begin()
    job.words(attempt, "saved", "saved")
    assert end(job.submission, job.member, attempt, STOPPED, PARENT) == STOPPED
    assert not (scheduler / "requeued").exists() and attempt.end["outcome"] == "saved"


def test_a_job_whose_time_is_up_is_requeued(job: Job, scheduler: Path) -> None:
    (scheduler / "state").write_text("COMPLETING TimeLimit")
    attempt = job.begin()
    job.words(attempt, "saved", "saved")
    assert end(job.submission, job.member, attempt, STOPPED, PARENT) == STOPPED
    assert (scheduler / "requeued").exists() and attempt.end["outcome"] == "requeued"


def test_a_failed_start_is_not_requeued_and_its_error_is_the_last_line(
    job: Job, scheduler: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scheduler / "state").write_text("RUNNING None")
    attempt = job.begin()
    job.words(attempt, "failed", text="Traceback\nValueError: no", code=1)
    assert end(job.submission, job.member, attempt, 1, PARENT) == FAILED
    assert not (scheduler / "requeued").exists() and attempt.end["outcome"] == "failed"
    assert capsys.readouterr().err.rstrip().endswith("failed: ValueError: no")


def test_a_job_that_nobody_would_end_ends_itself(job: Job, scheduler: Path) -> None:
    """The batch script's slurmstepd was killed: its shell has another parent than it began with."""
    (scheduler / "state").write_text("RUNNING None")
    before = PARENT + 1
    attempt = job.begin()
    job.words(attempt, "saved", "saved")
    end(job.submission, job.member, attempt, STOPPED, before)
    assert not (scheduler / "cancelled").exists()  # it comes back, which ends this start
    attempt = job.begin()
    job.words(attempt, "failed", code=1)
    end(job.submission, job.member, attempt, 1, PARENT)
    assert not (scheduler / "cancelled").exists()
    end(job.submission, job.member, attempt, 1, before)
    assert (scheduler / "cancelled").read_text() == f"{JOB}\n"


def test_a_cancelled_job_is_not_revived_when_the_controller_is_slow(
    job: Job, scheduler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`scontrol requeue` would succeed."""
    answer = (scheduler / "squeue").read_text()
    once = f"[[ -e {scheduler}/asked ]] || {{ : >{scheduler}/asked; echo 'Socket timed out' >&2; exit 1; }}\n"
    (scheduler / "squeue").write_text(answer.replace("echo", f"{once}echo", 1))
    (scheduler / "state").write_text("COMPLETING None")
    monkeypatch.setattr("launch.slurm.attempt._PAUSE", 0.01)
    attempt = job.begin()
    job.words(attempt, "saved", "saved")
    assert end(job.submission, job.member, attempt, STOPPED, PARENT) == STOPPED
    assert (scheduler / "asked").exists() and not (scheduler / "requeued").exists()
    assert attempt.end["outcome"] == "saved"


def test_a_killed_start_that_slurm_requeues_is_no_failure(job: Job, scheduler: Path) -> None:
    """Preempted before the ranks were up."""
    (scheduler / "state").write_text("COMPLETING None")
    attempt = job.begin()
    assert end(job.submission, job.member, attempt, 143, PARENT) == FAILED
    assert attempt.end["outcome"] == "killed" and attempt.end["cause"] == ""


def test_a_killed_start_counts_as_a_failure(job: Job, scheduler: Path) -> None:
    (scheduler / "state").write_text("RUNNING None")
    attempt = job.begin()
    assert end(job.submission, job.member, attempt, 137, PARENT) == FAILED
    assert (scheduler / "requeued").exists()
    assert attempt.end["outcome"] == "requeued" and attempt.end["cause"] == "failure"


def test_the_third_fruitless_start_is_the_last(job: Job, scheduler: Path) -> None:
    (scheduler / "state").write_text("RUNNING None")
    ended(started(job.submission), "requeued")
    ended(started(job.submission), "requeued")
    attempt = job.begin()
    job.words(attempt, "saved", "saved")
    assert end(job.submission, job.member, attempt, STOPPED, PARENT) == FAILED
    assert not (scheduler / "requeued").exists()
    assert attempt.end["outcome"] == "no progress"
    assert "3 starts have saved nothing new; not started again" in attempt.end["words"]


def test_a_refused_requeue_is_told(job: Job, scheduler: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scheduler / "state").write_text("RUNNING None")
    (scheduler / "code").write_text("1")
    attempt = job.begin()
    job.words(attempt, "saved", "saved")
    assert end(job.submission, job.member, attempt, STOPPED, PARENT) == STOPPED
    assert attempt.end["outcome"] == "saved"
    assert f"job {JOB} could not be requeued; `sokhan submit` goes on" in capsys.readouterr().err


def test_as_the_batch_script_calls_it(
    job: Job, scheduler: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (scheduler / "state").write_text("RUNNING None")
    monkeypatch.setenv(SUBMISSION, str(job.submission.folder))
    assert main(["begin"]) == 0
    folder = capsys.readouterr().out.removesuffix("\n")
    assert Path(folder) == job.submission.folder / "attempts" / "0-0"
    monkeypatch.setenv(ATTEMPT, folder)
    job.words(Attempt(Path(folder)), "saved", "saved")
    assert main(["end", "75", str(PARENT)]) == STOPPED
    for _ in range(2):
        assert main(["begin"]) == 0
    capsys.readouterr()
    assert main(["begin"]) == FAILED
    assert capsys.readouterr().out == ""  # so the script starts no ranks
    own = {"job": f"{job.submission.folder.name}/0"}
    write_json(job.run / "run.json", {"starts": [own]})
    (job.run / SUMMARY).write_text("{}")
    assert main(["begin"]) == TRAINED
    assert capsys.readouterr().out == ""


def test_a_member_of_an_array_finds_its_own_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [tmp_path / "a", tmp_path / "b"]
    sweep: Submission = submitted(tmp_path / "sweep", runs)
    saved(runs[1], 7)
    monkeypatch.setenv(SUBMISSION, str(sweep.folder))
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "41")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    assert main(["begin"]) == 0
    attempt = Attempt(Path(capsys.readouterr().out.strip()))
    assert attempt.folder.name == "1-0" and attempt.start["checkpoint"] == "step-7"
    assert attempt.start["job"] == "41_1"  # the last member's own number is the array's
