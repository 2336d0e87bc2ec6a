"""Studies: parts of a grid, what leads from one to another, and what is wrong named by part and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.errors import InputError
from configs.grid import load_grid, shipped_grids
from configs.load import load_recipe, signature
from configs.schema import EmotionRecipe
from configs.study import GridMember, by_part, members

FIRST = {"name": "first", "recipes": ["demo/bert_full"], "seeds": [0, 1]}
SECOND = {"name": "second", "recipes": ["demo/bert_freeze"], "seeds": [0, 1]}
START = {"part": "first", "recipe": "demo/bert_full"}


def write(folder: Path, *parts: object, **more: object) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**more, "parts": list(parts)}))
    return path


def expand(path: Path, *words: str) -> dict[str, tuple[GridMember, ...]]:
    return by_part(load_grid(path), (), words)


def test_settings_of_all_then_of_a_part_then_its_grid(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {**FIRST, "title": "One", "text": "why", "settings": {"optim.lr": 2e-3}},
        {**SECOND, "grid": {"loop.epochs": [7, 8]}, "curve": "loop.epochs"},
        settings={"loop.epochs": 5, "optim.lr": 1e-3},
        title="Both",
        method="how",
        baselines=True,
        at_most=3,
    )
    grid = load_grid(path)
    assert (grid.title, grid.method, grid.baselines, grid.at_most) == ("Both", "how", True, 3)
    assert grid.is_study and [part.title for part in grid.parts] == ["One", ""]
    parts = by_part(grid)
    told = [(m.recipe.optim.lr, m.recipe.loop.epochs, m.recipe.seed) for m in parts["first"]]
    assert told == [(2e-3, 5, 0), (2e-3, 5, 1)]
    told = [(m.recipe.optim.lr, m.recipe.loop.epochs, m.recipe.seed) for m in parts["second"]]
    assert told == [(1e-3, 7, 0), (1e-3, 7, 1), (1e-3, 8, 0), (1e-3, 8, 1)]
    assert [m.label for m in parts["second"]][:2] == [
        "second: bert_freeze loop.epochs=7 seed 0",
        "second: bert_freeze loop.epochs=7 seed 1",
    ]
    assert parts["second"][0].short_label == "bert_freeze loop.epochs=7 seed 0"
    command = expand(path, "--optim.lr", "3e-3")  # the command line wins over all of them
    assert {m.recipe.optim.lr for rows in command.values() for m in rows} == {3e-3}


def test_what_stands_in_two_parts_is_trained_once(tmp_path: Path) -> None:
    again = {"name": "layers", "recipes": ["demo/bert_freeze"], "seeds": [0, 1, 2]}
    path = write(tmp_path, FIRST, SECOND, {**again, "grid": {"model.regime.layers": [0, 1]}})
    parts = expand(path)
    shared = {m.run for m in parts["second"]} & {m.run for m in parts["layers"]}
    assert len(shared) == 2  # one layer is what the recipe freezes
    once = members(load_grid(path))
    assert len(once) == 2 + 2 + 6 - 2 and len({m.run for m in once}) == len(once)
    assert [m.part for m in once if m.run in shared] == ["second", "second"]


def test_a_part_goes_on_from_the_models_of_another(tmp_path: Path) -> None:
    """It comes after that one, wherever it stands, seed by seed and value by value."""
    rates = {"grid": {"optim.lr": [1e-4, 3e-3]}}
    path = write(tmp_path, {**SECOND, **rates, "start_from": START}, {**FIRST, **rates})
    once = members(load_grid(path), (), ["--model.pretrained", "elsewhere"])
    assert [m.part for m in once] == ["first"] * 4 + ["second"] * 4
    by_run = {member.run: member for member in once}
    for member in once[:4]:
        assert member.source is None and member.recipe.model.pretrained == "elsewhere"
    for member in once[4:]:
        assert member.source is not None
        source = by_run[member.source]
        assert (source.recipe.seed, source.recipe.optim.lr) == (
            member.recipe.seed,
            member.recipe.optim.lr,
        )
        assert member.recipe.model.pretrained == str(member.source / "model")
        assert member.recipe.model.revision is None
        assert load_recipe(member.name, member.words) == member.recipe
    assert len({signature(member.recipe) for member in once}) == 8


def test_the_only_training_of_a_part_serves_all_seeds(tmp_path: Path) -> None:
    path = write(tmp_path, {**FIRST, "seeds": [5]}, {**SECOND, "start_from": START})
    first, *others = members(load_grid(path))
    assert [member.source for member in others] == [first.run] * 2
    chain = {
        **FIRST,
        "name": "third",
        "start_from": {"part": "second", "recipe": "demo/bert_freeze"},
    }
    path = write(tmp_path, chain, {**SECOND, "start_from": START}, FIRST)
    assert [m.part[0] for m in members(load_grid(path))] == ["f", "f", "s", "s", "t", "t"]


def test_fields_that_vary_together(tmp_path: Path) -> None:
    together = {"data.balance+loss.kind": [["none", "class_weights"], ["sampled", "cross_entropy"]]}
    part = {"name": "a", "recipes": ["demo/hubert"], "grid": {**together, "optim.lr": [1e-3, 1e-4]}}
    found = expand(write(tmp_path, part))["a"]
    told = []
    for member in found:
        assert isinstance(member.recipe, EmotionRecipe)
        told.append((member.recipe.data.balance, member.recipe.loss.kind, member.recipe.optim.lr))
    assert told == [
        ("none", "class_weights", 1e-3),
        ("none", "class_weights", 1e-4),
        ("sampled", "cross_entropy", 1e-3),
        ("sampled", "cross_entropy", 1e-4),
    ]
    assert found[0].varied == {
        "data.balance": "none",
        "loss.kind": "class_weights",
        "optim.lr": 1e-3,
    }
    with pytest.raises(InputError, match="--loss.kind differs between the members"):
        expand(write(tmp_path, part), "--loss.kind=class_weights")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "key 'parts' is a list of sections"),
        (["first"], "key 'parts' is a list of sections"),
        ([{"recipes": ["demo/bert_full"]}], "key 'name' of part 1 is None"),
        ([{**FIRST, "name": "A b"}], "key 'name' of part 1 is 'A b'"),
        ([FIRST, FIRST], "two parts have the name 'first'"),
        ([{**FIRST, "recipe": "x"}], "part 'first': unknown key 'recipe'; a part has name, title"),
        ([{**FIRST, "recipes": []}], "part 'first': key 'recipes' is a list of names"),
        ([{**FIRST, "title": 3}], "part 'first': key 'title' is 3"),
        ([{**FIRST, "curve": "optim.lr"}], "part 'first': key 'curve' is 'optim.lr'; name a field"),
        ([{**FIRST, "settings": {"seed": 3}}], "part 'first': key 'settings.seed': use the list"),
        ([{**FIRST, "grid": {"a+b": [1]}}], "part 'first': key 'grid.a.b' holds 1; 2 fields vary"),
        ([{**FIRST, "grid": {"a+b": [[1]]}}], "holds .1.; 2 fields vary together"),
        ([{**FIRST, "grid": {"a+b": [[1, 2]], "b": [1]}}], "key 'b' stands twice in 'grid'"),
        ([{**FIRST, "grid": {"optim.lrr": [1]}}], "part 'first': demo/bert_full --optim.lrr=1 --seed=0: unk"),
        ([{**FIRST, "grid": {"engine.zero": [0, 1]}}], "part 'first': .*are the same training"),
        ([FIRST, {**SECOND, "start_from": "first"}], "part 'second': key 'start_from' is {part: NAME"),
        ([FIRST, {**SECOND, "start_from": {"part": "first"}}], "key 'start_from' is {part: NAME"),
        ([FIRST, {**SECOND, "start_from": {**START, "part": "x"}}], "there is no part 'x'; there are f"),
        ([FIRST, {**SECOND, "start_from": {**START, "recipe": "x"}}], "part 'first' has no recipe 'x'"),
        ([{**FIRST, "start_from": START}], "the parts wait for each other: first -> first"),
        (
            [
                {**FIRST, "start_from": {"part": "second", "recipe": "demo/bert_freeze"}},
                {**SECOND, "start_from": START},
            ],
            "wait for each other: first -> second -> first",
        ),
        (
            [FIRST, {**SECOND, "start_from": START, "settings": {"model.pretrained": "x"}}],
            "part 'second': key 'model.pretrained': 'start_from' says where",
        ),
        (
            [FIRST, {**SECOND, "start_from": START, "seeds": [0, 5]}],
            "in part 'first' no training has its seed and values; there are 'bert_full seed 0', 'bert",
        ),
        (
            [{**FIRST, "grid": {"optim.lr": [1e-4, 1e-3]}}, {**SECOND, "start_from": START}],
            "in part 'first' 2 trainings have its seed .* 'bert_full optim.lr=0.0001 seed 0', 'bert",
        ),
    ],
)
def test_wrong_parts(tmp_path: Path, parts: list[Any], message: str) -> None:
    path = write(tmp_path, *parts)
    with pytest.raises(InputError, match=message) as error:
        members(load_grid(path))
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"seeds": [0]}, "key 'seeds' belongs to each of the 'parts'"),
        ({"recipes": ["demo/bert_full"]}, "key 'recipes' belongs to each"),
        ({"baselines": "yes"}, "key 'baselines' is 'yes'; write true or false"),
        ({"method": ["x"]}, "key 'method' is .*; write text"),
        ({"curve": "x"}, "unknown key 'curve'; a grid has name, title, method"),
        ({"settings": {"seed": 3}}, "key 'settings.seed': use the list 'seeds'"),
    ],
)
def test_wrong_heads_of_studies(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    path = write(tmp_path, FIRST, **more)
    with pytest.raises(InputError, match=message) as error:
        load_grid(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_a_study_is_no_recipe() -> None:
    with pytest.raises(InputError, match="a grid of several trainings; use `sokhan sweep`"):
        load_recipe("demo/report_text")


@pytest.mark.parametrize("name", shipped_grids())
def test_all_grids_that_come_with_sokhan_can_be_trained(name: str) -> None:
    """And the head of the file says how many trainings there are."""
    grid = load_grid(name)
    trainings = members(grid)
    head = grid.path.read_text(encoding="utf-8").split("\nname:")[0]
    if grid.is_study:
        assert f"{len(trainings)} trainings" in " ".join(head.replace("#", "").split())
    assert len({member.label for member in trainings}) == len(trainings)
    sources = {member.source for member in trainings} - {None}
    assert sources <= {member.run for member in trainings}


def test_each_way_to_remove_heads_has_all_shares() -> None:
    """10 to 90 % by tens, so that curves of different ways can be laid over each other."""
    parts = {part.name: part for part in load_grid("farstail/report").parts}
    shares = tuple(n / 10 for n in range(1, 10))
    curves = [part for part in parts.values() if part.curve == "model.regime.heads_share"]
    assert [part.grid["model.regime.heads_share"] for part in curves] == [shares] * 4
    told = [(part.start_from is not None, *sorted(set(part.grid) - {part.curve})) for part in curves]
    ways = ("model.regime.choose", "model.regime.round_share")
    assert sorted(told) == [(later, way) for later in (False, True) for way in ways]
    untrained = parts["heads-untrained"]
    assert tuple(untrained.settings["analysis.pruning.shares"]) == shares
    assert untrained.grid["analysis.pruning.round_share"] == (None, 0.1)
    assert untrained.settings["analysis.pruning.draws"] >= 5
