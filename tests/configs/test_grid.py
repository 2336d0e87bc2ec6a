"""Grids: what they expand to, and that what is wrong is named by file and key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from configs.errors import InputError
from configs.grid import load_grid, shipped_grids
from configs.load import load_recipe, run_folder, shipped_recipes, signature
from configs.schema import NliRecipe
from configs.study import MOST, members, sweep_folder
from tests.documentation import PAGES

SMALL = {"recipes": ["demo/bert_full"], "seeds": [0, 1]}


def write(folder: Path, document: object) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(document) if not isinstance(document, str) else document)
    return path


def test_all_combinations_by_recipe_value_and_seed(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        recipes: [demo/bert_full, demo/hubert]
        seeds: [3, 1]
        settings: {loop.epochs: 9, output.folder: elsewhere, optim.betas: [0.5, 0.6]}
        grid:
          optim.lr: [1e-5, 3.0e-5]
          optim.clip: [0.5, 2]
        at_most: 3
        """,
    )
    grid = load_grid(path)
    assert (grid.name, grid.at_most, grid.path) == ("mine", 3, path)
    trainings = members(grid)
    assert len(trainings) == 2 * 2 * 2 * 2
    told = [(m.recipe.recipe, m.recipe.optim.lr, m.recipe.optim.clip, m.recipe.seed) for m in trainings]
    assert told[:5] == [
        ("bert_full", 1e-5, 0.5, 3),
        ("bert_full", 1e-5, 0.5, 1),
        ("bert_full", 1e-5, 2.0, 3),
        ("bert_full", 1e-5, 2.0, 1),
        ("bert_full", 3e-5, 0.5, 3),
    ]
    assert told[8:] == [("hubert", *rest) for _, *rest in told[:8]]
    for member in trainings:
        assert member.recipe.loop.epochs == 9 and member.recipe.optim.betas == (0.5, 0.6)
        assert load_recipe(member.name, member.words) == member.recipe
        assert member.run == run_folder(member.recipe)
        assert member.run.name.startswith(f"seed{member.recipe.seed}-")
    assert len({m.run for m in trainings}) == len({signature(m.recipe) for m in trainings}) == 16
    assert trainings[0].label == "bert_full optim.lr=1e-5 optim.clip=0.5 seed 3"
    assert len({m.label for m in trainings}) == 16
    assert sweep_folder(grid, trainings) == Path("elsewhere/sweeps/mine")


def test_a_section_may_vary_as_a_whole(tmp_path: Path) -> None:
    regimes = [{"kind": "full"}, {"kind": "freeze_first", "layers": 1}]
    path = write(tmp_path, {"recipes": ["demo/bert_full"], "grid": {"model.regime": regimes}})
    first, second = (member.recipe for member in members(load_grid(path)))
    assert isinstance(first, NliRecipe) and isinstance(second, NliRecipe)
    assert (first.model.regime.kind, first.model.regime.layers) == ("full", None)
    assert (second.model.regime.kind, second.model.regime.layers) == ("freeze_first", 1)
    assert first.model.vocabulary == second.model.vocabulary == 1200  # the recipe's


def test_later_wins(tmp_path: Path) -> None:
    """Recipe, site, the grid's settings, command line."""
    grid = load_grid(write(tmp_path, {**SMALL, "settings": {"loop.epochs": 2, "data.workers": 5}}))
    site = ["--output.folder", "site", "--data.workers", "7"]
    for member in members(grid, site, ["--loop.epochs", "3"]):
        recipe = member.recipe
        assert (recipe.output.folder, recipe.data.workers, recipe.loop.epochs) == ("site", 5, 3)


