"""Heads taken out for good give what zeroed heads give."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from configs.errors import InputError
from tests.trainers.tiny_models import pairs, small_bert
from trainers.models.pruning import check_heads, choose_heads, draw_heads, fill_removed, prune_heads

REMOVED = {0: (1,), 2: (0, 2, 3)}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_equals_zeroed_columns(tmp_path: Path, attention: str) -> None:
    whole = small_bert(tmp_path / "bert").eval()
    pruned = small_bert(tmp_path / "bert").eval()
    for model in (whole, pruned):
        model.set_attn_implementation(attention)
    with torch.no_grad():
        before = whole(*pairs())
        for layer, heads in REMOVED.items():
            for head in heads:  # 4 heads of 8 units
                dense = whole.bert.encoder.layer[layer].attention.output.dense
                dense.weight[:, head * 8 : head * 8 + 8] = 0
        prune_heads(pruned, REMOVED)
        torch.testing.assert_close(pruned(*pairs()), whole(*pairs()))
    assert (before - whole(*pairs())).abs().max() > 1e-3
    shapes = [tuple(layer.attention.self.key.weight.shape) for layer in pruned.bert.encoder.layer]
    assert shapes == [(24, 32), (32, 32), (8, 32)]
    assert pruned.removed_heads == REMOVED


def test_pruned_model_trains(tmp_path: Path) -> None:
    model = small_bert(tmp_path / "bert")
    prune_heads(model, REMOVED)
    model(*pairs()).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_filling_is_the_inverse(tmp_path: Path) -> None:
    whole, pruned = small_bert(tmp_path / "bert").eval(), small_bert(tmp_path / "bert").eval()
    prune_heads(pruned, REMOVED)
    filled = fill_removed(pruned.state_dict(), REMOVED, heads=4, head_size=8)
    with torch.no_grad():
        expected = pruned(*pairs())
        whole.load_state_dict(filled)
        torch.testing.assert_close(whole(*pairs()), expected)
    prune_heads(whole, REMOVED)
    for name, value in pruned.state_dict().items():
        assert torch.equal(whole.state_dict()[name], value), name


def test_heads_can_go_one_after_the_other(tmp_path: Path) -> None:
    """Heads keep the whole model's numbers, whatever has gone before."""
    at_once, in_turn = small_bert(tmp_path / "bert").eval(), small_bert(tmp_path / "bert").eval()
    prune_heads(at_once, REMOVED)
    for removed in ({2: (2,)}, {0: (1,), 2: (0,)}, {2: (3,)}):
        prune_heads(in_turn, removed)
    assert in_turn.removed_heads == REMOVED
    with torch.no_grad():
        assert torch.equal(in_turn(*pairs()), at_once(*pairs()))
    for wrong in ({0: (1,)}, {2: (1,)}, {1: (0, 1, 2, 3)}):
        with pytest.raises(AssertionError, match="cannot all go"):
            prune_heads(in_turn, wrong)


@pytest.mark.parametrize("share", [0.1, 1 / 3, 0.5, 11 / 12])
def test_random_choice(share: float) -> None:
    removed = choose_heads(12, 12, share, seed=4)
    assert removed == choose_heads(12, 12, share, seed=4)
    assert sum(map(len, removed.values())) == int(share * 144 + 0.5)
    assert all(len(set(gone)) == len(gone) <= 11 for gone in removed.values())
    assert all(0 <= head < 12 for gone in removed.values() for head in gone)
    if share < 0.9:
        assert removed != choose_heads(12, 12, share, seed=5)


def test_random_choice_is_the_same_everywhere() -> None:
    assert choose_heads(3, 4, 0.4, seed=0) == {0: (2, 3), 1: (1, 3), 2: (0,)}


def test_random_choice_from_a_model_that_lacks_heads() -> None:
    gone = {0: (0, 1), 2: (3,)}
    more = choose_heads(3, 4, 0.5, seed=0, gone=gone)
    assert sum(map(len, more.values())) == 3, "6 of 12, of which 3 have gone"
    assert not any(set(gone.get(layer, ())) & set(heads) for layer, heads in more.items())
    assert len(more.get(0, ())) <= 1
    with pytest.raises(InputError, match=r"removes 3 of 12 heads; 4 to 9 .* 3 have gone before"):
        choose_heads(3, 4, 0.25, seed=0, gone=gone)


def test_a_larger_draw_holds_the_smaller() -> None:
    drawn = [draw_heads(3, 4, count, "0 1", {}) for count in range(10)]
    assert drawn[0] == {} and drawn[9] != draw_heads(3, 4, 9, "0 2", {})
    for fewer, more in pairwise(drawn):
        assert all(set(heads) <= set(more[layer]) for layer, heads in fewer.items())


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 0.01, 0.95])
def test_bad_shares_are_named(share: float) -> None:
    with pytest.raises(InputError, match=r"model\.regime\.heads_share: ") as caught:
        choose_heads(3, 4, share, seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"3": (0,)}, r"heads\.3: no such layer; they are 0 to 2"),
        ({"first": (0,)}, r"heads\.first: no such layer"),
        ({"1": (4,)}, r"heads\.1: no head 4; they are 0 to 3"),
        ({"1": (-1,)}, r"heads\.1: no head -1"),
        ({"1": (0, 1, 2, 3)}, r"heads\.1: all 4 heads"),
        ({"1": (2, 2)}, r"heads\.1: a head is listed twice"),
        ({"1": (2,), "01": (3,)}, r"heads\.01: the layer is listed twice"),
        ({"1": ()}, "lists no head"),
        ({}, "lists no head"),
    ],
)
def test_bad_lists_are_named(given: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_heads(3, 4, given)


def test_heads_that_are_gone_cannot_be_listed() -> None:
    with pytest.raises(InputError, match=r"heads\.1: head 2 is gone already from model\.pretrained"):
        check_heads(3, 4, {"1": (0, 2)}, gone={1: (2,)})
    with pytest.raises(InputError, match=r"heads\.1: all 4 heads"):
        check_heads(3, 4, {"1": (0, 1, 3)}, gone={1: (2,)})


def test_good_list() -> None:
    assert check_heads(3, 4, {"2": (3, 0), "0": (1,), "1": ()}) == {0: (1,), 2: (0, 3)}
