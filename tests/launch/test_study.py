"""Studies on this machine: what goes on from another model, what is trained once, and the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from configs.grid import load_grid
from configs.study import GridMember, members
from launch.cli import main
from launch.sweeps.folder import read_outcomes, short_name, write_sweep
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
            "data.shards": str(shards), "model.vocabulary": 300, "loop.max_steps": 2,
            "data.workers": 0, "output.folder": str(folder / "runs"), "tracking.wandb": "off",
            "evaluation.train": False,
        },
        "parts": [
            {"name": "frozen", **frozen, **start, "title": "Frozen", "text": "why"},
            {"name": "layers", **frozen, **start, **layers},
            {"name": "whole", "recipes": ["demo/bert_full"], "seeds": [0]},
        ],
    }  # fmt: skip
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def test_what_a_failed_training_is_the_start_of_waits_for_it(
    text_shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
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
    assert "no page: " in errors and not (folder / "report.html").exists()

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

    assert main(["sweep", str(grid), *LOCAL]) == 0
    shown = capfd.readouterr().out
    assert "3 trainings: 3 finished" in shown and "left to train" not in shown
    grid.unlink()  # the folder says it all
    assert main(["report", str(folder)]) == 0
    assert f"report: {folder}/report.html" in capfd.readouterr().out


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
        {"model.regime.layers": 1}, {"model.regime.layers": 2},
    ]  # fmt: skip
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
