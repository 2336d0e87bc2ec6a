"""A damaged checkpoint is named and not used, whoever damaged it; nothing that was planted runs."""

from __future__ import annotations

import pickle
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from configs.beginning import Beginning
from configs.errors import InputError
from configs.load import load_recipe, run_folder
from tests.faults.damage import (
    DAMAGES,
    FILES,
    MARKER,
    NEWEST,
    OLDER,
    OUTSIDE,
    Payload,
    chosen_tag,
    go_on_beside,
    make_run,
    try_damages,
)
from tests.ranks import RankPool
from trainers.checkpoints.checkpoint import CHECKPOINTS, SUMS, remove_optimizer
from trainers.checkpoints.resume import find_checkpoints

Ranks = Callable[[int], RankPool]
COUNT = 500


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run whose best weights are the newest checkpoint's, one whose are the older one's."""
    folder = tmp_path_factory.mktemp("runs")
    return {best: make_run(folder / best, best) for best in (OLDER, NEWEST)}


@pytest.fixture
def checkpoints(bases: dict[str, Path], tmp_path: Path) -> Path:
    """Of a run that may be damaged."""
    shutil.copytree(bases[OLDER], tmp_path / "work")
    return tmp_path / "work" / "run" / CHECKPOINTS


def test_500_random_damages(ranks: Ranks, bases: dict[str, Path], tmp_path: Path) -> None:
    outcomes = []
    for first in range(0, COUNT, 50):
        numbers = range(first, first + 50)
        outcomes += ranks(1).run(try_damages, bases, tmp_path / "work", numbers)[0]
    wrong = [outcome for outcome in outcomes if outcome.problem]
    assert not wrong, f"{len(wrong)} of {len(outcomes)}, the first: {wrong[0]}"
    results = Counter(outcome.result for outcome in outcomes)
    assert results["refused"] + results["previous"] == COUNT
    assert min(results.values()) > COUNT // 5
    assert len({outcome.damage.split()[0] for outcome in outcomes}) == len(DAMAGES)


def test_no_damage_no_word(ranks: Ranks, checkpoints: Path) -> None:
    """Files that nobody asked for are no damage, and are not looked into."""
    marker = checkpoints.parents[1] / OUTSIDE / MARKER
    for name in ("optimizer.pt", "weights-00002.safetensors", ".SHA256SUMS", "latest"):
        (checkpoints / NEWEST / name).write_bytes(pickle.dumps(Payload(str(marker))))
    assert ranks(1).run(chosen_tag, checkpoints) == [(NEWEST, "")]
    assert not marker.exists()
    pickle.loads((checkpoints / NEWEST / "latest").read_bytes())
    assert marker.exists()  # so it would have been seen


def test_who_may_read_the_folder_may_read_the_files(checkpoints: Path) -> None:
    allowed = (checkpoints / NEWEST).stat().st_mode & 0o666
    assert {(checkpoints / NEWEST / name).stat().st_mode & 0o777 for name in FILES} == {allowed}


@pytest.mark.parametrize("name", FILES)
def test_ranks_agree_on_damage_that_one_of_them_finds(name: str, ranks: Ranks, checkpoints: Path) -> None:
    content = bytearray((checkpoints / NEWEST / name).read_bytes())
    content[len(content) // 2] ^= 1
    (checkpoints / NEWEST / name).write_bytes(content)
    (one, told), (other, nothing) = ranks(2).run(chosen_tag, checkpoints)
    assert one == other == OLDER
    # A changed hash looks like damage to its file.
    assert any(f"{NEWEST}/{file}: " in told for file in (FILES if name == SUMS else (name,)))
    assert told.endswith("trying the one before it") and not nothing  # told by one rank


def test_damage_to_what_is_not_needed_stops_nothing(
    ranks: Ranks, bases: dict[str, Path], tmp_path: Path
) -> None:
    problems = []
    for number in range(3 * len(DAMAGES)):
        if DAMAGES[number % len(DAMAGES)].__name__ not in (
            "renamed",
            "swapped_with_the_other",
        ):  # those damage the newest one too
            shutil.copytree(bases[NEWEST], tmp_path / "work")
            problems += ranks(1).run(go_on_beside, tmp_path / "work", number)[0]
            shutil.rmtree(tmp_path / "work")
    assert not problems, "\n".join(problems)


def test_weights_alone_are_not_gone_on_from(ranks: Ranks, checkpoints: Path) -> None:
    remove_optimizer(checkpoints / OLDER)
    assert ranks(1).run(chosen_tag, checkpoints) == [(NEWEST, "")]  # enough for best weights
    remove_optimizer(checkpoints / NEWEST)
    [(tag, told)] = ranks(1).run(chosen_tag, checkpoints)
    assert not tag and told.count("has weights only") == 1 and "(nor 1 older)" in told


@pytest.mark.parametrize("kind", ["link", "file", "nowhere"])
def test_no_folder_of_checkpoints_is_no_start_over(kind: str, tmp_path: Path) -> None:
    overrides = ["--data.shards", "x", "--output.folder", str(tmp_path / "runs")]
    recipe = load_recipe("demo/bert_full", overrides)
    assert find_checkpoints(recipe, Beginning()) == []
    folder = run_folder(recipe) / CHECKPOINTS
    folder.parent.mkdir(parents=True)
    if kind == "file":
        folder.touch()
    else:
        folder.symlink_to(tmp_path if kind == "link" else tmp_path / "nowhere")
    with pytest.raises(InputError, match=f"{folder}: is a link or a file"):
        find_checkpoints(recipe, Beginning())
