"""Runs that stop and go on: as if they had not, from the checkpoint that was asked for, or refused."""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trainers.checkpoints.saving
import trainers.loop
from configs.beginning import Beginning
from configs.load import load_recipe
from configs.pretrained import folder_digest, read_pretrained
from data_shards.corpora.synthetic_text import synthetic_farstail
from data_shards.index import open_index
from data_shards.pack import PackSettings, pack
from data_shards.protocols import official_split
from data_shards.splits import save_split
from data_shards.text import TextSteps
from tests.conftest import REPOSITORY
from tests.ranks import RankPool
from tests.trainers.test_run import lines, text_recipe
from trainers.checkpoints.checkpoint import list_checkpoints
from trainers.checkpoints.resume import find_checkpoints
from trainers.ranks.stopping import Stopped
from trainers.ranks.world import World
from trainers.run import train

Ranks = Callable[[int], RankPool]
AUTO = Beginning()
SETTINGS = (
    "--output.name",
    "one",
    "--checkpoint.every_steps",
    "2",
    "--loop.epochs",
    "3",
    "--model.dropout",
    "0.1",
    "--optim.lr",
    "1e-3",
)


def start(world: World, recipe: list[str], beginning: Beginning = AUTO, stop_after: int | None = None) -> str:
    """Train ``demo/bert_full``; on the last rank a stop is asked for at its n-th control word."""
    words = itertools.count()
    asked = trainers.loop.stop_asked
    if stop_after is not None and world.rank == world.size - 1:
        trainers.loop.stop_asked = lambda: next(words) >= stop_after
    try:
        return str(train(load_recipe("demo/bert_full", recipe), world, beginning))
    except Stopped as stopped:
        return f"stopped at {stopped}"
    finally:
        trainers.loop.stop_asked = asked


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def whole(ranks: Ranks, text_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run without any stop."""
    recipe = text_recipe(text_shards, tmp_path_factory.mktemp("whole"), *SETTINGS)
    return Path(ranks(2).run(start, recipe)[0])


def assert_same(folder: Path, whole: Path) -> None:
    for name in ("metrics.jsonl", "model/model.safetensors", "eval/predictions-test.csv"):
        assert sha(folder / name) == sha(whole / name), name


@pytest.mark.parametrize("stops", [(0, 3, 4, 1), (8, 6, 9), (2, 2, 2, 2, 2, 14)])
def test_stopped_runs_go_on_as_if_they_had_not(
    stops: tuple[int, ...], ranks: Ranks, text_shards: Path, whole: Path, tmp_path: Path
) -> None:
    """At any word: between steps, in a validation, in the last evaluation."""
    recipe = text_recipe(text_shards, tmp_path, *SETTINGS)
    for stop in stops:
        answers = set(ranks(2).run(start, recipe, AUTO, stop))
        assert len(answers) == 1 and answers.pop().startswith("stopped at step")
    folder = Path(ranks(2).run(start, recipe)[0])
    assert_same(folder, whole)
    run = json.loads((folder / "run.json").read_text())
    assert len(run["starts"]) == len(stops) + 1
    assert run["starts"][0]["checkpoint"] is None and run["starts"][-1]["checkpoint"]


def test_start_weights_are_those_of_the_first_start(
    ranks: Ranks, whole: Path, text_shards: Path, tmp_path: Path
) -> None:
    """Also where the folder they were read from has changed before the run went on."""
    encoder = tmp_path / "encoder"
    shutil.copytree(whole / "model", encoder)
    recipe = text_recipe(text_shards, tmp_path, *SETTINGS, "--model.pretrained", str(encoder))
    before = folder_digest(encoder)
    assert ranks(1).run(start, recipe, AUTO, 3) == ["stopped at step 3"]
    (encoder / "another").write_text("file")
    [folder] = ranks(1).run(start, recipe)
    assert read_pretrained(Path(folder)) == (encoder, before) and folder_digest(encoder) != before


def test_what_a_finished_run_keeps(whole: Path) -> None:
    kept = list_checkpoints(whole / "checkpoints")
    best = json.loads((whole / "eval" / "metrics.json").read_text())["best"]
    assert {path.name for path in kept} >= {f"step-{best['step']}-evaluated"}
    assert 2 <= len(kept) <= 3
    assert not list(whole.glob("checkpoints/*/optimizer-*"))
    saves = [line for line in lines(whole / "perf.jsonl") if line.get("kind") == "save"]
    steps = max(line["step"] for line in lines(whole / "metrics.jsonl"))
    assert len(saves) == steps // 2 + 3
    assert all(save["bytes"] > 0 and save["seconds"] >= save["stall"] > 0 for save in saves)


def order_of_the_end(world: World, recipe: list[str]) -> list[str]:
    """What is put on the disk and what is dropped when a run ends, in order."""
    seen: list[str] = []
    fsync, drop = os.fsync, trainers.checkpoints.saving.remove_optimizer

    def noted_fsync(descriptor: int) -> None:
        seen.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def noted_drop(folder: Path) -> None:
        seen.append("drop")
        drop(folder)

    os.fsync, trainers.checkpoints.saving.remove_optimizer = noted_fsync, noted_drop
    try:
        train(load_recipe("demo/bert_full", recipe), world, AUTO)
    finally:
        os.fsync, trainers.checkpoints.saving.remove_optimizer = fsync, drop
    return seen


def test_a_run_is_finished_on_the_disk_before_anything_is_dropped(
    ranks: Ranks, text_shards: Path, tmp_path: Path
) -> None:
    """Else a power cut could leave a run that is neither finished nor to be gone on with."""
    recipe = text_recipe(text_shards, tmp_path, *SETTINGS, "--loop.max_steps", "1")
    [seen] = ranks(1).run(order_of_the_end, recipe)
    assert seen.index("summary.json") < seen.index("one") < seen.index("drop")


def test_optimizer_state_can_be_kept(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    recipe = text_recipe(text_shards, tmp_path, *SETTINGS, "--checkpoint.keep", "9")
    newest = [*recipe, "--checkpoint.optimizer", "newest"]
    ranks(2).run(start, newest, AUTO, 7)
    folder = tmp_path / "bert_full" / "one"
    assert len(list_checkpoints(folder / "checkpoints")) > 2
    assert len({path.parent for path in folder.glob("checkpoints/*/optimizer-*")}) == 1
    ranks(2).run(start, [*recipe, "--checkpoint.optimizer", "always"])
    assert len({path.parent for path in folder.glob("checkpoints/*/optimizer-*")}) > 2


def test_changed_settings_are_refused_with_the_difference(
    ranks: Ranks, text_shards: Path, tmp_path: Path
) -> None:
    recipe = text_recipe(text_shards, tmp_path, *SETTINGS)
    ranks(2).run(start, recipe, AUTO, 6)
    folder = tmp_path / "bert_full" / "one"
    before = {path: sha(path) for path in folder.glob("checkpoints/*/*")}
    metrics = sha(folder / "metrics.jsonl")
    changed = [*recipe, "--optim.lr", "2e-3", "--optim.clip", "0.5"]
    with pytest.raises(RuntimeError, match=r"optim.clip 1.0 -> 0.5, optim.lr 0.001 -> 0.002"):
        ranks(2).run(start, changed)
    batches = [*recipe, "--batching.items", "16"]
    with pytest.raises(RuntimeError, match=r"within epoch \d, whose batches are others now"):
        ranks(2).run(start, batches, Beginning(force=True))
    larger = [*recipe, "--model.size", "mini"]
    with pytest.raises(RuntimeError, match="is of another model: 'bert"):
        ranks(2).run(start, larger, Beginning(force=True))
    other = tmp_path / "other"
    corpus = synthetic_farstail(180, seed=2, steps=TextSteps(False, False, False))
    pack(corpus, other, PackSettings(processes=1))
    save_split(open_index(other), official_split(open_index(other)))
    with pytest.raises(RuntimeError, match="trained on other data"):
        ranks(2).run(start, [*recipe, "--data.shards", str(other)])
    assert {path: sha(path) for path in folder.glob("checkpoints/*/*")} == before
    assert sha(folder / "metrics.jsonl") == metrics
    assert ranks(2).run(start, changed, Beginning(force=True)) == [str(folder)] * 2


def test_other_ranks_stages_and_places_are_no_change(
    ranks: Ranks, text_shards: Path, whole: Path, tmp_path: Path
) -> None:
    recipe = text_recipe(text_shards, tmp_path, *SETTINGS)
    ranks(2).run(start, [*recipe, "--engine.zero", "2"], AUTO, 5)
    moved = tmp_path / "moved"
    shutil.copytree(text_shards, moved)
    recipe += ["--data.shards", str(moved), "--engine.zero", "1"]
    folder = Path(ranks(1).run(start, recipe)[0])
    for one, other in zip(lines(folder / "metrics.jsonl"), lines(whole / "metrics.jsonl"), strict=True):
        assert (one["kind"], one["step"]) == (other["kind"], other["step"])
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_the_start_can_be_chosen(ranks: Ranks, text_shards: Path, whole: Path, tmp_path: Path) -> None:
    recipe = text_recipe(text_shards, tmp_path, *SETTINGS, "--checkpoint.keep", "9")
    ranks(2).run(start, recipe, AUTO, 9)
    folder = tmp_path / "bert_full" / "one"
    newest, *_, oldest = list_checkpoints(folder / "checkpoints")

    # An older one of the same run: what came after it is done again.
    ranks(2).run(start, recipe, Beginning(resume=str(oldest)), 1)
    assert newest.name not in {path.name for path in list_checkpoints(folder / "checkpoints")}
    with pytest.raises(RuntimeError, match="no checkpoint there"):
        ranks(2).run(start, recipe, Beginning(resume=str(tmp_path / "nowhere")))

    # Another run's: a run of its own, with the other's past.
    branch = [*recipe, "--output.name", "branch"]
    ranks(2).run(start, branch, Beginning(resume=str(folder)), 3)
    with pytest.raises(RuntimeError, match="has checkpoints of its own"):
        ranks(2).run(start, branch, Beginning(resume=str(folder)))
    assert_same(Path(ranks(2).run(start, branch)[0]), whole)
    assert_same(Path(ranks(2).run(start, recipe)[0]), whole)

    # From the beginning.
    again = [*recipe, "--output.name", "again"]
    ranks(2).run(start, again, AUTO, 6)
    assert_same(Path(ranks(2).run(start, again, Beginning(resume="never"))[0]), whole)
    run = json.loads((tmp_path / "bert_full" / "again" / "run.json").read_text())
    assert [begun["checkpoint"] for begun in run["starts"]] == [None]


def test_the_start_is_named_from_within_its_run(
    ranks: Ranks, text_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path's last part says too little: what belongs to a checkpoint lies above it."""
    recipe = text_recipe(text_shards, tmp_path, *SETTINGS)
    ranks(1).run(start, recipe, AUTO, 7)
    checkpoints = tmp_path / "bert_full" / "one" / "checkpoints"
    newest, before, *_ = list_checkpoints(checkpoints)
    loaded = load_recipe("demo/bert_full", recipe)
    for folder, typed in (
        (checkpoints, before.name),
        (newest, f"../{before.name}"),
        (checkpoints.parent, f"checkpoints/{before.name}"),
    ):
        monkeypatch.chdir(folder)
        assert find_checkpoints(loaded, Beginning(resume=typed)) == [before]
    monkeypatch.chdir(checkpoints)
    assert find_checkpoints(loaded, Beginning(resume=".."))[0] == newest


def test_damage_is_named_and_never_means_step_0(
    ranks: Ranks, text_shards: Path, whole: Path, tmp_path: Path
) -> None:
    recipe = text_recipe(text_shards, tmp_path, *SETTINGS)
    ranks(2).run(start, recipe, AUTO, 7)
    folder = tmp_path / "bert_full" / "one"
    newest, before, *_ = list_checkpoints(folder / "checkpoints")
    weights = newest / "weights-00001.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    with pytest.raises(RuntimeError, match="weights-00001.safetensors: damaged"):
        ranks(2).run(start, [*recipe, "--checkpoint.damaged", "refuse"])
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert_same(Path(ranks(2).run(start, recipe)[0]), whole)
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    for path in list_checkpoints(folder / "checkpoints"):
        (path / "SHA256SUMS").unlink()
    with pytest.raises(RuntimeError, match="no checkpoint can be used: .*SHA256SUMS.*--resume never"):
        ranks(2).run(start, recipe)
    assert list_checkpoints(folder / "checkpoints")


def test_lost_metrics_are_told(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    recipe = text_recipe(text_shards, tmp_path, *SETTINGS)
    ranks(2).run(start, recipe, AUTO, 6)
    metrics = tmp_path / "bert_full" / "one" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines()[0] + "\n")
    with pytest.raises(RuntimeError, match="metrics.jsonl: has .* bytes, but had"):
        ranks(2).run(start, recipe)


KILLED = """
import importlib, os, signal, sys
from trainers.__main__ import main
module, name = sys.argv.pop(1), sys.argv.pop(1)
setattr(importlib.import_module(module), name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
main()
"""
"""One rank that is killed when it comes to a function."""


def killed_at(place: str, recipe: list[str], beginning: Beginning, job: str = "") -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED,
            *place.rsplit(".", 1),
            "--config",
            "demo/bert_full",
            *beginning.flags(),
            *recipe,
        ],
        cwd=REPOSITORY,
        timeout=300,
        env={**os.environ, "DS_ACCELERATOR": "cpu", "SOKHAN_JOB": job},
    )
    assert done.returncode == -signal.SIGKILL


