"""What the heads of recipes and grids say of what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.grid import shipped_grids
from configs.heads import command_that_makes, first_sentence, shipped_file
from configs.load import FOLDER, load_recipe, shipped_recipes


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if name.startswith("demo/")])
def test_every_demo_recipe_names_the_command_that_packs_its_shards(name: str) -> None:
    recipe = load_recipe(name)
    command = command_that_makes(recipe.data.shards, shipped_file(recipe.recipe))
    assert command == f"sokhan pack {Path(recipe.data.shards).name} --out {recipe.data.shards}"


def test_only_commands_of_the_head_that_make_that_folder_count(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "# Mine.\n#\n#   sokhan pack shemo a.zip --out shards/shemo-long\n"
        "#   sokhan pack shemo a.zip --out shards/shemo      (three minutes)\n"
        "task: emotion\n#   sokhan pack farstail F --out shards/farstail\n"
    )
    assert command_that_makes("shards/shemo", file) == "sokhan pack shemo a.zip --out shards/shemo"
    assert command_that_makes("shards/farstail", file) == ""
    assert command_that_makes("shards/shemo", tmp_path / "none.yaml") == ""
    assert command_that_makes("shards/shemo", None) == "" and shipped_file("mine") is None


def test_every_recipe_and_grid_says_in_a_line_what_it_is_for() -> None:
    for name in [*shipped_recipes(), *shipped_grids()]:
        sentence = first_sentence((FOLDER / name).with_suffix(".yaml"))
        assert 20 < len(sentence) <= 110 and "#" not in sentence and "  " not in sentence


def test_a_sentence_ends_at_its_full_stop(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "# ShEMO (Nezami et al. 2019) at a rate\n# of 0.5, twice. More.\n#\n#   sokhan x\ntask: emotion\n"
    )
    assert first_sentence(file) == "ShEMO at a rate of 0.5, twice"
    file.write_text("task: emotion\n")
    assert first_sentence(file) == ""