def test_without_seeds_each_recipe_keeps_its_own(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("task: nli\nseed: 7\ndata: {shards: x}\n")
    grid = load_grid(write(tmp_path, {"recipes": [str(own), "demo/bert_full"]}))
    assert [member.recipe.seed for member in members(grid)] == [7, 0]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"seeds": [0]}, "key 'recipes' is a list of names"),
        ({**SMALL, "recipes": []}, "key 'recipes' is a list of names"),
        ({**SMALL, "recipes": "demo/bert_full"}, "key 'recipes' is a list of names"),
        ({**SMALL, "recipes": ["demo/hubert"] * 2}, "key 'recipes' holds 'demo/hubert' twice"),
        ({**SMALL, "recipes": ["demo/huberd"]}, "demo/huberd.*no such recipe"),
        ({**SMALL, "recipes": ["demo/regimes"]}, "a grid of several trainings"),
        ({**SMALL, "seeds": []}, "key 'seeds' is a list of whole numbers"),
        ({**SMALL, "seeds": 5}, "key 'seeds' is a list of whole numbers"),
        ({**SMALL, "seeds": [0, 1, 0]}, "key 'seeds' holds 0 twice"),
        ({**SMALL, "seeds": [True]}, "key 'seeds' holds True"),
        ({**SMALL, "seeds": [1.5]}, "key 'seeds' holds 1.5"),
        ({**SMALL, "seeds": [-1]}, "demo/bert_full --seed=-1: key 'seed' is -1"),
        ({**SMALL, "recipe": ["x"]}, "unknown key 'recipe'; a grid has name, recipes, seeds"),
        ({**SMALL, "path": "x"}, "unknown key 'path'"),
        ({**SMALL, "settings": ["x"]}, "key 'settings' is a section of recipe fields"),
        ({**SMALL, "settings": {"seed": 3}}, "key 'settings.seed': use the list 'seeds'"),
        ({**SMALL, "settings": {"output.name": "x"}}, "key 'settings.output.name'"),
        ({**SMALL, "settings": {"optim.lrr": 3}}, "unknown key 'optim.lrr'; did you mean 'optim.lr'"),
        ({**SMALL, "settings": {"optim.lr": "fast"}}, "key 'optim.lr' cannot be fast; it must be a number"),
        ({**SMALL, "grid": {"optim.lr": 1}}, "key 'grid.optim.lr' is a list of values"),
        ({**SMALL, "grid": {"optim.lr": []}}, "key 'grid.optim.lr' is a list of values"),
        ({**SMALL, "grid": {"optim.lr": [1, 1]}}, "key 'grid.optim.lr' holds 1 twice"),
        ({**SMALL, "grid": {"seed": [1, 2]}}, "key 'grid.seed': use the list 'seeds'"),
        ({**SMALL, "grid": {"optim.lr": [1, "0x"]}}, r"--optim.lr=0x --seed=0: key .optim.lr."),
        ({**SMALL, "grid": {"optim.lr": ["1e-4", 0.0001]}}, "are the same training"),
        ({**SMALL, "grid": {"engine.zero": [0, 1]}}, "differ in nothing that changes the result"),
        ({**SMALL, "grid": {"output.folder": ["a", "b"]}}, "members would write to a and b"),
        ({**SMALL, "grid": {"optim.lr": [1]}, "settings": {"optim.lr": 2}}, "stands in 'settings' and"),
        ({**SMALL, "grid": {"optim.lr": list(range(MOST))}}, f"{2 * MOST} trainings"),
        ({**SMALL, "at_most": 0}, "key 'at_most' is 0"),
        ({**SMALL, "at_most": "2"}, "key 'at_most' is '2'"),
        ({**SMALL, "name": "../x"}, "key 'name' is '../x'; it names a folder"),
        ({**SMALL, "name": 3}, "key 'name' is 3"),
        ({"task": "nli"}, "a recipe, not a grid; use `sokhan train"),
        ([1], "must be a mapping"),
        ("recipes: [", "not readable as YAML"),
    ],
)
def test_wrong_grids(tmp_path: Path, document: object, message: str) -> None:
    path = write(tmp_path, document)
    with pytest.raises(InputError, match=message) as error:
        members(load_grid(path))
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize("words", [["--seed", "1"], ["--optim.lr=1"], ["--output.name", "x"]])
def test_what_tells_members_apart_is_not_for_the_command_line(tmp_path: Path, words: list[str]) -> None:
    grid = load_grid(write(tmp_path, {**SMALL, "grid": {"optim.lr": [1, 2]}}))
    with pytest.raises(InputError, match="differs between the members") as error:
        members(grid, (), words)
    assert words[0].partition("=")[0] in str(error.value)


def test_unknown_grids_get_the_nearest_names() -> None:
    with pytest.raises(InputError, match="those that come with sokhan: demo/regimes"):
        load_grid("demo/regime")
    with pytest.raises(InputError, match="a recipe, not a grid; use `sokhan train demo/hubert`"):
        load_grid("demo/hubert")
    with pytest.raises(InputError, match="a grid of several trainings; use `sokhan sweep`"):
        load_recipe("demo/regimes")


def test_recipes_and_grids_are_told_apart() -> None:
    assert not set(shipped_recipes()) & set(shipped_grids())
    assert {"demo/regimes", "farstail/regimes"} <= set(shipped_grids())
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in shipped_grids() if f"`{name}`" not in text] == []


def test_the_five_regimes_with_five_seeds() -> None:
    trainings = members(load_grid("farstail/regimes"))
    assert len(trainings) == 25
    recipes = {member.recipe for member in trainings if member.recipe.seed == 4}
    kinds = {recipe.model.regime.kind for recipe in recipes if isinstance(recipe, NliRecipe)}
    assert kinds == {"full", "freeze_first", "embeddings_last", "intermediate", "heads_removed"}
    assert len(members(load_grid("demo/regimes"))) == 6
