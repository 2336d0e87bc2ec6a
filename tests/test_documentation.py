"""The documentation does what it says: its commands run, its links lead somewhere, nothing is left out.

Blocks run in order, in a folder with stand-ins for the real corpora. A training command must parse,
and its recipe fit shards and ranks, as it stands; then it trains one step of a tiny fresh model.
Commands marked ``<!-- not run: reason -->`` are only parsed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.beginning import Beginning, read_options
from configs.cluster import load_cluster, split_words
from configs.load import AnyRecipe, load_recipe, shipped_recipes
from configs.schema import EmotionRecipe, MlmRecipe, NliRecipe
from launch.checks import check
from launch.cli import build_parser, main
from launch.commands.common import split_recipes
from tests.documentation import FIELDS, PAGES, ROOT, Block, blocks, prose, with_fields
from tests.ranks import RankPool
from tests.stand_ins import make_stand_ins
from trainers.ranks.world import World

Ranks = Callable[[int], RankPool]
TINY = [
    "--model.pretrained",
    "null",
    "--model.size",
    "tiny",
    "--data.workers",
    "0",
    "--engine.precision",
    "fp32",
    "--loop.epochs",
    "1",
    "--loop.max_steps",
    "1",
    "--tracking.wandb",
    "off",
]
TINY_SPEECH = ["--model.max_seconds", "0.5"]
TINY_TEXT = ["--model.vocabulary", "600"]
OTHER_TOOLS = ("export", "pip", "wandb")
"""Commands of others that are never run here, so blocks with them must be marked."""
OWN_RECIPE = "mine.yaml"
"""What pages call the recipe that a yaml block shows."""
RUNNABLE = [page for page in PAGES if any(not (b.not_run or b.cluster) for b in blocks(page))]


@dataclasses.dataclass(frozen=True)
class Training:
    """A command that trains."""

    recipes: list[str]
    overrides: list[str]
    ranks: int = 1
    beginning: Beginning = dataclasses.field(default_factory=Beginning)

    def tiny(self, recipe: AnyRecipe) -> list[str]:
        """Its overrides, and those that make it a matter of seconds."""
        own = TINY_SPEECH if isinstance(recipe, EmotionRecipe) else TINY_TEXT
        if isinstance(recipe, MlmRecipe):
            own = [*own, "--model.max_tokens", "32", "--batching.budget", "64"]
        if isinstance(recipe, NliRecipe) and recipe.model.regime.layers:
            own = [*own, "--model.regime.layers", "1"]
        return [*self.overrides, *TINY, *own]


def parse_sokhan(words: list[str]) -> argparse.Namespace:
    """Parse as the command does."""
    recipes, rest = split_recipes(words)
    options, overrides = build_parser().parse_known_args(rest)
    assert options.command in ("train", "submit", "sweep") or not overrides, f"unknown {overrides}"
    options.recipes, options.overrides = recipes, overrides
    return options


def parse(words: list[str]) -> Training | None:
    """Check that a command would be understood; return what it would train, if it trains."""
    tool = words[0]
    training = None
    if tool == "sokhan":
        options = parse_sokhan(words[1:])
        if options.command in ("train", "submit"):
            assert options.recipes
            slurm, overrides = split_words(options.overrides)
            load_cluster(None, slurm)
            for name in set(options.recipes) - {OWN_RECIPE}:
                load_recipe(name, overrides)
        if options.command == "train" and not options.print_config:
            beginning = read_options(options, options.recipes)
            ranks = options.ranks or 1
            training = Training(options.recipes, options.overrides, ranks, beginning)
    elif tool == "deepspeed" or words[:3] == ["python", "-m", "trainers"]:
        flags = words[1 : words.index("trainers") - 1]
        assert flags in (["--num_gpus", "2"], []), flags
        assert words[words.index("trainers") + 1] == "--config"
        names, overrides = split_recipes(["train", *words[words.index("trainers") + 2 :]])
        training = Training(names, overrides[1:], 2 if flags else 1)
        for name in names:
            load_recipe(name, training.overrides)
    elif words[:2] == ["python", "-m"]:
        assert (ROOT / words[2].replace(".", "/")).with_suffix(".py").is_file(), words
    elif tool == "make":
        assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8"), words
    elif tool == "pip":
        files = [word for word in words if word.startswith("constraints/")]
        assert all((ROOT / file).is_file() for file in files), words
    else:
        assert tool in (*OTHER_TOOLS, "ls", "tar"), f"{tool}: not known to this test"
    return training


def train_in(world: World, folder: str, name: str, overrides: list[str], beginning: Beginning) -> None:
    """Train in a rank of a pool, as if started in ``folder``."""
    from trainers.run import train

    before = os.getcwd()
    os.chdir(folder)
    try:
        train(load_recipe(name, overrides), world, beginning)
    finally:
        os.chdir(before)


def run_block(block: Block, start: Callable[[Training, list[str]], None]) -> None:
    """Run a block in the current folder; ``start`` trains."""
    if block.language == "python":
        exec(compile(block.text, block.where, "exec"), {"__name__": "block"})
        return
    if block.language == "yaml":
        Path(OWN_RECIPE).write_text(block.text, encoding="utf-8")
        return
    for words in block.commands():
        where = f"{block.where}: {' '.join(words)}"
        training = parse(words)
        if training is not None:
            for name in training.recipes:
                check(
                    load_recipe(name, training.overrides),
                    training.ranks,
                    gpus=0,
                    beginning=Beginning(overwrite=True),
                )
            start(training, words)
        elif words[0] == "sokhan":
            assert main(words[1:]) == 0, where
        else:
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{where}: {done.stderr}"


def run_page(page: Path, folder: Path, start: Callable[[Training, list[str]], None]) -> None:
    """Run all blocks of a page that are not marked."""
    make_stand_ins(folder)
    for block in blocks(page):
        if block.language in ("sh", "python", "yaml") and not (block.not_run or block.cluster):
            run_block(block, start)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_understood(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        assert block.language in ("sh", "python", "yaml"), f"{block.where}: say the language"
        for words in block.commands() if block.language == "sh" else []:
            if "--resume" in words:  # it must be there
                Path(words[words.index("--resume") + 1]).mkdir(parents=True, exist_ok=True)
            parse(words)
            marked = block.not_run or block.cluster
            assert marked or words[0] not in OTHER_TOOLS, f"{block.where}: mark it"


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: Ranks) -> None:
    monkeypatch.chdir(tmp_path)

    def start(training: Training, words: list[str]) -> None:
        for name in training.recipes:
            tiny = training.tiny(load_recipe(name, training.overrides))
            ranks(1).run(train_in, str(tmp_path), name, tiny, training.beginning)

    run_page(page, tmp_path, start)
    if page.name == "README.md":
        check_run_folder(tmp_path / "runs" / "parsbert_full" / "alone")


def check_run_folder(folder: Path) -> None:
    """What the README says of a run directory is there, and nothing else is."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("## What a run leaves")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    told = {name.split("/")[0] for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    there = {path.name for path in folder.iterdir()}
    assert there - {"report.html", "report.md"} <= told
    assert told - {"wandb", "pretrained.json"} <= there  # off here, and a fresh model


