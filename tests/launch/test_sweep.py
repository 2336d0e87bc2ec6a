"""Sweeps on this machine: real trainings of tiny models, one after the other."""

from __future__ import annotations

import grp
import json
import os
import re
import signal
import statistics
from pathlib import Path

import pytest
import yaml

from configs.beginning import Beginning
from configs.errors import InputError
from configs.grid import load_grid
from configs.study import GridMember, members
from launch.cli import main
from launch.sweep_folder import (
    OUTCOMES,
    SWEEP,
    note_outcome,
    open_sweep,
    read_outcomes,
    recorded,
    write_sweep,
)
from launch.sweeps.local import _stops_noted
from launch.sweeps.sweep import for_report, left_to_do, look
from tests.launch.launched import launched
from tests.launch.test_local import ENDLESS

SCORES = ("accuracy", "uar", "macro_f1", "weighted_f1", "loss")
LOCAL = ["--cluster", "local", "--ranks", "1"]


def write_grid(folder: Path, shards: Path, **changes: object) -> Path:
    """Two learning rates, two seeds, two steps each."""
    document = {
        "recipes": ["demo/bert_full"],
        "seeds": [0, 1],
        "settings": {
            "data.shards": str(shards),
            "model.vocabulary": 300,
            "loop.max_steps": 2,
            "data.workers": 0,
            "output.folder": str(folder / "runs"),
            "tracking.wandb": "off",
            "evaluation.train": False,
        },
        "grid": {"optim.lr": [1e-4, 3e-3]},
        **changes,
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def starts(member: GridMember) -> int:
    run = json.loads((member.run / "run.json").read_text())
    return len(run["starts"])


def cells(text: str, first: str) -> list[list[str]]:
    """Rows of the Markdown tables that begin with a cell."""
    rows = [[cell.strip() for cell in line[2:-2].split(" | ")] for line in text.splitlines()]
    return [row for row in rows if row[0] == first]


def test_one_fails_the_others_finish_and_only_that_one_is_trained_again(
    text_shards: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    grid = write_grid(tmp_path, text_shards)
    trainings = members(load_grid(grid))
    folder = tmp_path / "runs" / "sweeps" / "tiny"
    broken, others = trainings[1], [trainings[0], *trainings[2:]]
    stray = broken.run / "notes.txt"  # a folder that is no run's is not trained in
    stray.parent.mkdir(parents=True)
    stray.touch()

    assert main(["sweep", str(grid), *LOCAL, "--dry-run"]) == 0
    shown = capfd.readouterr().out
    assert "sweep tiny: 4 trainings: 4 new" in shown
    for member in trainings:
        assert re.search(rf"  new  {re.escape(member.label)} +{re.escape(str(member.run))}\n", shown)
    assert not folder.exists()

    assert main(["sweep", str(grid), *LOCAL]) == 1
    shown, errors = capfd.readouterr()
    assert "3 of 4 trainings have finished" in shown
    assert errors.splitlines()[-1].startswith(f"error: {broken.label} failed: {broken.run}: not a run")
    assert [(member.run / "summary.json").is_file() for member in trainings] == [
        member is not broken for member in trainings
    ]
    [(name, outcome)] = read_outcomes(folder).items()
    assert name == f"{broken.run.parent.name}/{broken.run.name}" and outcome.code == 2
    assert "not a run directory" in outcome.words
    listed = yaml.safe_load((folder / SWEEP).read_text())["members"]
    assert [row["label"] for row in listed] == [member.label for member in trainings]

    # A report before all have finished: by folder and by grid.
    for target in (folder, grid):
        assert main(["report", str(target)]) == 0
        shown, errors = capfd.readouterr()
        assert f"report: {folder}/comparison.html" in shown
        told = [line for line in errors.splitlines() if line.startswith("left out: ")]
        assert len(told) == 1 and f"{broken.label} ({broken.run}) is failed: error:" in told[0]
    assert broken.label in (folder / "comparison.md").read_text()

    stray.unlink()
    assert main(["sweep", str(grid), *LOCAL]) == 0
    shown = capfd.readouterr().out
    assert "sweep tiny: 4 trainings: 3 finished, 1 failed" in shown
    assert "training 1 of 1: " + broken.label in shown and "1 of 1 trainings have finished" in shown
    assert read_outcomes(folder) == {}
    assert [starts(member) for member in trainings] == [1, 1, 1, 1]
    assert all((member.run / "summary.json").is_file() for member in others)

    assert main(["sweep", str(grid), *LOCAL]) == 0
    assert "4 trainings: 4 finished" in capfd.readouterr().out
    assert [starts(member) for member in trainings] == [1, 1, 1, 1]
    check_report(folder, trainings, capfd)


def check_report(folder: Path, trainings: tuple[GridMember, ...], capfd: pytest.CaptureFixture[str]) -> None:
    """A row for each learning rate, with mean and deviation over its two seeds."""
    assert main(["report", str(folder)]) == 0
    assert "left out" not in capfd.readouterr().err
    text = (folder / "comparison.md").read_text()
    rows = [row for row in cells(text, "bert_full") if row[1].startswith("optim.lr")]
    assert [row[1] for row in rows] == ["optim.lr 0.0001", "optim.lr 0.003"]
    for member in trainings:
        [scores, _] = cells(text, f"bert_full/{member.run.name}")
        assert scores[3:5] == [f"optim.lr {member.recipe.optim.lr}", str(member.recipe.seed)]
    for rate, row in zip((1e-4, 3e-3), rows, strict=True):
        runs = [m.run for m in trainings if m.recipe.optim.lr == rate]
        tests = [json.loads((r / "eval/metrics.json").read_text())["splits"]["test"] for r in runs]
        assert row[3] == "0, 1" and len(runs) == 2
        for cell, key in zip(row[4:], SCORES, strict=True):
            values = [test[key] for test in tests]
            assert cell == f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}", key


def test_ctrl_c_stops_after_a_save_and_starts_no_other(text_shards: Path, tmp_path: Path) -> None:
    grid = write_grid(tmp_path, text_shards, grid={})
    first, second = members(load_grid(grid), (), ENDLESS)
    metrics = first.run / "metrics.jsonl"
    command = ["launch", "sweep", str(grid), *LOCAL, *ENDLESS]
    with launched(command, tmp_path / "output.txt") as started:
        started.until(lambda: metrics.is_file() and metrics.stat().st_size > 0)
        started.process.send_signal(signal.SIGINT)
        assert started.wait() == 75, started.output
        assert not started.marked()
    assert "stopping after a save" in started.output
    assert "training 2" not in started.output and not second.run.exists()
    assert list((first.run / "checkpoints").glob("step-*"))
    # It goes on where it was: neither finished nor failed.
    folder = tmp_path / "runs" / "sweeps" / "tiny"
    found, _ = look([recorded(first), recorded(second)], folder)
    assert [status.state for status in found] == ["stopped", "new"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_a_training_has_no_use_for_stops_the_sweep(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with _stops_noted() as stopped:
        inner = signal.signal(number, lambda number, frame: None)  # as while a training runs
        assert not stopped()
        os.kill(os.getpid(), number)
        signal.signal(number, inner)
        assert stopped() and stopped()
    assert signal.getsignal(number) == before


def finish(member: GridMember, signature: str = "") -> None:
    """A run directory as far as a sweep looks into it."""
    member.run.mkdir(parents=True)
    text = f"# signature: {signature or recorded(member).signature}\n"
    (member.run / "config.yaml").write_text(text)
    (member.run / "summary.json").write_text('{"finished": true}')


def test_what_is_left_to_do(text_shards: Path, tmp_path: Path) -> None:
    trainings = members(load_grid(write_grid(tmp_path, text_shards)))
    folder = tmp_path / "runs" / "sweeps" / "tiny"
    folder.mkdir(parents=True)
    done, other, failed, new = trainings
    finish(done)
    finish(other, "0" * 16)
    note_outcome(folder, failed.run, 1, "Traceback\nerror: loss is not finite")
    found, note = look([recorded(member) for member in trainings], folder)
    assert note == ""
    assert [status.state for status in found] == ["finished", "failed", "failed", "new"]
    assert "finished run with other settings" in found[1].detail
    assert found[2].detail == "error: loss is not finite"
    assert left_to_do(trainings, found, Beginning()) == [other, failed, new]
    assert left_to_do(trainings, found, Beginning(overwrite=True)) == list(trainings)
    finish(failed)  # by `sokhan train`, say: the run directory is the truth
    found, _ = look([recorded(member) for member in trainings], folder)
    assert found[2].state == "finished"


def test_a_sweeps_folder_says_what_it_consists_of(text_shards: Path, tmp_path: Path) -> None:
    path = write_grid(tmp_path, text_shards)
    grid = load_grid(path)
    folder = tmp_path / "runs" / "sweeps" / "tiny"
    fewer = members(load_grid(write_grid(tmp_path, text_shards, seeds=[0])))
    trainings = members(grid, (), ["--loop.epochs", "2"])
    assert write_sweep(folder, grid, fewer, "typed") == (0, 0)
    assert [m.run for m in open_sweep(folder)[1]] == [m.run for m in fewer]
    path.write_text(path.read_text().replace("- 0\n", "- 0\n- 1\n"))  # what was asked last, counts
    assert [m.run for m in open_sweep(path)[1]] == [m.run for m in fewer]
    assert write_sweep(folder, grid, trainings, "typed") == (4, 2)
    assert [m.run for m in open_sweep(path)[1]] == [m.run for m in trainings]
    # Moved with its runs, it still finds them; the grid alone knows nothing of the command line.
    moved = tmp_path / "moved"
    (tmp_path / "runs").rename(moved)
    found = open_sweep(moved / "sweeps" / "tiny")[1]
    assert [m.signature for m in found] == [recorded(m).signature for m in trainings]
    assert found[0].run == moved / trainings[0].run.parent.name / trainings[0].run.name
    assert [m.run for m in open_sweep(path)[1]] == [m.run for m in members(grid)]
    (moved / "sweeps" / "tiny" / SWEEP).write_text("members: 3\n")
    with pytest.raises(InputError, match="sweep.yaml: damaged"):
        open_sweep(moved / "sweeps" / "tiny")
    (moved / "sweeps" / "tiny" / OUTCOMES).write_text("[")
    with pytest.raises(InputError, match="outcomes.json: damaged"):
        read_outcomes(moved / "sweeps" / "tiny")


@pytest.mark.parametrize("shared", [False, True])
def test_a_sweeps_folder_is_closed_like_a_runs(shared: bool, text_shards: Path, tmp_path: Path) -> None:
    grid = load_grid(write_grid(tmp_path, text_shards))
    group = grp.getgrgid(os.getegid()).gr_name
    trainings = members(grid, (), ["--output.group", group] if shared else [])
    folder = tmp_path / "runs" / "sweeps" / "tiny"
    before = os.umask(0o022)
    try:
        write_sweep(folder, grid, trainings, "typed")
        note_outcome(folder, trainings[0].run, 1, "error: no room")
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o7777 for path in (folder, folder / SWEEP, folder / OUTCOMES)]
    assert modes == ([0o2770, 0o660, 0o660] if shared else [0o700, 0o600, 0o600])


def test_reports_of_nothing_finished_are_refused(text_shards: Path, tmp_path: Path) -> None:
    path = write_grid(tmp_path, text_shards)
    with pytest.raises(InputError, match=r"none of 4 trainings has finished; .* is new"):
        for_report([path])
    assert for_report([tmp_path]).runs == [tmp_path]  # a run directory, for the report to judge


def test_what_is_no_run_is_told_with_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("sweeps/tried/sweep.yaml", "bert/one/config.yaml", "bert/two/config.yaml"):
        (tmp_path / "runs" / file).parent.mkdir(parents=True)
        (tmp_path / "runs" / file).touch()
    for path, told in {
        "runs/sweeps/farstail-small": "no sweep was trained here yet (no sweep.yaml); `sokhan sweep "
        "farstail/small` does; sweeps there: runs/sweeps/tried",
        "runs/sweeps/mine": "no sweep was trained here yet (no sweep.yaml); `sokhan sweep GRID` does; sweeps",
        "runs": "no run directory, but a folder of them; name one or several, such as runs/sweeps/tried, "
        "runs/bert/one, runs/bert/two",
        "runs/bert": "no run directory, but a folder of them; name one or several, such as runs/bert/one, ",
        "runs/sweeps": "no run directory, but a folder of them; name one or several, such as ",
        "farstail/smal": "no such run directory, sweep or grid; did you mean farstail/small?",
        "nothing": "no such run directory; a run lies in runs/<recipe>/<name>, a sweep in runs/sweeps/<name>",
    }.items():
        assert main(["report", path]) == 2
        assert capsys.readouterr().err.startswith(f"error: {path}: {told}")


def test_a_dry_run_says_where_an_encoder_that_is_not_here_comes_from(
    text_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # no SLURM
    assert main(["sweep", "farstail/small", "--dry-run", "--data.shards", str(text_shards)]) == 0
    told = capsys.readouterr().out
    assert "expected: 15 not known: their encoder models/bert_tiny_pairs is not there yet\n" in told
    export = "sokhan export runs/bert_tiny_pairs/... --out models/bert_tiny_pairs"
    assert f"not on this machine yet: models/bert_tiny_pairs; make it with `{export}`\n" in told
    own = ["--model.pretrained", "own/base"]
    assert main(["sweep", "farstail/small", "--dry-run", "--data.shards", str(text_shards), *own]) == 0
    told = capsys.readouterr().out
    assert "own/base (its size is guessed from its name); a model of the hub is fetched with" in told
    assert "`sokhan download model own/base`" in told and "`sokhan export RUN --out own/base`" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "takes one grid; those that come with sokhan: demo/regimes"),
        (["demo/regimes", "demo/regimes"], "takes one grid"),
        (["demo/hubert"], "a recipe, not a grid"),
        (["GRID", "--at_most", "0"], "--at_most 0"),
        (["GRID", "--optim.lrr", "1"], "unknown key 'optim.lrr'"),
        (["GRID", "--data.shards", "nowhere"], "optim.lr=0.0001 seed 0: nowhere: not a packed corpus"),
        (["GRID", "--data.split", "nowhere"], "optim.lr=0.0001 seed 0: "),
        (["GRID", "--ranks", "3"], "4 / 3 = 1.33"),
        (["GRID", "--resume", "."], "--resume PATH goes with one recipe"),
    ],
)
def test_wrong_input_starts_nothing(
    arguments: list[str],
    message: str,
    text_shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    grid = str(write_grid(tmp_path, text_shards))
    typed = [grid if word == "GRID" else word for word in arguments]
    assert main(["sweep", *typed, "--cluster", "local"]) == 2
    errors = capsys.readouterr().err
    assert re.search(re.escape(message), errors) and errors.count("\n") == 1
    assert not (tmp_path / "runs").exists()
