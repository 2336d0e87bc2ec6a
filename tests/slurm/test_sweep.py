"""A sweep on a real cluster: one array, two trainings at a time, one of which fails on purpose."""

from __future__ import annotations

import re
import time
from pathlib import Path

from configs.grid import load_grid
from configs.study import GridMember, members
from launch.slurm.submission import Attempt, newest_submission
from tests.slurm.cluster import Cluster
from tests.slurm.trainings import PATIENCE, sokhan

SIZE = ["--slurm.gpus_per_task", "0", "--slurm.cpus_per_task", "1", "--slurm.partition", "low"]


def attempts(member: GridMember) -> list[Attempt]:
    """The starts of a training's newest submission."""
    newest = newest_submission(member.run)
    assert newest is not None
    submission, one = newest
    return submission.attempts(one)


def job(output: str, trainings: str) -> str:
    found = re.search(rf"^job (\d+): {trainings}$", output, re.MULTILINE)
    assert found is not None, output
    return found[1]


def until_over(cluster: Cluster, array: str) -> None:
    end = time.monotonic() + PATIENCE
    while cluster.run("squeue", "-h", "-j", array).strip():
        assert time.monotonic() < end, cluster.run("squeue", "-r")
        time.sleep(0.5)


def most_at_once(trainings: tuple[GridMember, ...]) -> int:
    """How many starts have overlapped, by what they noted themselves."""
    events = []
    for member in trainings:
        for attempt in attempts(member):
            events += [(attempt.start["time"], 1), (attempt.end["time"], -1)]
    running = [0]
    for _, change in sorted(events):  # in the same second the end comes first
        running.append(running[-1] + change)
    return max(running)


def two_steps(shards: Path, folder: Path) -> list[str]:
    """Fields of a training that ends soon, below a folder."""
    return [
        "--data.shards",
        str(shards),
        "--output.folder",
        str(folder / "runs"),
        "--model.vocabulary",
        "300",
        "--loop.max_steps",
        "2",
        "--tracking.wandb",
        "off",
        "--evaluation.train",
        "false",
    ]


def test_six_trainings_of_which_one_fails(cluster: Cluster, text_shards: Path, tmp_path: Path) -> None:
    fields = two_steps(text_shards, tmp_path)
    conf = str(cluster.conf)
    trainings = members(load_grid("demo/regimes"), (), fields)
    assert len(trainings) == 6
    broken = trainings[2]
    stray = broken.run / "notes.txt"  # a folder that is no run's is not trained in
    stray.parent.mkdir(parents=True)
    stray.touch()

    command = ["sweep", "demo/regimes", *fields, *SIZE]
    done = sokhan(command, SLURM_CONF=conf)
    assert done.returncode == 0, done.stderr
    array = job(done.stdout, "6 trainings")
    again = sokhan(command, SLURM_CONF=conf)  # all are seen to
    assert again.returncode == 0 and f"(job {array}_" in again.stdout, again.stderr
    assert "left to train" not in again.stdout and "sweep folder" not in again.stdout
    until_over(cluster, array)
    assert most_at_once(trainings) == 2
    finished = [(member.run / "summary.json").is_file() for member in trainings]
    assert finished == [member is not broken for member in trainings]

    folder = str(tmp_path / "runs" / "sweeps" / "demo-regimes")
    for told in ([*command, "--dry-run"], ["status", folder]):
        shown = sokhan(told, SLURM_CONF=conf)
        assert shown.returncode == 0, shown.stderr
        assert "6 trainings: 5 finished, 1 failed" in shown.stdout
        assert f"{broken.run}: not a run directory" in shown.stdout
    report = sokhan(["report", folder])
    assert report.returncode == 0
    assert f"left out: {broken.label} ({broken.run}) is failed: error: " in report.stderr

    before = {member.run: attempts(member)[-1].folder for member in trainings}
    stray.unlink()
    done = sokhan([*command, "--wait"], SLURM_CONF=conf)
    assert done.returncode == 0, done.stderr
    assert job(done.stdout, "1 training") != array
    assert (broken.run / "summary.json").is_file()
    changed = [m for m in trainings if attempts(m)[-1].folder != before[m.run]]
    assert changed == [broken]
    report = sokhan(["report", folder])
    assert report.returncode == 0 and "left out" not in report.stderr
    assert " ± " in Path(folder, "comparison.md").read_text()
    assert "Comparison of 6 runs" in Path(folder, "comparison.md").read_text()


def write_study(path: Path) -> Path:
    """A regime, and another that goes on from its models."""
    path.write_text(
        "parts:\n"
        "- {name: whole, recipes: [demo/bert_full], seeds: [0, 1]}\n"
        "- name: frozen\n"
        "  recipes: [demo/bert_freeze]\n"
        "  seeds: [0, 1]\n"
        "  start_from: {part: whole, recipe: demo/bert_full}\n"
    )
    return path


def test_a_study_is_an_array_after_another_and_a_page(
    cluster: Cluster, text_shards: Path, tmp_path: Path
) -> None:
    grid = write_study(tmp_path / "tiny.yaml")
    fields = two_steps(text_shards, tmp_path)
    conf = str(cluster.conf)
    first, second, third, fourth = members(load_grid(grid), (), fields)
    stray = second.run / "notes.txt"  # a folder that is no run's is not trained in
    stray.parent.mkdir(parents=True)
    stray.touch()

    command = ["sweep", str(grid), *fields, *SIZE]
    done = sokhan(command, SLURM_CONF=conf)
    assert done.returncode == 0, done.stderr
    whole = job(done.stdout, "2 trainings")
    after = job(done.stdout, f"2 trainings, after job {whole}")
    page = job(done.stdout, "the page, when all have ended")
    shown = cluster.run("scontrol", "show", "job", page)
    assert "Dependency=" in shown and "gres/gpu" not in shown
    until_over(cluster, page)
    finished = [(one.run / "summary.json").is_file() for one in (first, second, third, fourth)]
    assert finished == [True, False, True, False]
    starts = [attempts(one)[-1] for one in (first, third)]
    assert starts[0].end["time"] <= starts[1].start["time"]
    folder = tmp_path / "runs" / "sweeps" / "tiny"
    told = sokhan(["status", str(folder)], SLURM_CONF=conf)
    assert f"there is no folder '{second.run}/model'" in told.stdout
    assert (folder / "report.html").is_file()
    before = (folder / "report.md").read_text(encoding="utf-8")

    stray.unlink()
    done = sokhan([*command, "--wait"], SLURM_CONF=conf)
    assert done.returncode == 0, done.stderr
    again = job(done.stdout, "1 training")
    assert job(done.stdout, f"1 training, after job {again}") not in (whole, after, again)
    assert (fourth.run / "summary.json").is_file() and len(attempts(first)) == 1
    assert (folder / "report.md").read_text(encoding="utf-8") != before
