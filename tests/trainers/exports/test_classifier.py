"""Exports: transformers' own classes give our logits, and ours come back bit for bit."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn
from transformers import (
    AutoFeatureExtractor,
    AutoModelForAudioClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    pipeline,
)

from configs.errors import InputError
from configs.models import BertConfig, HeadKind, HubertConfig, RegimeConfig
from tests.trainers.models.test_freezing import MINILM, REGIMES
from tests.trainers.tiny_models import (
    EMOTIONS,
    RELATIONS,
    clips,
    hubert_folder,
    minilm_folder,
    pairs,
    small_bert,
)
from trainers.exports.card import CardFacts, card_text
from trainers.exports.classifier import export_emotion, export_nli, load_exported, read_about
from trainers.models.bert import build_nli_model
from trainers.models.bert_classifier import NliModel
from trainers.models.freezing import apply_regime, check_emotion, check_regime
from trainers.models.hubert import EmotionModel, build_emotion_model
from trainers.models.pruning import prune_heads
from trainers.models.tokenizer import load_tokenizer, train_wordpiece
from trainers.tasks.nli import NliCollate

Reads = Literal["pair", "hypothesis"]
CARD = CardFacts(
    recipe="demo/emotion",
    corpus="ShEMO-like clips, speaker split",
    synthetic=True,
    metrics={"validation": {"accuracy": 0.5}, "test": {"accuracy": 0.25, "uar": 0.125}},
    limits=("Not for diagnosis.",),
    command="sokhan train demo",
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    out = tmp_path_factory.mktemp("tokenizer") / "out"
    return train_wordpiece(["یک دو سه", "چهار پنج"], 60, out)


def emotion(tmp_path: Path, norm: str = "group", head: HeadKind = "linear") -> EmotionModel:
    source = hubert_folder(tmp_path / "source", norm)
    (source / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    config = HubertConfig(pretrained=str(source), head=head)
    model = build_emotion_model(config, EMOTIONS, seed=2)
    for parameter in model.head.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape)
    return model.eval()


def same_weights(model: nn.Module, other: nn.Module) -> None:
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]) and value.dtype == theirs[name].dtype, name


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("head", ["linear", "weighted", "mlp", "attentive"])
def test_emotion_models(tmp_path: Path, norm: str, head: HeadKind) -> None:
    model = emotion(tmp_path, norm, head)
    folder = tmp_path / "run" / "model"
    export_emotion(model, None, folder, CARD)
    again = load_exported(folder)
    assert isinstance(again, EmotionModel) and not again.training
    same_weights(model, again)
    check_emotion(again)
    assert (again.labels, again.settings, again.do_normalize) == (EMOTIONS, model.settings, False)
    audio, lengths = clips()
    with torch.no_grad():
        assert torch.equal(again(audio, lengths), model(audio, lengths))
        stock = AutoModelForAudioClassification.from_pretrained(
            folder, trust_remote_code=head in ("mlp", "attentive")
        ).eval()
        theirs = stock(audio[:1]).logits
        torch.testing.assert_close(theirs, model(audio[:1], lengths[:1]), rtol=1e-5, atol=1e-5)
        if norm == "layer":  # the others must not be given a mask
            mask = (torch.arange(audio.shape[1]) < lengths[:, None]).long()
            theirs = stock(audio, attention_mask=mask).logits
            torch.testing.assert_close(theirs, model(audio, lengths), rtol=1e-5, atol=1e-5)
    assert stock.config.id2label == dict(enumerate(EMOTIONS))
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    assert extractor.sampling_rate == 16_000 and not extractor.do_normalize
    assert extractor.return_attention_mask == (norm == "layer")


@pytest.mark.parametrize("head", ["mlp", "attentive"])
def test_own_heads_load_without_this_project(head: HeadKind, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    model = emotion(tmp_path, head=head)
    export_emotion(model, None, folder, CARD)
    audio, lengths = clips(samples=(1_000,))
    torch.save(audio, tmp_path / "audio.pt")
    code = (
        "import sys, torch; assert not any('main' == p for p in sys.path)\n"
        "from transformers import AutoModelForAudioClassification as Auto\n"
        "model = Auto.from_pretrained(sys.argv[1], trust_remote_code=True).eval()\n"
        "assert 'trainers' not in sys.modules\n"
        "print(model(torch.load(sys.argv[2])).logits.tolist())"
    )
    arguments = [sys.executable, "-I", "-c", code, str(folder), str(tmp_path / "audio.pt")]
    result = subprocess.run(arguments, cwd=tmp_path, check=True, capture_output=True, text=True)
    theirs = torch.tensor(json.loads(result.stdout.splitlines()[-1]))
    with torch.no_grad():
        torch.testing.assert_close(theirs, model(audio, lengths), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", REGIMES)
def test_nli_models(tmp_path: Path, kind: str, tokenizer: PreTrainedTokenizerBase) -> None:
    model = small_bert(tmp_path / "bert", regime=REGIMES[kind]).eval()
    report = apply_regime(model, REGIMES[kind], seed=1)
    folder = tmp_path / "model"
    export_nli(model, None, tokenizer, folder, CARD)
    check_nli(model, folder)
    again = load_exported(folder)
    assert isinstance(again, NliModel)
    assert again.removed_heads == report.removed_heads
    assert again.settings == model.settings
    text = "یک دو"
    assert AutoTokenizer.from_pretrained(folder)(text, text) == tokenizer(text, text)


def test_pipelines_cut_pairs_as_training_did(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Asked to cut, but not where; and by a class of tokenizer that transformers 4 has, too."""
    model = small_bert(tmp_path / "bert").eval()
    model.classifier.weight.data += 0.3 * torch.randn(model.classifier.weight.shape)
    export_nli(model, None, tokenizer, tmp_path / "model", CARD)
    longest = model.settings.max_tokens
    pair = ("یک دو سه " * longest, "چهار پنج")
    classify = pipeline("text-classification", model=str(tmp_path / "model"), top_k=None)
    told = {
        one["label"]: one["score"]
        for one in classify({"text": pair[0], "text_pair": pair[1]}, truncation=True)
    }
    ours = tokenizer(*pair, truncation=True, max_length=longest, return_tensors="pt")
    assert ours["input_ids"].shape == (1, longest)
    with torch.no_grad():
        logits = model(ours["input_ids"], ours["attention_mask"], ours["token_type_ids"])
    expected = dict(zip(RELATIONS, logits.softmax(1)[0].tolist(), strict=True))
    assert told == pytest.approx(expected, abs=1e-5)
    settings = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert not {"is_local", "local_files_only"} & settings.keys()


