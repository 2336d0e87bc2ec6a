"""The pruning curve of a trained model, and a run that removes heads by importance."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import trainers.loop
from configs.beginning import Beginning
from configs.load import load_recipe
from tests.ranks import RankPool
from tests.trainers.jobs import open_data
from tests.trainers.test_run import text_recipe, train_recipe
from tests.trainers.tiny_models import pairs, small_bert
from trainers.analyses.pruning import masked_heads, pruning_curve
from trainers.evaluate import predict
from trainers.exports.classifier import load_exported
from trainers.models.bert_classifier import NliModel
from trainers.models.pruning import prune_heads
from trainers.ranks.stopping import Stopped
from trainers.ranks.world import World
from trainers.run import train
from trainers.tasks import head_choice
from trainers.tasks.head_choice import CHOICE, score_heads, scoring_samples
from trainers.tasks.nli import NliTask

Ranks = Callable[[int], RankPool]
SHARES = ["--analysis.pruning.shares", "[0.25,0.5,0.9]", "--analysis.pruning.draws", "2"]
SHARES += ["--analysis.pruning.score_items", "70"]
CHOSEN = ["--model.regime.choose", "importance", "--model.regime.score_items", "40"]


def test_masked_and_pruned_models_agree(tmp_path: Path) -> None:
    model, pruned = small_bert(tmp_path / "bert").eval(), small_bert(tmp_path / "bert").eval()
    prune_heads(pruned, {0: (1,), 2: (0, 2, 3)})
    with torch.no_grad():
        whole = model(*pairs())
        with masked_heads(model, {0: (1,), 2: (0, 2, 3)}):
            torch.testing.assert_close(model(*pairs()), pruned(*pairs()))
        assert torch.equal(model(*pairs()), whole), "the mask is taken off again"
        with masked_heads(pruned, {2: (1,)}), pytest.raises(AssertionError):
            torch.testing.assert_close(pruned(*pairs()), whole)


def curve(world: World, overrides: list[str]) -> dict[str, Any]:
    """A curve of the untrained demo model, and what it must agree with."""
    data = open_data(world, "demo/bert_full", overrides)
    model = data.task.build_model()
    assert isinstance(model, NliModel)
    for parameter in model.classifier.parameters():  # fresh ones hardly look at the encoder
        parameter.data += torch.linspace(-1, 1, parameter.numel()).view_as(parameter)
    test = predict(model.eval(), data, "test").metrics(data.task.labels)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = pruning_curve(data, model.eval())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
    return {
        "curve": found,
        "accuracy": test.accuracy,
        "loss": test.loss,
        "size": sum(parameter.numel() for parameter in model.parameters()),
    }


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    rows = [found["whole"], *found["points"]]
    cut = [{k: v for k, v in row.items() if k not in ("milliseconds", "loss")} for row in rows]
    return {"rows": cut, "importance": found["importance"], "heads": found["heads"]}


@pytest.mark.parametrize("round_share", ["null", "0.25"])
def test_the_curve(ranks: Ranks, text_shards: Path, tmp_path: Path, round_share: str) -> None:
    recipe = text_recipe(text_shards, tmp_path, *SHARES)
    recipe += ["--analysis.pruning.round_share", round_share]
    alone = ranks(1).run(curve, recipe)[0]
    first, second = ranks(2).run(curve, recipe)
    assert first["curve"] == second["curve"]
    found = alone["curve"]
    assert json.loads(json.dumps(found)) == found
    assert without_times(found) == without_times(first["curve"]), "ranks change nothing"
    assert (found["heads"], found["score_on"], found["score_items"]) == (8, "train", 70)
    assert found["whole"]["accuracy"] == alone["accuracy"]
    assert found["whole"]["loss"] == pytest.approx(alone["loss"])
    assert (found["whole"]["removed"], found["whole"]["parameters"]) == (0, alone["size"])
    assert found["masked_difference"] < 1e-4
    points = found["points"]
    made = [(p["share"], p["choice"], p["draw"]) for p in points]
    draws = [("importance", None), ("random", 0), ("random", 1)]
    assert made == [(share, *draw) for share in (0.25, 0.5, 0.9) for draw in draws]
    # 2 layers of 4 heads of 32 units, 128 wide; 90 % would leave a layer without heads.
    assert [p["removed"] for p in points] == [2] * 3 + [4] * 3 + [6] * 3
    for point in points:
        removed = [len(gone) for gone in point["heads"].values()]
        assert sum(removed) == point["removed"] and max(removed) <= 3
        assert point["parameters"] == alone["size"] - point["removed"] * (4 * 32 * 128 + 3 * 32)
        assert (point["milliseconds"] is None) == (point["choice"] == "random")
        assert 0 <= point["validation_accuracy"] <= 1
    random = [p["heads"] for p in points if p["choice"] == "random"]
    assert random[0] != random[1] or random[2] != random[3]
    least = min((s, n, h) for n, row in enumerate(found["importance"]) for h, s in enumerate(row))
    assert least[2] in points[0]["heads"][str(least[1])]


def test_a_run_writes_its_curve(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    recipe = text_recipe(text_shards, tmp_path, *SHARES, "--optim.lr", "1e-3")
    folder = Path(ranks(2).run(train_recipe, "demo/bert_full", recipe)[0])
    found = json.loads((folder / "eval" / "pruning.json").read_text())
    test = json.loads((folder / "eval" / "metrics.json").read_text())["splits"]["test"]
    for name in ("accuracy", "macro_f1", "loss"):
        assert found["whole"][name] == pytest.approx(test[name], rel=1e-5)
    assert len(found["points"]) == 9


def test_less_is_computed(tmp_path: Path) -> None:
    """Times are no matter for a test; the number of operations is what they follow."""
    model = small_bert(tmp_path / "bert").eval()
    model.set_attn_implementation("eager")  # fused attention is not counted on a CPU
    counts = []
    for removed in ({}, {0: (1,)}, {0: (0,), 1: (1, 2), 2: (3,)}):
        prune_heads(model, removed)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(*pairs())
        counts.append(counter.get_total_flops())
    # Query, key, value and output of 36 tokens of 32 units, 8 units a head; scores and sums of values.
    a_head = 2 * 36 * 32 * 8 * 4 + 2 * 3 * 12 * 12 * 8 * 2
    assert [counts[0] - count for count in counts] == [0, a_head, 5 * a_head]


def scores(world: World, overrides: list[str]) -> list[list[float]]:
    """Scores of 70 samples, which fill no whole number of batches."""
    data = open_data(world, "demo/bert_full", overrides)
    model = data.task.build_model()
    assert isinstance(model, NliModel)
    samples = scoring_samples(data.shards, data.split, "train", 70, data.task.collate)
    return score_heads(model, samples, world.device, world).tolist()  # type: ignore[no-any-return]


def test_scores_are_the_same_on_any_number_of_ranks(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    recipe = text_recipe(text_shards, tmp_path)
    alone = ranks(1).run(scores, recipe)
    assert ranks(2).run(scores, recipe) == alone * 2
    assert len({value for row in alone[0] for value in row}) == 8


def choice(world: World, overrides: list[str]) -> tuple[int, Any]:
    """How many batches this rank scored for the choice of 70 samples, and the heads that go."""
    scored = itertools.count()
    gradients = head_choice.mask_gradients

    def counted(*arguments: Any) -> torch.Tensor:
        next(scored)
        return gradients(*arguments)

    head_choice.mask_gradients = counted
    try:
        task = open_data(world, "demo/bert_heads", overrides).task
    finally:
        head_choice.mask_gradients = gradients
    assert isinstance(task, NliTask)
    return next(scored), task.heads


@pytest.mark.parametrize("round_share", ["null", "0.25"])
def test_all_ranks_score_for_the_choice(
    ranks: Ranks, text_shards: Path, tmp_path: Path, round_share: str
) -> None:
    """None waits for another that does everything: on many samples it would be taken for lost."""
    recipe = text_recipe(text_shards, tmp_path, *CHOSEN, "--model.regime.score_items", "70")
    recipe += ["--model.regime.round_share", round_share]
    rounds = 1 if round_share == "null" else 2
    [(batches, heads)] = ranks(1).run(choice, recipe)
    assert batches == 3 * rounds and heads
    assert ranks(2).run(choice, recipe) == [(2 * rounds, heads), (rounds, heads)]


def removed_by(folder: Path) -> dict[str, list[int]]:
    return json.loads((folder / CHOICE).read_text())  # type: ignore[no-any-return]


def test_a_run_removes_heads_by_importance(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    """The same heads on one rank and on two, in the log's account and in the export."""
    folders = []
    for size in (1, 2):
        recipe = text_recipe(text_shards, tmp_path / str(size), *CHOSEN)
        folders.append(Path(ranks(size).run(start, recipe)[0]))
    chosen = removed_by(folders[0])
    assert removed_by(folders[1]) == chosen and sum(map(len, chosen.values())) == 4
    for folder in folders:
        summary = json.loads((folder / "eval" / "parameters.json").read_text())["summary"]
        assert "heads removed: 4" in summary
        model = load_exported(folder / "model")
        assert isinstance(model, NliModel)
        assert {str(n): list(gone) for n, gone in model.removed_heads.items()} == chosen


