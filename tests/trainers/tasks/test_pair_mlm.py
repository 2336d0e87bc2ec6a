"""BERT's second objective: pairs that are exchanged, told apart, and a pooler that inference goes on from."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import BertForPreTraining, BertForSequenceClassification

from configs.errors import InputError
from configs.load import load_recipe
from configs.schema import MlmRecipe
from data_shards.reader import Item, Request
from data_shards.sample import TextPair
from tests.ranks import RankPool
from tests.trainers.jobs import losses_of, started_from, train_recipe
from trainers.models.bert_mlm import build_pair_mlm_model
from trainers.models.tokenizer import train_wordpiece
from trainers.tasks.pair_mlm import PairMlmCollate, PairMlmTask, exchange, shared_tokens
from trainers.tasks.token_masks import TokenMasks

Ranks = Callable[[int], RankPool]
WORDS = ["کتاب", "خوب", "هوا", "سرد", "خانه", "بازی", "حیاط", "قطار", "دیر", "آفتاب"]
PAIRS = [(f"{a} {b}", f"{b} {a} {a}") for a in WORDS for b in WORDS if a != b]


@pytest.fixture(scope="module")
def collate(tmp_path_factory: pytest.TempPathFactory) -> PairMlmCollate:
    folder = tmp_path_factory.mktemp("t") / "tokenizer"
    tokenizer = train_wordpiece([text for pair in PAIRS for text in pair], 60, folder)
    return PairMlmCollate(TokenMasks(tokenizer, 0.2, False), 32, "original", seed=5)


def items(pairs: list[tuple[str, str]]) -> list[Item]:
    return [Item(n, 0, text=TextPair(a, b, a, b)) for n, (a, b) in enumerate(pairs)]


def request(step: int, count: int) -> Request:
    return Request(1, step, 0, np.arange(count), np.zeros(count, np.int32), True)


def test_half_are_exchanged_for_texts_of_others() -> None:
    shares = []
    for seed in range(50):
        pairs, exchanged = exchange(PAIRS, [seed])
        for (first, second), old, new in zip(PAIRS, exchanged, pairs, strict=True):
            assert new[0] == first
            assert (new[1] != second) == bool(old)
            assert not old or any(b == new[1] and a != first for a, b in PAIRS)
        shares.append(np.mean(exchanged))
        assert exchange(PAIRS, [seed]) == (pairs, exchanged)
    assert abs(np.mean(shares) - 0.5) < 0.03 and len({tuple(exchange(PAIRS, [s])[1]) for s in (1, 2)}) == 2


def test_pairs_of_one_first_text_keep_their_own() -> None:
    """Hypotheses of one premise all belong to it; a pair alone has nobody to exchange with."""
    for pairs in ([("a", "b")], [("a", "b"), ("a", "c"), ("a", "d")], [("a", "b"), ("c", "b")]):
        for seed in range(20):
            assert exchange(pairs, [seed]) == (pairs, [0] * len(pairs))


@pytest.mark.parametrize("whole", [False, True])
def test_rows_are_pairs(collate: PairMlmCollate, whole: bool) -> None:
    tokenizer = collate.tokenizer
    masking = PairMlmCollate(TokenMasks(tokenizer, 0.2, whole), 32, "original", seed=5)
    batch = masking(request(3, len(PAIRS)), items(PAIRS))
    masked, attention, types, places, exchanged = batch.inputs
    pairs, expected = exchange(PAIRS, [30, 5, 1, 3, 0])
    assert exchanged.tolist() == expected
    plain = tokenizer([a for a, _ in pairs], [b for _, b in pairs], padding=True, return_tensors="pt")
    assert torch.equal(attention, plain["attention_mask"])
    assert torch.equal(types, plain["token_type_ids"])
    assert torch.equal(batch.labels, plain["input_ids"].flatten()[places])
    others = torch.ones(masked.numel(), dtype=torch.bool)
    others[places] = False
    assert torch.equal(masked.flatten()[others], plain["input_ids"].flatten()[others])
    special = torch.isin(plain["input_ids"], torch.tensor(tokenizer.all_special_ids)).flatten()
    assert not special[places].any()
    if whole:  # a word of the first text and one of the second with the same number are two words
        for row in range(len(pairs)):
            chosen = set((places[places // masked.shape[1] == row] % masked.shape[1]).tolist())
            names = list(zip(plain.sequence_ids(row), plain.word_ids(row), strict=True))
            words = {names[place] for place in chosen}
            assert chosen == {n for n, name in enumerate(names) if name in words}
    again = masking(request(3, len(PAIRS)), items(PAIRS))
    assert all(torch.equal(a, b) for a, b in zip(batch.inputs, again.inputs, strict=True))


def test_losses_are_transformers_own(collate: PairMlmCollate) -> None:
    """With equally many masked tokens in every pair, our mean is BERT's sum of two means."""
    recipe = load_recipe("demo/mlm")
    assert isinstance(recipe, MlmRecipe)
    model = build_pair_mlm_model(recipe.model, len(collate.tokenizer), 0, seed=1).eval()
    stock = BertForPreTraining(model.config).eval()
    stock.load_state_dict(model.state_dict())
    batch = collate(request(0, len(PAIRS)), items(PAIRS))
    ids, attention, types, places, exchanged = batch.inputs
    with torch.no_grad():
        logits, pair_logits = model(ids, attention, types, places)
        theirs = stock(ids, attention_mask=attention, token_type_ids=types)
        step = PairMlmTask.step(None, model, batch, torch.device("cpu"))  # type: ignore[arg-type]
    flat = theirs.prediction_logits.flatten(0, 1)[places]
    torch.testing.assert_close(logits, flat, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pair_logits, theirs.seq_relationship_logits, rtol=1e-5, atol=1e-5)
    assert step.pairs is not None
    row = places // ids.shape[1]
    pair_losses = functional.cross_entropy(theirs.seq_relationship_logits, exchanged, reduction="none")
    torch.testing.assert_close(step.pairs[:, 0], pair_losses[row], rtol=1e-4, atol=1e-5)
    tokens = functional.cross_entropy(flat, batch.labels, reduction="none")
    torch.testing.assert_close(step.losses, tokens + pair_losses[row], rtol=1e-4, atol=1e-5)