@pytest.mark.slow
def test_readme_as_it_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launchers themselves, on as many ranks as the README says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)

    def start(training: Training, words: list[str]) -> None:
        for name in training.recipes:
            tiny = training.tiny(load_recipe(name, training.overrides))
            command = [*words, *tiny[len(training.overrides) :]]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
            assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"

    run_page(ROOT / "README.md", tmp_path, start)
    launched = tmp_path / "runs" / "parsbert_full" / "launched"
    check_run_folder(launched)
    assert json.loads((launched / "environment.json").read_text())["ranks"] == 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), f"{page.name}: no {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", prose(other), re.M)
            slugs = [re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles]
            assert anchor in slugs, f"{page.name}: no heading for {target}"


def test_every_recipe_is_named() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in shipped_recipes() if f"`{name}`" not in text] == []


def test_every_command_and_option_is_documented() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    missing = []
    waiting = [("sokhan", build_parser())]
    while waiting:
        name, parser = waiting.pop()
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                waiting += [(f"{name} {command}", p) for command, p in action.choices.items()]
            options = [o for o in action.option_strings if o not in ("-h", "--help")]
            missing += [o for o in options if not re.search(rf"{o}(?![\w.-])", text)]
        if name not in text:
            missing.append(name)
    assert missing == []


def test_fields_are_those_of_the_schema() -> None:
    for page in FIELDS:
        text = page.read_text(encoding="utf-8")
        assert text == with_fields(page), "out of date: run `python -m tests.documentation`"