def start(world: World, recipe: list[str], stop_after: int | None = None) -> str:
    """Train ``demo/bert_heads``; a stop is asked for at the n-th control word."""
    words = itertools.count()
    asked = trainers.loop.stop_asked
    if stop_after is not None:
        trainers.loop.stop_asked = lambda: next(words) >= stop_after
    try:
        return str(train(load_recipe("demo/bert_heads", recipe), world, Beginning()))
    except Stopped:
        return ""
    finally:
        trainers.loop.stop_asked = asked


def test_the_choice_is_made_once(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    """A run that goes on takes the heads that its first start chose."""
    recipe = text_recipe(text_shards, tmp_path, *CHOSEN, "--output.name", "one")
    assert ranks(1).run(start, recipe, 3) == [""]
    folder = tmp_path / "bert_heads" / "one"
    first = removed_by(folder)
    # As many heads of each layer, so that the checkpoint fits, but other ones.
    other = {n: [h for h in range(4) if h not in gone][: len(gone)] for n, gone in first.items()}
    other = {n: sorted(heads + [3, 2, 1][: len(first[n]) - len(heads)]) for n, heads in other.items()}
    assert other != first
    (folder / CHOICE).write_text('{"9": [0]}')
    with pytest.raises(RuntimeError, match=r"InputError: heads\.json of the run fits no such model"):
        ranks(1).run(start, recipe)
    (folder / CHOICE).write_text(json.dumps(other))
    assert ranks(2).run(start, recipe) == [str(folder)] * 2
    assert removed_by(folder) == other, "taken as it stands, not chosen anew"
    model = load_exported(folder / "model")
    assert isinstance(model, NliModel)
    assert {str(n): list(gone) for n, gone in model.removed_heads.items()} == other


def test_a_share_that_cannot_be_reached(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    recipe = text_recipe(text_shards, tmp_path, *CHOSEN, "--model.regime.heads_share", "0.9")
    with pytest.raises(RuntimeError, match=r"InputError: model\.regime\.heads_share: 0\.9"):
        ranks(2).run(start, recipe)
    assert not (tmp_path / "bert_heads").exists()
