"""The five regimes: what trains, what does not move, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from configs.errors import InputError
from configs.models import BertConfig, HubertConfig, RegimeConfig
from tests.trainers.tiny_models import EMOTIONS, RELATIONS, minilm_folder, pairs, small_bert
from trainers.models.bert import build_nli_model
from trainers.models.bert_classifier import NliModel
from trainers.models.freezing import apply_regime, check_emotion, check_regime, report_of
from trainers.models.hubert import build_emotion_model

REGIMES = {
    "full": RegimeConfig(),
    "freeze_first": RegimeConfig("freeze_first", layers=2),
    "embeddings_last": RegimeConfig("embeddings_last"),
    "intermediate": RegimeConfig("intermediate", layers=2),
    "heads_removed": RegimeConfig("heads_removed", heads_share=0.4),
}
FROZEN = {
    "full": (),
    "freeze_first": ("bert.embeddings.", "bert.encoder.layer.0.", "bert.encoder.layer.1."),
    "embeddings_last": ("bert.encoder.layer.0.", "bert.encoder.layer.1."),
    "intermediate": (),
    "heads_removed": (),
}


def step(model: NliModel) -> None:
    """One step of the optimizer with weight decay, which moves whatever may move."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)
    ids, mask, types = pairs(words=model.config.vocab_size)
    loss = nn.functional.cross_entropy(model(ids, mask, types), torch.tensor([0, 1, 2]))
    loss.backward()
    optimizer.step()


def check_one_step(model: NliModel, frozen_prefixes: tuple[str, ...]) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step(model)
    for name, value in model.state_dict().items():
        frozen = name.startswith(frozen_prefixes) if frozen_prefixes else False
        assert torch.equal(value, before[name]) == frozen, name


@pytest.mark.parametrize("kind", REGIMES)
def test_exactly_the_regimes_parameters_move(tmp_path: Path, kind: str) -> None:
    model = small_bert(tmp_path / "bert", regime=REGIMES[kind])
    report = apply_regime(model, REGIMES[kind], seed=1)
    expected = [name for name, _ in model.named_parameters() if name.startswith(FROZEN[kind])]
    assert list(report.frozen) == (expected if FROZEN[kind] else [])
    assert {*report.trainable, *report.frozen} == {name for name, _ in model.named_parameters()}
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert report.trainable_count == trainable
    check_one_step(model, FROZEN[kind])


def test_intermediate_cuts_the_encoder(tmp_path: Path) -> None:
    whole = small_bert(tmp_path / "bert").eval()
    cut = small_bert(tmp_path / "bert").eval()
    assert apply_regime(cut, REGIMES["intermediate"], seed=1).layers == 2
    assert len(cut.bert.encoder.layer) == cut.config.num_hidden_layers == 2
    ids, mask, types = pairs()
    with torch.no_grad():
        states = whole.bert(ids, mask, types, output_hidden_states=True).hidden_states
        expected = whole.classifier(whole.bert.pooler(states[2]))
        torch.testing.assert_close(cut(ids, mask, types), expected)


def test_heads_are_drawn_from_the_seed(tmp_path: Path) -> None:
    def removed(seed: int) -> object:
        model = small_bert(tmp_path / "bert")
        return apply_regime(model, REGIMES["heads_removed"], seed).removed_heads

    assert removed(0) == removed(0) != removed(1)


def test_listed_heads_are_removed(tmp_path: Path) -> None:
    regime = RegimeConfig("heads_removed", heads={"1": (3, 0)})
    model = small_bert(tmp_path / "bert", regime=regime)
    report = apply_regime(model, regime, seed=0)
    assert report.removed_heads == {1: (0, 3)}
    assert report.describe().endswith("\nheads removed: 2 (layer 1: 0 3)")


def test_frozen_layers_run_no_backward(tmp_path: Path) -> None:
    model = small_bert(tmp_path / "bert")
    apply_regime(model, REGIMES["freeze_first"], seed=0)
    graphs: list[bool] = []
    for layer in model.bert.encoder.layer:
        layer.register_forward_hook(lambda *call: graphs.append(call[2].requires_grad))
    model(*pairs())
    assert graphs == [False, False, True]