STOPPED_AT = """
import importlib, os, signal, sys
from trainers.__main__ import main
module, name = sys.argv.pop(1), sys.argv.pop(1)
place = importlib.import_module(module)
original = getattr(place, name)
def stopped(*given, **named):
    os.kill(os.getpid(), signal.SIGTERM)
    return original(*given, **named)
setattr(place, name, stopped)
main()
"""
"""One rank that is asked to stop when it comes to a function."""


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("trainers.run.load_split", "stopped before there was anything to save: "),
        ("trainers.run.describe_run", "stopped before there was anything to save: step 0; "),
        ("trainers.loop.train_step", "stopped after saving: step 1; the same command goes on"),
    ],
    ids=["opening", "opened", "first step"],
)
def test_a_training_says_whether_anything_was_saved(
    place: str, told: str, text_shards: Path, tmp_path: Path
) -> None:
    recipe = text_recipe(text_shards, tmp_path, *SETTINGS)
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_AT, *place.rsplit(".", 1), "--config", "demo/bert_full", *recipe],
        cwd=REPOSITORY,
        timeout=300,
        capture_output=True,
        text=True,
        env={**os.environ, "DS_ACCELERATOR": "cpu"},
    )
    assert done.returncode == 75, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith(told), last
    saved = list_checkpoints(tmp_path / "bert_full" / "one" / "checkpoints")
    assert bool(saved) == ("after saving" in told)
    assert saved or last.endswith("; the same command starts it again")


