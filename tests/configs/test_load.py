"""Recipes: defaults <- YAML <- command line; what is wrong is named in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.errors import InputError
from configs.load import (
    SUMMARY,
    left_to_train,
    load_recipe,
    run_folder,
    shipped_recipes,
    signature,
    to_dict,
    to_yaml,
    written_signature,
)
from configs.schema import EmotionRecipe, NliRecipe

RECIPE = """
task: nli
data: {shards: somewhere}
optim: {lr: 1e-4}
model:
  regime: {kind: heads_removed, heads: {"0": [1, 2]}}
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "mine.yaml",
            "mine.yaml: no such file; give the path of a YAML file, or a name that `sokhan recipes` lists",
        ),
        ("./x/mine.yml", "./x/mine.yml: no such file; give the path"),
        ("x/mine", "x/mine: no such file; give the path"),
        ("zzz", "zzz: no such recipe; give the path"),
        (
            "demo/huberd.yml",
            "demo/huberd.yml: no such file; the nearest is demo/hubert (",
        ),
        ("parsbert_full", "parsbert_full: no such recipe; the nearest is farstail/parsbert_full ("),
        ("", ".: is a folder, not a recipe"),
    ],
)
def test_no_recipe_of_that_name(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        load_recipe(name)
    assert str(error.value).startswith(message)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


def test_later_wins(recipe: Path) -> None:
    loaded = load_recipe(recipe)
    assert isinstance(loaded, NliRecipe)
    assert loaded.optim.lr == 1e-4 and loaded.optim.eps == 1e-8 and loaded.recipe == "mine"
    assert loaded.model.regime.heads == {"0": (1, 2)}
    changed = load_recipe(recipe, ["--optim.lr", "3e-5", "--engine.zero=2", "--seed", "7"])
    assert (changed.optim.lr, changed.engine.zero, changed.seed) == (3e-5, 2, 7)
    assert changed.model == loaded.model


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--optim.lrr", "1"], r"unknown key 'optim.lrr'; did you mean 'optim.lr'"),
        (["--rank", "2"], r"did you mean '--ranks'"),
        (["--slurm.partitio", "2"], r"--slurm.partitio is for `sokhan submit`"),
        (["--lr", "1"], r"unknown key 'lr'; did you mean"),
        (["--optim.lr", "fast"], r"line: key 'optim.lr' cannot be fast; it must be a number, such as 3e-5$"),
        (["--seed", "1.5"], r"key 'seed' cannot be 1.5; it must be a whole number, such as 4$"),
        (["--engine.zero", "4"], r"key 'engine.zero' cannot be 4; it must be 0, 1, 2 or 3$"),
        (
            ["--model.regime.kind", "best"],
            r"key 'model.regime.kind' cannot be best; it must be full, freeze_first, ",
        ),
        (["--seed", "-1"], r"key 'seed' is -1; it must be finite and at least 0"),
        (["--optim.lr"], r"expected one argument"),
        (["stray"], r"unrecognized arguments: stray"),
        (["--batching.kind", "buckets"], r"'batching.budget' must be above 0"),
        (["--batching.items", "1"], r"'batching.micro_batches' is 2, more than the 1 items"),
        (["--batching.budget", ".nan"], r"'batching.budget' is nan; it must be finite"),
        (["--optim.lr", ".inf"], r"'optim.lr' is inf; it must be finite"),
        (["--optim.betas", "[1.5,0.9]"], r"'optim.betas\[0\]' is 1.5"),
        (["--data.augment.semitones", "[-120]"], r"'data.augment.semitones' holds -120"),
        (["--optim.warmup", "1"], r"'optim.warmup' is 1.0; it must be at least 0 and below 1"),
        (["--data.balance", "clean"], r"'data.balance' is clean, which changes audio"),
        (["--data.shards", ""], r"'data.shards' is empty"),
        (["--output.name", "../.."], r"'output.name' is '../..'; it names a folder"),
    ],
)
def test_wrong_overrides(recipe: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_recipe(recipe, overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: nli\ndata: {shard: x}", r"unknown key 'data.shard'; did you mean 'data.shards'"),
        ("task: nli\nmodel: {regime: {layer: 3}}", r"unknown key 'model.regime.layer'"),
        ("task: other", r"key 'task' must be emotion, nli or mlm, not 'other'"),
        ("- a list", r"must be a mapping"),
        ("task: [", r"not readable as YAML"),
        ("task: nli\nseed: x", r"key 'seed' cannot be x; it must be a whole number"),
        ("task: nli\nmodel: 3", r"key 'model' is a section of keys, not 3"),
        ("task: emotion\nmodel: {vocabulary: 3}", r"unknown key 'model.vocabulary'"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load_recipe(path)
    assert "wrong.yaml" in str(error.value) and "\n" not in str(error.value)


def test_unknown_recipes_get_the_nearest_names() -> None:
    with pytest.raises(InputError, match=r"farstail/parsbert_full"):
        load_recipe("farstail/parsbert_ful")


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_read_and_write_back(name: str, tmp_path: Path) -> None:
    loaded = load_recipe(name)
    path = tmp_path / "again.yaml"
    path.write_text(to_yaml(loaded))
    again = load_recipe(path)
    assert again == loaded
    assert to_dict(again) == to_dict(loaded)


def test_the_reference_recipe_is_the_reports() -> None:
    recipe = load_recipe("shemo/hubert_base_reference")
    assert isinstance(recipe, EmotionRecipe)
    assert (recipe.optim.kind, recipe.optim.lr, recipe.optim.schedule) == ("adam", 1e-5, "constant")
    assert (recipe.batching.items, recipe.loop.epochs) == (2, 4)
    assert (recipe.model.head, recipe.model.padding, recipe.data.balance) == (
        "mlp",
        "stock",
        "reference",
    )
    for regime in ("full", "freeze9", "embeddings_last", "intermediate", "heads"):
        nli = load_recipe(f"farstail/parsbert_{regime}")
        assert (nli.batching.items, nli.loop.epochs, nli.evaluation.items) == (128, 5, 256)


def test_the_signature_is_about_the_result(recipe: Path) -> None:
    base = signature(load_recipe(recipe))
    for same in (["--engine.zero", "3"], ["--data.workers", "9"], ["--output.folder", "x"]):
        assert signature(load_recipe(recipe, same)) == base
    for other in (["--seed", "1"], ["--engine.precision", "bf16"], ["--data.split", "x"]):
        assert signature(load_recipe(recipe, other)) != base


def test_run_folders_do_not_collide(recipe: Path) -> None:
    changes = ([], ["--seed", "1"], ["--data.shards", "elsewhere"], ["--optim.lr", "1"])
    folders = {run_folder(load_recipe(recipe, list(change))) for change in changes}
    assert len(folders) == 4
    named = run_folder(load_recipe(recipe, ["--output.name", "first", "--output.folder", "out"]))
    assert named == Path("out/mine/first")


def test_of_several_recipes_the_unfinished_are_left(tmp_path: Path) -> None:
    overrides = ["--data.shards", "shards", "--output.folder", str(tmp_path)]
    recipes = [load_recipe(f"demo/bert_{name}", overrides) for name in ("full", "heads")]
    assert left_to_train(recipes, overwrite=False) == recipes
    for done, recipe in enumerate(recipes, 1):
        run_folder(recipe).mkdir(parents=True)
        (run_folder(recipe) / SUMMARY).touch()
        # All finished: each is then refused by itself.
        assert left_to_train(recipes, overwrite=False) == (recipes[1:] if done == 1 else recipes)
        assert left_to_train(recipes, overwrite=True) == recipes


def test_a_run_directory_tells_its_signature(tmp_path: Path) -> None:
    assert written_signature(tmp_path) == ""
    recipe = load_recipe("demo/bert_full")
    (tmp_path / "config.yaml").write_text(f"# signature: {signature(recipe)}\n{to_yaml(recipe)}")
    assert written_signature(tmp_path) == signature(load_recipe(tmp_path / "config.yaml"))