def test_the_check_sees_every_deviation(tmp_path: Path) -> None:
    for kind, regime in REGIMES.items():
        model = small_bert(tmp_path / "bert")
        apply_regime(model, regime, seed=1)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not parameter.requires_grad)
            with pytest.raises(AssertionError, match=name):
                check_regime(model, regime)
            parameter.requires_grad_(not parameter.requires_grad)
        check_regime(model, regime)
        other = REGIMES["full" if kind != "full" else "intermediate"]
        if kind != "intermediate":
            with pytest.raises(AssertionError):
                check_regime(model, other)


def test_description(tmp_path: Path) -> None:
    model = small_bert(tmp_path / "bert", regime=REGIMES["freeze_first"])
    text = apply_regime(model, REGIMES["freeze_first"], seed=1).describe()
    total = sum(parameter.numel() for parameter in model.parameters())
    assert text.startswith("freeze_first: 3 layers, ") and f"of {total:,} parameters" in text
    assert text.endswith("frozen: embeddings, layer 0, layer 1")


@pytest.mark.parametrize(
    ("regime", "message"),
    [
        (RegimeConfig("freeze_first", layers=4), r"regime\.layers: 4 is not in 0\.\.3"),
        (RegimeConfig("freeze_first", layers=-1), r"regime\.layers: -1 is not in 0\.\.3"),
        (RegimeConfig("intermediate", layers=0), r"regime\.layers: 0 is not in 1\.\.3"),
        (RegimeConfig("intermediate", layers=4), r"regime\.layers: 4 is not in 1\.\.3"),
        (RegimeConfig("freeze_first"), r"freeze_first needs model\.regime\.layers"),
        (RegimeConfig("heads_removed"), r"needs model\.regime\.heads or model\.regime\.heads_sh"),
        (RegimeConfig("heads_removed", heads_share=0.5, heads={"0": (1,)}), "not both"),
        (RegimeConfig("heads_removed", heads_share=1.0), r"regime\.heads_share: 1\.0"),
        (RegimeConfig("heads_removed", heads={"7": (1,)}), r"regime\.heads\.7: no such layer"),
        (RegimeConfig("full", layers=2), r"regime\.layers: does not belong to regime full"),
        (RegimeConfig("embeddings_last", layers=2), r"regime\.layers: does not belong"),
        (RegimeConfig("intermediate", layers=2, heads_share=0.1), r"regime\.heads_share: does not"),
    ],
)
def test_bad_regimes_are_named(tmp_path: Path, regime: RegimeConfig, message: str) -> None:
    model = small_bert(tmp_path / "bert")
    with pytest.raises(InputError, match=message) as caught:
        apply_regime(model, regime, seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("freeze", [True, False])
def test_hubert_report(freeze: bool) -> None:
    model = build_emotion_model(HubertConfig(freeze_conv=freeze), EMOTIONS, seed=0)
    check_emotion(model)
    report = report_of(model)
    assert all(name.startswith("hubert.feature_extractor.") for name in report.frozen)
    assert bool(report.frozen) == freeze
    assert report.describe().endswith("feature_extractor" if freeze else "frozen: none")
    model.hubert.feature_extractor.requires_grad_(freeze)
    with pytest.raises(AssertionError, match="feature_extractor"):
        check_emotion(model)


MINILM = {
    **REGIMES,
    "freeze_first": RegimeConfig("freeze_first", layers=4),
    "intermediate": RegimeConfig("intermediate", layers=3),
}
MINILM_FROZEN = {
    **FROZEN,
    "freeze_first": ("bert.embeddings.", *(f"bert.encoder.layer.{n}." for n in range(4))),
    "embeddings_last": tuple(f"bert.encoder.layer.{n}." for n in range(5)),
}


@pytest.mark.parametrize("kind", MINILM)
def test_published_weights_train_under_each_regime(kind: str) -> None:
    config = BertConfig(pretrained=str(minilm_folder()), regime=MINILM[kind])
    model = build_nli_model(config, RELATIONS, None, 0, seed=0)
    report = apply_regime(model, MINILM[kind], seed=0)
    assert report.layers == (3 if kind == "intermediate" else 6)
    check_one_step(model, MINILM_FROZEN[kind])