def let_go(_: World) -> None:
    """A start that was refused holds its run directory as long as its error's traceback lives."""
    gc.collect()


def starts(folder: Path) -> list[dict[str, Any]]:
    run = folder / "run.json"
    return list(json.loads(run.read_text())["starts"]) if run.is_file() else []


@pytest.mark.parametrize(
    "place",
    ["trainers.opening.rewind", "trainers.checkpoints.rewind.sync", "trainers.opening.list_start"],
    ids=["before", "within", "after"],
)
def test_a_start_killed_while_it_takes_over_another_run_can_be_made_again(
    place: str, ranks: Ranks, text_shards: Path, whole: Path, tmp_path: Path
) -> None:
    """A job goes on without its flags as soon as a start of its own is listed."""
    recipe = text_recipe(text_shards, tmp_path, *SETTINGS)
    ranks(2).run(start, recipe, AUTO, 9)
    branch = [*recipe, "--output.name", "branch"]
    begun = Beginning(resume=str(tmp_path / "bert_full" / "one"))
    folder = tmp_path / "bert_full" / "branch"
    killed_at(place, branch, begun, "job/0")
    assert starts(folder) == []
    ranks(2).run(start, branch, begun, 1)
    newest = list_checkpoints(tmp_path / "bert_full" / "one" / "checkpoints")[0]
    assert [line["checkpoint"] for line in starts(folder)] == [str(newest)]
    assert_same(Path(ranks(2).run(start, branch)[0]), whole)


