"""BERT: agreement with transformers, loading, labels, limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification

from configs.errors import InputError
from configs.models import BertConfig
from tests.trainers.tiny_models import (
    RELATIONS,
    bert_folder,
    hubert_folder,
    minilm_folder,
    pairs,
    small_bert,
)
from trainers.models.bert import build_nli_model
from trainers.models.bert_classifier import NliModel


def stock_of(model: NliModel) -> BertForSequenceClassification:
    stock = BertForSequenceClassification(model.config).eval()
    stock.load_state_dict(model.state_dict())
    return stock


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_equals_transformers(tmp_path: Path, attention: str) -> None:
    model = small_bert(tmp_path / "bert").eval()
    model.set_attn_implementation(attention)
    ids, mask, types = pairs()
    with torch.no_grad():
        theirs = stock_of(model)(ids, attention_mask=mask, token_type_ids=types).logits
        torch.testing.assert_close(model(ids, mask, types), theirs)
        short = model(ids[1:2, :7], mask[1:2, :7], types[1:2, :7])
        torch.testing.assert_close(model(ids, mask, types)[1:2], short)
        assert not torch.allclose(model(ids, torch.ones_like(mask), types)[1:2], short)


def test_fresh_sizes_and_seed() -> None:
    config = BertConfig(size="tiny")
    torch.manual_seed(1)
    first = build_nli_model(config, RELATIONS, 200, 0, seed=1)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.rand(1) == after, "building drew from the global generator"
    again = build_nli_model(config, RELATIONS, 200, 0, seed=1).state_dict()
    other = build_nli_model(config, RELATIONS, 200, 0, seed=2)
    assert all(torch.equal(value, again[name]) for name, value in first.state_dict().items())
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert (first.config.num_hidden_layers, first.config.hidden_size) == (2, 128)
    assert first.bert.embeddings.word_embeddings.weight.shape == (200, 128)
    mini = build_nli_model(replace(config, size="mini"), RELATIONS, 200, 0, seed=1)
    assert (mini.config.num_hidden_layers, mini.config.hidden_size) == (4, 256)


def test_dropout_is_the_recipes(tmp_path: Path) -> None:
    quiet = small_bert(tmp_path / "bert", dropout=0.0)
    noisy = small_bert(tmp_path / "bert", dropout=0.5)
    with torch.no_grad():
        assert torch.equal(quiet(*pairs()), quiet(*pairs()))
        assert not torch.equal(noisy(*pairs()), noisy(*pairs()))


def test_bfloat16_logits_are_float32(tmp_path: Path) -> None:
    model = small_bert(tmp_path / "bert").eval()
    with torch.no_grad():
        full = model(*pairs())
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(*pairs())
        cast = model.bfloat16()(*pairs())
    assert mixed.dtype == cast.dtype == torch.float32
    assert max((mixed - full).abs().max(), (cast - full).abs().max()) < 0.05


def test_activation_checkpointing_changes_nothing(tmp_path: Path) -> None:
    grads = []
    for checkpointing in (False, True):
        model = small_bert(tmp_path / "bert")
        if checkpointing:
            model.enable_activation_checkpointing()
        torch.manual_seed(0)
        model(*pairs()).square().sum().backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    for name, value in grads[0].items():
        torch.testing.assert_close(grads[1][name], value, msg=name)


def test_classifier_is_kept_for_the_same_labels_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = small_bert(tmp_path / "bert")
    trained.classifier.weight.data.fill_(0.25)
    trained.save_pretrained(tmp_path / "trained")
    config = BertConfig(pretrained=str(tmp_path / "trained"), max_tokens=32)
    same = build_nli_model(config, RELATIONS, 100, 0, seed=1)
    assert (same.classifier.weight == 0.25).all()
    for labels in (("c", "e", "n"), ("e", "c", "n", "x")):
        fresh = build_nli_model(config, labels, 100, 0, seed=1)
        assert fresh.classifier.weight.shape == (len(labels), 32)
        assert not (fresh.classifier.weight == 0.25).any()
    assert "fresh" in caplog.text


def test_pooler_may_be_new_but_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = bert_folder(tmp_path / "bert")
    weights = load_file(folder / "model.safetensors")
    no_pooler = {name: value for name, value in weights.items() if "pooler" not in name}
    save_file(no_pooler, folder / "model.safetensors", {"format": "pt"})
    small_bert(folder)
    assert "bert.pooler.dense.weight" in caplog.text
    del no_pooler["encoder.layer.1.output.dense.bias"]
    save_file(no_pooler, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="layer.1.output.dense.bias is missing"):
        small_bert(folder)


def test_limits_are_named(tmp_path: Path) -> None:
    folder = bert_folder(tmp_path / "bert", positions=64)
    config = BertConfig(pretrained=str(folder), max_tokens=65)
    with pytest.raises(InputError, match=r"model.max_tokens: 65 is not in 3..64"):
        build_nli_model(config, RELATIONS, 100, 0, 0)
    fits = replace(config, max_tokens=64)
    with pytest.raises(InputError, match="101 entries, the model only 100"):
        build_nli_model(fits, RELATIONS, 101, 0, 0)
    with pytest.raises(InputError, match="model.dropout"):
        build_nli_model(replace(fits, dropout=1.0), RELATIONS, 100, 0, 0)
    hubert = hubert_folder(tmp_path / "hubert", "group")
    with pytest.raises(InputError, match="holds a 'hubert' model, not 'bert'"):
        build_nli_model(replace(fits, pretrained=str(hubert)), RELATIONS, 100, 0, 0)


def test_published_weights_load() -> None:
    folder = minilm_folder()
    config = BertConfig(pretrained=str(folder))
    model = build_nli_model(config, RELATIONS, None, 0, seed=0)
    published = load_file(folder / "model.safetensors")
    state = model.state_dict()
    names = [name for name in published if not name.endswith("position_ids")]
    assert len(names) == len(state) - 2  # all but the classifier
    assert all(torch.equal(state[f"bert.{name}"], published[name]) for name in names)