def check_nli(model: NliModel, folder: Path) -> None:
    again = load_exported(folder)
    same_weights(model, again)
    ids, mask, types = pairs(words=model.config.vocab_size)
    with torch.no_grad():
        expected = model(ids, mask, types)
        assert torch.equal(again(ids, mask, types), expected)
        stock = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        theirs = stock(ids, attention_mask=mask, token_type_ids=types).logits
    torch.testing.assert_close(theirs, expected, rtol=1e-4, atol=1e-5)
    assert stock.config.label2id == {label: number for number, label in enumerate(RELATIONS)}


@pytest.mark.parametrize("kind", ["freeze_first", "heads_removed"])
def test_published_weights_come_back(tmp_path: Path, kind: str) -> None:
    source = minilm_folder()
    config = BertConfig(pretrained=str(source), regime=MINILM[kind])
    model = build_nli_model(config, RELATIONS, None, 0, seed=0).eval()
    apply_regime(model, MINILM[kind], seed=0)
    export_nli(model, None, load_tokenizer(source), tmp_path / "model", CARD)
    check_nli(model, tmp_path / "model")


def test_a_gathered_state_dict_is_what_is_written(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Under ZeRO-3 the model's own tensors are empty."""
    model = small_bert(tmp_path / "bert", regime=REGIMES["heads_removed"]).eval()
    apply_regime(model, REGIMES["heads_removed"], seed=1)
    state = {name: value * 2 for name, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.data = torch.empty(0)
    export_nli(model, state, tokenizer, tmp_path / "model", CARD)
    for name, value in load_exported(tmp_path / "model").state_dict().items():
        assert torch.equal(value, state[name]), name
    del state["classifier.bias"]
    with pytest.raises(ValueError, match="lacks classifier.bias"):
        export_nli(model, state, tokenizer, tmp_path / "other", CARD)
    assert not (tmp_path / "other").exists()


def test_bfloat16_stays(tmp_path: Path) -> None:
    model = emotion(tmp_path).bfloat16()
    export_emotion(model, None, tmp_path / "model", CARD)
    same_weights(model, load_exported(tmp_path / "model"))
    stock = AutoModelForAudioClassification.from_pretrained(tmp_path / "model")
    assert stock.dtype == torch.bfloat16


def test_a_run_goes_on_from_an_export(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    first = small_bert(tmp_path / "bert")
    first.classifier.weight.data.fill_(0.125)
    export_nli(first, None, tokenizer, tmp_path / "model", CARD)
    config = BertConfig(pretrained=str(tmp_path / "model"), max_tokens=32)
    second = build_nli_model(config, RELATIONS, len(tokenizer), 0, seed=9)
    same_weights(first, second)


def pruned_export(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> NliModel:
    """A model with 5 of 12 heads removed, exported to tmp_path/pruned."""
    model = small_bert(tmp_path / "bert", regime=REGIMES["heads_removed"]).eval()
    model.classifier.weight.data += 0.3 * torch.randn(model.classifier.weight.shape)
    apply_regime(model, REGIMES["heads_removed"], seed=1)
    export_nli(model, None, tokenizer, tmp_path / "pruned", CARD)
    return model


def continued(tmp_path: Path, vocabulary: int, regime: RegimeConfig) -> NliModel:
    config = BertConfig(pretrained=str(tmp_path / "pruned"), max_tokens=32, regime=regime)
    return build_nli_model(config, RELATIONS, vocabulary, 0, seed=9).eval()


def test_removed_heads_stay_removed_where_a_run_goes_on(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    first = pruned_export(tmp_path, tokenizer)
    second = continued(tmp_path, len(tokenizer), RegimeConfig())
    same_weights(first, second)
    whole = small_bert(tmp_path / "bert")
    assert sum(p.numel() for p in whole.parameters()) - sum(p.numel() for p in second.parameters()) == 5 * (
        4 * 8 * 32 + 3 * 8
    )
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "pruned").eval()
    ids, mask, types = pairs(words=len(tokenizer))
    with torch.no_grad():
        theirs = stock(ids, attention_mask=mask, token_type_ids=types).logits
        torch.testing.assert_close(second(ids, mask, types), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", REGIMES)
def test_each_regime_goes_on_from_a_pruned_model(
    tmp_path: Path, kind: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    first = pruned_export(tmp_path, tokenizer)
    regime = REGIMES[kind]
    if kind == "heads_removed":
        with pytest.raises(InputError, match=r"heads_share: 0\.4 removes 5 of 12 heads; 6 to 9"):
            apply_regime(continued(tmp_path, len(tokenizer), regime), regime, seed=1)
        regime = RegimeConfig("heads_removed", heads_share=0.6)
    model = continued(tmp_path, len(tokenizer), regime)
    report = apply_regime(model, regime, seed=1)
    kept = {n: gone for n, gone in first.removed_heads.items() if n < report.layers}
    if kind == "heads_removed":
        assert sum(map(len, report.removed_heads.values())) == 7
        assert all(set(gone) <= set(report.removed_heads[n]) for n, gone in kept.items())
    else:
        assert report.removed_heads == kept
    export_nli(model, None, tokenizer, tmp_path / "again", CARD)
    check_nli(model, tmp_path / "again")
    again = load_exported(tmp_path / "again")
    assert isinstance(again, NliModel) and again.removed_heads == model.removed_heads


def test_the_check_knows_what_a_model_lacked(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    pruned_export(tmp_path, tokenizer)
    model = continued(tmp_path, len(tokenizer), RegimeConfig())
    check_regime(model, RegimeConfig())
    with pytest.raises(AssertionError, match="removed heads"):
        check_regime(model, RegimeConfig("heads_removed", heads_share=0.6))
    left = next(n for n in range(4) if n not in model.removed_heads.get(0, ()))
    prune_heads(model, {0: (left,)})
    with pytest.raises(AssertionError, match="removed heads"):
        check_regime(model, RegimeConfig())


def test_a_config_that_calls_living_heads_removed(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    pruned_export(tmp_path, tokenizer)
    path = tmp_path / "pruned" / "config.json"
    config = json.loads(path.read_text())
    for given, message in (
        ({"0": [0, 1], "1": [0, 1]}, "the weights of layer . hold heads that it calls removed"),
        ({"7": [0]}, r"sokhan_removed_heads\.7: no such layer"),
        ([1], "sokhan_removed_heads is not heads by layer"),
    ):
        path.write_text(json.dumps({**config, "sokhan_removed_heads": given}))
        with pytest.raises(InputError, match=message) as caught:
            continued(tmp_path, len(tokenizer), RegimeConfig())
        assert "\n" not in str(caught.value)


def test_an_export_replaces_another_whole_or_not_at_all(tmp_path: Path) -> None:
    model, folder = emotion(tmp_path), tmp_path / "run" / "model"
    export_emotion(model, None, folder, CARD)
    before = read_about(folder)["sha256"]
    with pytest.raises(TypeError):  # a card that cannot be written, after the weights are
        export_emotion(model, None, folder, {"nonsense": 1})
    assert read_about(folder)["sha256"] == before
    model.head.classifier.bias.data += 1
    export_emotion(model, None, folder, CARD)
    assert read_about(folder)["sha256"] != before
    assert [path.name for path in folder.parent.iterdir()] == ["model"], "left-overs"


def test_damage_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with pytest.raises(InputError, match=r"no exported model: it has no sokhan\.json"):
        load_exported(tmp_path)
    export_emotion(emotion(tmp_path), None, folder, CARD)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors: missing or changed"):
        load_exported(folder)
    (folder / "sokhan.json").write_text("{}")
    with pytest.raises(InputError, match="not of format"):
        load_exported(folder)


def test_card(tmp_path: Path) -> None:
    export_emotion(emotion(tmp_path), None, tmp_path / "model", CARD)
    text = (tmp_path / "model" / "README.md").read_text()
    assert "- synthetic-data\n" in text and "**Trained on synthetic data" in text
    assert "| part | accuracy | uar |\n| --- | --- | --- |\n| validation | 0.5000 |  |\n" in text
    assert "| test | 0.2500 | 0.1250 |" in text
    assert "- Not for diagnosis." in text and "ShEMO-like clips" in text
    real = CardFacts(recipe="r", corpus="c", synthetic=False)
    export_emotion(emotion(tmp_path), None, tmp_path / "model", real)
    assert "synthetic" not in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize("reads", ["pair", "hypothesis"])
def test_the_cards_code_reads_pairs_as_training_did(
    tmp_path: Path, reads: Reads, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = small_bert(tmp_path / "bert", reads=reads).eval()
    folder = tmp_path / "model"
    export_nli(model, None, tokenizer, folder, CARD)
    text = (folder / "README.md").read_text()
    assert ("second text alone" in text) == (reads == "hypothesis")
    # Far more than the model was trained with, and than it has positions.
    pair = ("یک دو سه " * 60, "چهار پنج " * 20)
    names: dict[str, Any] = {"folder": folder, "premise": pair[0], "hypothesis": pair[1]}
    exec(text.split("```python\n")[1].split("```")[0], names)
    collate = NliCollate(tokenizer, model.settings.max_tokens, "processed", reads)
    tokens = collate.encode([pair], return_tensors="pt")
    assert {name: value.tolist() for name, value in names["inputs"].items()} == {
        name: value.tolist() for name, value in tokens.items()
    }
    logits = model(tokens["input_ids"], tokens["attention_mask"], tokens["token_type_ids"])
    assert names["label"] == RELATIONS[int(logits.argmax())]


def test_a_card_says_what_trained(tmp_path: Path) -> None:
    model = emotion(tmp_path)
    card = CardFacts(recipe="r", corpus="c", synthetic=False)
    assert "encoder and linear head train, convolutions frozen, exact padding." in card_text(model, card)
    base = dataclasses.replace(model.settings, freeze_conv=False)
    for settings, words in (
        (dataclasses.replace(base, trains="head"), "linear head alone trains"),
        (
            dataclasses.replace(base, trains="last", last_layers=2),
            "last 2 layers and linear head train",
        ),
    ):
        model.settings = settings
        text = card_text(model, card)
        assert words in text and "convolutions" not in text, "they train with the encoder alone"
    regime = RegimeConfig(
        "heads_removed",
        heads_share=0.5,
        choose="importance",
        score_on="validation",
        round_share=0.1,
    )
    text = card_text(small_bert(tmp_path / "bert", regime=regime), card)
    assert "50% of attention heads removed by importance on validation" in text
    assert "scored anew after every 10%" in text