def test_a_start_killed_while_it_replaces_a_run_can_be_made_again(
    ranks: Ranks, text_shards: Path, whole: Path, tmp_path: Path
) -> None:
    recipe = text_recipe(text_shards, tmp_path, *SETTINGS)
    shutil.copytree(whole, tmp_path / "bert_full" / "one")
    begun = Beginning(overwrite=True)
    killed_at("trainers.opening.describe_start", recipe, begun, "job/0")
    assert starts(tmp_path / "bert_full" / "one") == []
    killed_at("trainers.run.describe_run", recipe, begun, "job/0")
    assert [line["job"] for line in starts(tmp_path / "bert_full" / "one")] == ["job/0"]
    assert_same(Path(ranks(2).run(start, recipe)[0]), whole)


def test_what_was_forced_once_goes_on_until_it_is_saved(
    ranks: Ranks, text_shards: Path, tmp_path: Path
) -> None:
    recipe = text_recipe(text_shards, tmp_path, *SETTINGS)
    ranks(2).run(start, recipe, AUTO, 6)
    folder, control = (tmp_path / "bert_full" / name for name in ("one", "control"))
    shutil.copytree(folder, control)
    changed = [*recipe, "--optim.lr", "2e-3"]
    forced = Beginning(force=True)
    ranks(2).run(start, [*changed, "--output.name", "control"], forced)

    killed_at("trainers.opening.list_start", changed, forced, "job/0")
    with pytest.raises(RuntimeError, match="optim.lr 0.001 -> 0.002.*--force"):
        ranks(2).run(start, changed)
    ranks(2).run(let_go)
    killed_at("trainers.run.describe_run", changed, forced, "job/0")
    wandb_id = json.loads((folder / "run.json").read_text())["wandb_id"]
    killed_at("trainers.run.describe_run", changed, AUTO, "job/0")
    with pytest.raises(RuntimeError, match="optim.lr 0.001 -> 0.003.*--force"):
        ranks(2).run(start, [*recipe, "--optim.lr", "3e-3"])
    ranks(2).run(start, changed, AUTO, 3)
    with pytest.raises(RuntimeError, match="optim.lr 0.002 -> 0.001.*--force"):
        ranks(2).run(start, recipe)
    assert_same(Path(ranks(2).run(start, changed)[0]), control)
    assert json.loads((folder / "run.json").read_text())["wandb_id"] == wandb_id
    assert [bool(line["forced"]) for line in starts(folder)] == [False, True, True, True, False]
