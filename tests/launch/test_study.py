"""Studies on this machine: what goes on from another model, what is trained once, and the page."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import yaml

from configs.beginning import Beginning
from configs.cluster import load_cluster
from configs.grid import load_grid
from configs.load import AnyRecipe, load_recipe, signature
from configs.study import GridMember, members
from launch.cli import build_parser, main
from launch.commands.common import split_recipes
from launch.slurm.submission import Submission
from launch.slurm.submit import Training, _write
from launch.sweep_folder import read_outcomes, short_name, write_sweep
from launch.sweeps.command import train_command
from launch.sweeps.slurm import levels
from launch.sweeps.study_file import STUDY, is_study, write_study_file
from launch.sweeps.sweep import Sweep, plan_sweep

LOCAL = ["--cluster", "local", "--ranks", "1"]


def write_study(folder: Path, shards: Path) -> Path:
    """A model, two that go on from it, and the first of them again in a part of its own."""
    frozen = {"recipes": ["demo/bert_freeze"], "seeds": [0]}
    start = {"start_from": {"part": "whole", "recipe": "demo/bert_full"}}
    layers = {"grid": {"model.regime.layers": [1, 2]}, "curve": "model.regime.layers"}
    document = {
        "title": "Tiny",
        "method": "Two steps each.",
        "settings": {
            "data.shards": str(shards),
            "model.vocabulary": 300,
            "loop.max_steps": 2,
            "data.workers": 0,
            "output.folder": str(folder / "runs"),
            "tracking.wandb": "off",
            "evaluation.train": False,
        },
        "parts": [
            {"name": "frozen", **frozen, **start, "title": "Frozen", "text": "why"},
            {"name": "layers", **frozen, **start, **layers},
            {"name": "whole", "recipes": ["demo/bert_full"], "seeds": [0]},
        ],
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def test_what_a_failed_training_is_the_start_of_waits_for_it(
    text_shards: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    grid = write_study(tmp_path, text_shards)
    folder = tmp_path / "runs" / "sweeps" / "tiny"
    whole, one, two = members(load_grid(grid))
    assert [one.part, two.part, whole.part] == ["frozen", "layers", "whole"]
    stray = whole.run / "notes.txt"  # a folder that is no run's is not trained in
    stray.parent.mkdir(parents=True)
    stray.touch()

    assert main(["sweep", str(grid), *LOCAL, "--dry-run"]) == 0
    shown = capfd.readouterr().out
    assert "sweep tiny: 3 trainings: 3 new" in shown and "expected: " in shown
    assert not folder.exists()

    assert main(["sweep", str(grid), *LOCAL]) == 1
    shown, errors = capfd.readouterr()
    assert "0 of 3 trainings have finished" in shown
    reason = f"error: it goes on from {whole.run}, which has not finished"
    assert errors.count(f"{reason}\n") == 2
    outcomes = read_outcomes(folder)
    assert [outcomes[short_name(m.run)].words for m in (one, two)] == [reason] * 2
    assert not one.run.exists() and not two.run.exists()
    assert "error: no page: " in errors and not (folder / "report.html").exists()

    stray.unlink()
    assert main(["sweep", str(grid), *LOCAL]) == 0
    shown = capfd.readouterr().out
    order = [shown.index(f"of 3: {member.label}") for member in (whole, one, two)]
    assert order == sorted(order) and "3 of 3 trainings have finished" in shown
    assert read_outcomes(folder) == {}
    assert f"page: {folder}/report.html" in shown
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "# Tiny" in page and "Frozen" in page
    for member in (one, two):
        config = yaml.safe_load((member.run / "config.yaml").read_text())
        assert config["model"]["pretrained"] == str(whole.run / "model")

    typed = [(member.run / "command.txt").read_text() for member in (whole, one, two)]
    assert len(set(typed)) == 3
    for member, text in zip((whole, one, two), typed, strict=True):
        assert recipe_of(text) == member.recipe, text
    check_page_without_training(grid, folder, capfd)
    grid.unlink()  # the folder says it all
    assert main(["report", str(folder)]) == 0
    assert f"report: {folder}/report.html" in capfd.readouterr().out


def recipe_of(command: str) -> AnyRecipe:
    """What a `sokhan train` command line trains."""
    program, *words = shlex.split(command)
    assert program == "sokhan"
    [name], rest = split_recipes(words)
    options, overrides = build_parser().parse_known_args(rest)
    assert options.command == "train"
    return load_recipe(name, overrides)


def test_a_command_that_trains_one_member_alone(text_shards: Path, tmp_path: Path) -> None:
    """The values of the grid, of the site and of the command line, whatever their form."""
    regimes = [{"kind": "full"}, {"kind": "freeze_first", "layers": 1}]
    settings = {"data.shards": str(text_shards), "output.folder": f"{tmp_path}/it's here"}
    document = {
        "settings": settings,
        "parts": [
            {
                "name": "first",
                "recipes": ["demo/bert_full"],
                "seeds": [0, 1],
                "grid": {"model.regime": regimes, "optim.lr+optim.warmup": [[1e-5, 0.1], [3e-5, 0.2]]},
            },
            {
                "name": "on",
                "recipes": ["demo/bert_freeze"],
                "seeds": [0, 1],
                "start_from": {"part": "first", "recipe": "demo/bert_full"},
                "grid": {"model.regime": regimes, "optim.lr": [3e-5]},
            },
        ],
    }
    path = tmp_path / "forms.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    site, typed = ["--tracking.entity", "a b"], ["--loop.epochs", "2", "--loop.max_steps=null"]
    trainings = members(load_grid(path), site, typed)
    assert len(trainings) == 12
    for member in trainings:
        for ranks in (None, 2):
            found = recipe_of(train_command(member, ranks))
            assert found == member.recipe and signature(found) == signature(member.recipe)
    assert len({train_command(member) for member in trainings}) == 12


def test_a_job_of_a_sweep_records_its_own_command(text_shards: Path, tmp_path: Path) -> None:
    trainings = members(load_grid(write_study(tmp_path, text_shards)))
    rows = [Training(m.recipe, Beginning(), m.source, train_command(m)) for m in trainings[:2]]
    (tmp_path / "sent").mkdir()
    _write(tmp_path / "sent", rows, load_cluster(), "sokhan sweep tiny.yaml")
    submission = Submission(tmp_path / "sent")
    assert submission.settings["command"] == "sokhan sweep tiny.yaml"
    kept = [member.command for member in submission.members]
    assert [recipe_of(command) for command in kept] == [m.recipe for m in trainings[:2]]


def check_page_without_training(grid: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """All has finished: the page is written for what the grid says now, and a failure is told."""
    command = ["sweep", str(grid), *LOCAL]
    page, summaries = folder / "report.md", sorted(folder.parents[1].glob("*/*/summary.json"))
    before = [path.stat().st_mtime_ns for path in summaries]
    page.unlink()  # as if the command had been killed before it
    assert main([*command, "--dry-run"]) == 0 and not page.exists()
    assert main(command) == 0
    shown = capfd.readouterr().out
    assert "3 trainings: 3 finished" in shown and "left to train" not in shown
    assert f"page: {folder}/report.html" in shown
    assert "# Tiny" in page.read_text(encoding="utf-8")

    document = yaml.safe_load(grid.read_text())
    document |= {"title": "Renamed", "baselines": True}
    document["parts"].append({"name": "more", "recipes": ["demo/bert_full"], "seeds": [0]})
    grid.write_text(yaml.safe_dump(document))
    assert main(command) == 0
    text = page.read_text(encoding="utf-8")
    assert "# Renamed" in text and "## Baselines" in text and "Majority class" in text
    assert [part["name"] for part in json.loads((folder / STUDY).read_text())["parts"]][-1] == "more"

    page.unlink()
    page.mkdir()  # it cannot be written
    capfd.readouterr()
    assert main(command) == 1
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("error: no page: ") and str(page) in line
    page.rmdir()
    assert main(command) == 0 and page.is_file()
    assert [path.stat().st_mtime_ns for path in summaries] == before


def planned(path: Path) -> Sweep:
    return plan_sweep(load_grid(path), (), ())


def test_study_json_says_what_the_page_needs(text_shards: Path, tmp_path: Path) -> None:
    path = write_study(tmp_path, text_shards)
    sweep = planned(path)
    write_sweep(sweep.folder, sweep.grid, sweep.trainings, "typed")
    write_study_file(sweep.folder, sweep.grid, sweep.parts, "typed")
    document = json.loads((sweep.folder / STUDY).read_text(encoding="utf-8"))
    assert (document["title"], document["method"]) == ("Tiny", "Two steps each.")
    assert document["grid"] == path.read_text() and document["command"] == "typed"
    frozen, layers, whole = document["parts"]
    assert [part["name"] for part in document["parts"]] == ["frozen", "layers", "whole"]
    assert (frozen["title"], frozen["text"], layers["title"]) == ("Frozen", "why", "layers")
    assert (frozen["curve"], layers["curve"]) == (None, "model.regime.layers")
    assert frozen["start_from"] == {"part": "whole", "recipe": "demo/bert_full"}
    [first] = frozen["members"]
    assert first["run"] == layers["members"][0]["run"]
    assert first["source"] == whole["members"][0]["run"] == short_name(sweep.trainings[0].run)
    assert [row["varied"] for row in layers["members"]] == [
        {"model.regime.layers": 1},
        {"model.regime.layers": 2},
    ]
    assert layers["members"][1]["label"] == "bert_freeze model.regime.layers=2 seed 0"

    plain = {**yaml.safe_load(path.read_text()), "recipes": ["demo/bert_full"], "name": "tiny"}
    for key in ("parts", "title", "method"):
        del plain[key]
    path.write_text(yaml.safe_dump(plain))
    sweep = planned(path)
    write_study_file(sweep.folder, sweep.grid, sweep.parts, "typed")
    assert not is_study(sweep.folder)  # a sweep of the same name that has parts no more


def test_arrays_of_what_can_train_at_once(text_shards: Path, tmp_path: Path) -> None:
    whole, one, two = members(load_grid(write_study(tmp_path, text_shards)))

    def told(left: list[GridMember], in_hand: dict[Path, str]) -> list[list[str]]:
        return [[member.part for member in level] for level in levels(left, in_hand)]

    assert told([whole, one, two], {}) == [["whole"], ["frozen", "layers"]]
    assert told([one, two], {}) == [["frozen", "layers"]]  # the first has finished
    assert told([one], {whole.run: "7_0"}) == [["frozen"]]
