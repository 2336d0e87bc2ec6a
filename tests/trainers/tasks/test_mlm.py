"""Masked language modelling: full rows, masks that depend on the plan alone, a head over masked
tokens only, and an encoder that the inference task goes on from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM

from configs.load import load_recipe
from configs.schema import MlmRecipe, NliRecipe
from data_shards.reader import Item, Request
from data_shards.sample import TextPair
from tests.ranks import RankPool
from tests.trainers.jobs import losses_of, started_from, train_recipe
from trainers.models.bert_mlm import build_mlm_model
from trainers.models.tokenizer import train_wordpiece
from trainers.tasks.mlm import MlmCollate
from trainers.tasks.token_masks import TokenMasks

Ranks = Callable[[int], RankPool]
SENTENCES = [
    "کتاب خوب است و من آن را می‌خوانم",
    "هوا سرد بود ولی آفتاب می‌تابید",
    "او به خانه رفت",
    "بازی دیروز مساوی شد",
    "بچه‌ها در حیاط مدرسه بازی می‌کنند",
    "قطار دیر رسید",
]


@pytest.fixture(scope="module")
def collate(tmp_path_factory: pytest.TempPathFactory) -> MlmCollate:
    tokenizer = train_wordpiece(SENTENCES * 3, 90, tmp_path_factory.mktemp("t") / "tokenizer")
    return MlmCollate(TokenMasks(tokenizer, 0.15, False), 16, "original", seed=5)


def items(*texts: tuple[str, str]) -> list[Item]:
    return [Item(n, 0, text=TextPair(a, b, a, b)) for n, (a, b) in enumerate(texts)]


def request(step: int = 0, count: int = 6) -> Request:
    return Request(1, step, 0, np.arange(count), np.zeros(count, np.int32), True)


def test_rows_are_full_and_hold_everything(collate: MlmCollate) -> None:
    texts = [(text, "") for text in SENTENCES]
    rows = collate.rows(texts)
    tokenizer = collate.tokenizer
    expected = []
    for text in SENTENCES:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        expected += [*ids, tokenizer.sep_token_id]
    assert (rows.ids[:, 0] == tokenizer.cls_token_id).all()
    stream = rows.ids[:, 1:].flatten().tolist()
    assert stream[: len(expected)] == expected
    assert set(stream[len(expected) :]) <= {tokenizer.pad_token_id}
    assert len(rows.ids) == -(-len(expected) // 15)
    assert collate.count(texts) == [
        len(tokenizer(text, add_special_tokens=False)["input_ids"]) + 1 for text in SENTENCES
    ]


def test_second_texts_have_token_type_1(collate: MlmCollate) -> None:
    rows = collate.rows([(SENTENCES[2], SENTENCES[5]), (SENTENCES[3], "")])
    first, second, third = (
        len(collate.tokenizer(SENTENCES[n], add_special_tokens=False)["input_ids"]) + 1 for n in (2, 5, 3)
    )
    types = rows.types[:, 1:].flatten().tolist()
    assert types[: first + second + third] == [0] * first + [1] * second + [0] * third


def test_masks_follow_the_plan_alone(collate: MlmCollate) -> None:
    texts = items(*((text, "") for text in SENTENCES))
    batch, again, other = collate(request(), texts), collate(request(), texts), None
    other = collate(request(step=1), texts)
    assert all(torch.equal(a, b) for a, b in zip(batch.inputs, again.inputs, strict=True))
    assert not torch.equal(batch.inputs[3], other.inputs[3])
    assert batch.items == len(batch.labels) == len(batch.inputs[3])


@pytest.mark.parametrize("whole", [False, True])
def test_share_and_kind_of_masks(collate: MlmCollate, whole: bool) -> None:
    masking = MlmCollate(TokenMasks(collate.tokenizer, 0.2, whole), 64, "original", seed=5)
    texts = [(text, "") for text in SENTENCES * 300]
    rows, tokenizer = masking.rows(texts), collate.tokenizer
    batch = masking(request(count=len(texts)), items(*texts))
    ids, attention, _, places = batch.inputs
    original = rows.ids.flatten()
    assert torch.equal(batch.labels, original[places])
    special = torch.isin(original, torch.tensor(tokenizer.all_special_ids))
    assert not special[places].any()
    assert abs(len(places) / int((~special).sum()) - 0.2) < 0.02
    shown = ids.flatten()[places]
    masked = (shown == tokenizer.mask_token_id).float().mean().item()
    kept = (shown == original[places]).float().mean().item()
    if whole:
        assert masked == 1.0
        # The row's end cuts a word in two.
        words = (rows.words + 10**6 * torch.arange(len(rows.words))[:, None]).flatten()
        chosen = set(words[places].tolist())
        inside = torch.isin(words, torch.tensor(sorted(chosen)))
        assert int(inside.sum()) == len(places), "a word is masked with all its pieces or not at all"
        assert len(chosen) < len(places), "some words have several pieces"
    else:
        assert abs(masked - 0.8) < 0.03 and abs(kept - 0.1) < 0.03
    assert torch.equal(attention.bool(), rows.ids != tokenizer.pad_token_id)


def test_something_is_always_predicted(collate: MlmCollate) -> None:
    seldom = MlmCollate(TokenMasks(collate.tokenizer, 1e-6, False), 16, "original", seed=5)
    batch = seldom(request(count=1), items((SENTENCES[2], "")))
    assert batch.items == 1
    assert batch.labels.item() == batch.inputs[0].flatten()[batch.inputs[3]].item()


def test_texts_that_tokenise_to_nothing(collate: MlmCollate) -> None:
    """A soft hyphen alone: the rows hold separators, and there is still a loss with a mean."""
    assert collate.tokenizer("\u00ad", add_special_tokens=False)["input_ids"] == []
    for texts in ([("\u00ad", "")], [("\u00ad", "\u00ad"), ("\u00ad", "")]):
        batch = collate(request(count=len(texts)), items(*texts))
        separators = sum(2 if second else 1 for _, second in texts)
        assert batch.inputs[0].shape == (1, 16) and batch.valid == 1 + separators
        assert batch.labels.tolist() == [collate.tokenizer.sep_token_id]
        assert batch.inputs[0].flatten()[batch.inputs[3]].tolist() == batch.labels.tolist()


def test_logits_are_transformers_own(collate: MlmCollate) -> None:
    recipe = load_recipe("demo/mlm")
    assert isinstance(recipe, MlmRecipe)
    model = build_mlm_model(recipe.model, len(collate.tokenizer), 0, seed=1).eval()
    stock = BertForMaskedLM(model.config).eval()
    stock.load_state_dict(model.state_dict())
    ids, attention, types, places = collate(request(), items(*((text, "") for text in SENTENCES))).inputs
    with torch.no_grad():
        ours = model(ids, attention, types, places)
        theirs = stock(ids, attention_mask=attention, token_type_ids=types).logits
    torch.testing.assert_close(ours, theirs.flatten(0, 1)[places], rtol=1e-5, atol=1e-5)


def settings(shards: Path, *more: str) -> list[str]:
    return [
        "--data.shards",
        str(shards),
        "--data.workers",
        "0",
        "--batching.budget",
        "128",
        "--batching.micro_batches",
        "4",
        "--model.max_tokens",
        "32",
        "--model.vocabulary",
        "300",
        *more,
    ]


@pytest.mark.parametrize("zero", [0, 2, 3])
def test_same_losses_on_1_and_2_ranks(zero: int, ranks: Ranks, text_shards: Path) -> None:
    recipe = settings(text_shards, "--optim.lr", "1e-3", "--model.dropout", "0.1")
    alone = ranks(1).run(losses_of, "demo/mlm", recipe, 30)[0]
    together = ranks(2).run(losses_of, "demo/mlm", [*recipe, "--engine.zero", str(zero)], 30)
    worst = max(abs(a - b) / b for a, b in zip(together[0]["losses"], alone["losses"], strict=True))
    assert worst < 1e-4 if zero else 1e-5
    assert min(alone["losses"][-5:]) < alone["losses"][0]


def test_a_run_and_what_goes_on_from_it(ranks: Ranks, text_shards: Path, tmp_path: Path) -> None:
    """Pre-train, load the export in transformers and for inference, go on pre-training."""
    out = ["--output.folder", str(tmp_path), "--tracking.wandb", "off"]
    first = settings(text_shards, *out, "--output.name", "first", "--loop.epochs", "2")
    ranks(2).run(train_recipe, "demo/mlm", first)
    run = tmp_path / "mlm" / "first"
    document = json.loads((run / "eval" / "metrics.json").read_text())
    test = document["splits"]["test"]
    assert test["perplexity"] == pytest.approx(np.exp(test["loss"]))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    validations = [line for line in lines if line["kind"] == "validation"]
    assert len(validations) == 2 and validations[-1]["loss"] < validations[0]["loss"]
    assert not (run / "eval" / "predictions-test.csv").exists()

    stock = BertForMaskedLM.from_pretrained(run / "model")
    assert stock.cls.predictions.decoder.weight is stock.bert.embeddings.word_embeddings.weight
    words = stock.bert.embeddings.word_embeddings.weight

    again = settings(
        text_shards,
        *out,
        "--output.name",
        "again",
        "--loop.max_steps",
        "1",
        "--optim.lr",
        "0",
        "--model.pretrained",
        str(run / "model"),
    )
    ranks(2).run(train_recipe, "demo/mlm", again)
    kept = BertForMaskedLM.from_pretrained(tmp_path / "mlm" / "again" / "model")
    assert torch.equal(kept.bert.embeddings.word_embeddings.weight, words)
    assert torch.equal(kept.cls.predictions.bias, stock.cls.predictions.bias)

    inference = [*started_from(run, text_shards), *out, "--output.name", "nli", "--loop.epochs", "1"]
    ranks(2).run(train_recipe, "demo/bert_full", inference)
    recipe = load_recipe(tmp_path / "bert_full" / "nli" / "config.yaml")
    assert isinstance(recipe, NliRecipe)
    from trainers.exports.classifier import load_exported

    model = load_exported(tmp_path / "bert_full" / "nli" / "model")
    assert torch.equal(model.bert.embeddings.word_embeddings.weight, words)