def test_tokens_of_both_texts() -> None:
    ids = torch.tensor([[-1, 7, 8, 7, -1, 9, 7, -1], [-1, 5, -1, 6, 6, -1, -1, -1]])
    types = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1, 0, 0]])
    expected = [[0, 1, 0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 0, 0]]
    assert shared_tokens(ids, types).long().tolist() == expected


def test_shared_tokens_are_asked_where_they_are_seen(collate: PairMlmCollate) -> None:
    """Against the sets of each pair's tokens."""
    asking = dataclasses.replace(collate, shared=True)
    batch = asking(request(3, len(PAIRS)), items(PAIRS))
    *inputs, told = batch.inputs
    without = collate(request(3, len(PAIRS)), items(PAIRS))
    assert all(torch.equal(a, b) for a, b in zip(inputs, without.inputs, strict=True))
    places, seen = inputs[3].tolist(), 0
    pairs, _ = exchange(PAIRS, [30, 5, 1, 3, 0])
    for row, pair in enumerate(pairs):
        first, second = (collate.tokenizer(text, add_special_tokens=False)["input_ids"] for text in pair)
        expected = [
            -100,
            *[int(n in second) for n in first],
            -100,
            *[int(n in first) for n in second],
        ]
        for column, label in enumerate(told[row].tolist()):
            hidden = row * told.shape[1] + column in places
            right = expected[column] if column < len(expected) and not hidden else -100
            assert label == right
            seen += label == 1
    assert seen > 100 and (told == 0).sum() > 100


def test_loss_of_shared_tokens_is_added_pair_by_pair(collate: PairMlmCollate) -> None:
    recipe = load_recipe("demo/mlm", settings(Path("shards"), "--model.shared_tokens", "true"))
    assert isinstance(recipe, MlmRecipe)
    model = build_pair_mlm_model(recipe.model, len(collate.tokenizer), 0, seed=1).eval()
    plain = collate(request(0, len(PAIRS)), items(PAIRS))
    batch = dataclasses.replace(collate, shared=True)(request(0, len(PAIRS)), items(PAIRS))
    told = batch.inputs[-1].clone()
    told[2] = -100  # every token of a pair may be masked
    batch = dataclasses.replace(batch, inputs=(*batch.inputs[:-1], told))
    step = functools.partial(PairMlmTask.step, None, model)  # type: ignore[arg-type]
    with torch.no_grad():
        logits = model(*batch.inputs[:4])[2]
        ours = step(batch, torch.device("cpu"))
        model.shared_tokens = None
        theirs = step(plain, torch.device("cpu"))
    assert ours.pairs is not None and theirs.pairs is not None
    row = batch.inputs[3] // told.shape[1]
    for number in range(len(PAIRS)):
        kept = told[number] >= 0
        mean = functional.cross_entropy(logits[number][kept], told[number][kept]).nan_to_num()
        share = (logits[number][kept].argmax(1) == told[number][kept]).float().mean().nan_to_num()
        mine = ours.pairs[row == number]
        torch.testing.assert_close(mine[:, 2], mean.expand(len(mine)), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(mine[:, 3], share.expand(len(mine)), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours.pairs[:, :2], theirs.pairs)
    torch.testing.assert_close(ours.losses, theirs.losses + ours.pairs[:, 2])


def settings(shards: Path, *more: str) -> list[str]:
    return [
        "--data.shards",
        str(shards),
        "--data.workers",
        "0",
        "--model.next_sentence",
        "true",
        "--batching.kind",
        "buckets",
        "--batching.budget",
        "256",
        "--batching.micro_batches",
        "4",
        "--model.max_tokens",
        "48",
        "--model.vocabulary",
        "300",
        *more,
    ]


@pytest.mark.parametrize("zero", [0, 3])
def test_same_losses_on_1_and_2_ranks(zero: int, ranks: Ranks, text_shards: Path) -> None:
    shared = ["--model.shared_tokens", "true"] * (zero == 3)
    recipe = settings(text_shards, "--optim.lr", "1e-3", "--model.dropout", "0.1", *shared)
    alone = ranks(1).run(losses_of, "demo/mlm", recipe, 20)[0]
    together = ranks(2).run(losses_of, "demo/mlm", [*recipe, "--engine.zero", str(zero)], 20)
    worst = max(abs(a - b) / b for a, b in zip(together[0]["losses"], alone["losses"], strict=True))
    assert worst < (1e-4 if zero else 1e-5)


def test_a_run_and_what_goes_on_from_it(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    out = ["--output.folder", str(tmp_path), "--tracking.wandb", "off"]
    more = ["--output.name", "pairs", "--loop.epochs", "2"]
    ranks(2).run(train_recipe, "demo/mlm", settings(text_shards, *out, *more))
    run = tmp_path / "mlm" / "pairs"
    test = json.loads((run / "eval" / "metrics.json").read_text())["splits"]["test"]
    assert test["perplexity"] == pytest.approx(np.exp(test["loss"] - test["pair_loss"]))
    assert 0 < test["pair_loss"] < test["loss"] and 0 <= test["pair_accuracy"] <= 1
    assert json.loads((run / "model" / "config.json").read_text())["architectures"] == ["BertForPreTraining"]
    stock, info = BertForPreTraining.from_pretrained(run / "model", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    classifier, info = BertForSequenceClassification.from_pretrained(run / "model", output_loading_info=True)
    assert sorted(info["missing_keys"]) == ["classifier.bias", "classifier.weight"]

    inference = [*started_from(run, text_shards), *out, "--output.name", "nli", "--loop.epochs", "1"]
    ranks(2).run(train_recipe, "demo/bert_full", inference)
    from trainers.exports.classifier import load_exported

    model = load_exported(tmp_path / "bert_full" / "nli" / "model")
    assert torch.equal(model.bert.pooler.dense.weight, stock.bert.pooler.dense.weight)

    tokens = [
        "--data.shards",
        str(text_shards),
        "--data.workers",
        "0",
        *out,
        "--output.name",
        "tokens",
        "--loop.max_steps",
        "1",
        "--optim.lr",
        "0",
        "--model.pretrained",
        str(run / "model"),
        "--batching.budget",
        "128",
        "--model.max_tokens",
        "32",
    ]
    ranks(2).run(train_recipe, "demo/mlm", tokens)
    kept = json.loads((tmp_path / "mlm" / "tokens" / "model" / "config.json").read_text())
    assert kept["architectures"] == ["BertForMaskedLM"]


def test_shared_tokens_are_learnt_and_stay_out_of_the_export(
    ranks: Ranks, text_shards: Path, tmp_path: Path
) -> None:
    out = ["--output.folder", str(tmp_path), "--tracking.wandb", "off", "--optim.lr", "2e-3"]
    more = ["--output.name", "pairs", "--loop.epochs", "4", "--model.shared_tokens", "true"]
    ranks(2).run(train_recipe, "demo/mlm", settings(text_shards, *out, *more))
    run = tmp_path / "mlm" / "pairs"
    lines = (run / "metrics.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    losses = [line["shared_loss"] for line in told if "shared_loss" in line]
    assert losses[-1] < losses[0]
    test = json.loads((run / "eval" / "metrics.json").read_text())["splits"]["test"]
    others = test["pair_loss"] + test["shared_loss"]
    assert test["perplexity"] == pytest.approx(np.exp(test["loss"] - others))
    assert 0 <= test["shared_accuracy"] <= 1
    _, info = BertForPreTraining.from_pretrained(run / "model", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert "which tokens both hold" in (run / "model" / "README.md").read_text()


def test_what_does_not_fit(text_shards: Path) -> None:
    with pytest.raises(InputError, match="'batching.kind' is 'packed'"):
        load_recipe("demo/mlm", ["--model.next_sentence", "true"])
    with pytest.raises(InputError, match="'model.shared_tokens' is about rows of one pair"):
        load_recipe("demo/mlm", ["--model.shared_tokens", "true"])
    with pytest.raises(InputError, match="'batching.kind' is 'buckets'"):
        load_recipe("demo/mlm", ["--batching.kind", "buckets"])
