"""HuBERT: exact padding, agreement with transformers, freezing, loading."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import HubertConfig as HubertArchitecture
from transformers import HubertForSequenceClassification, Wav2Vec2FeatureExtractor

from configs.errors import InputError
from configs.models import HeadKind, HubertConfig
from tests.trainers.tiny_models import EMOTIONS, bert_folder, clips, hubert_folder
from trainers.models.freezing import check_emotion
from trainers.models.hubert import (
    SIZES,
    EmotionModel,
    build_emotion_model,
    frames_of,
    normalise_clip,
)


@pytest.fixture(scope="module", params=["group", "layer"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hubert_folder(tmp_path_factory.mktemp(request.param) / "hubert", request.param)


def build(folder: Path | None, **settings: object) -> EmotionModel:
    source = str(folder) if folder else None
    config = HubertConfig(pretrained=source, **settings)  # type: ignore[arg-type]
    model = build_emotion_model(config, EMOTIONS, seed=5)
    for parameter in model.head.parameters():  # logits of order one, so that differences show
        if parameter.dim() == 2:
            parameter.data *= 20
    return model


def stock_of(model: EmotionModel) -> HubertForSequenceClassification:
    architecture = HubertArchitecture(**model.architecture.to_dict())
    architecture.use_weighted_layer_sum = model.settings.head == "weighted"
    architecture.num_labels = len(EMOTIONS)
    stock = HubertForSequenceClassification(architecture).eval()
    stock.load_state_dict({name.removeprefix("head."): value for name, value in model.state_dict().items()})
    return stock


def alone(model: EmotionModel, audio: Tensor, lengths: Tensor) -> Tensor:
    return torch.cat(
        [model(audio[i : i + 1, :n], lengths[i : i + 1]) for i, n in enumerate(lengths.tolist())]
    )


@pytest.mark.parametrize("head", ["linear", "mlp", "weighted", "attentive"])
def test_exact_padding_changes_nothing(folder: Path, head: HeadKind) -> None:
    model = build(folder, head=head).eval()
    audio, lengths = clips()
    with torch.no_grad():
        expected = alone(model, audio, lengths)
        wider = torch.nn.functional.pad(audio, (0, 3_000))
        for logits in (model(audio, lengths), model(wider, lengths)):
            assert (logits - expected).abs().max() < 1e-5 * expected.abs().max()
    assert expected.std() > 0.05


def test_stock_padding_does_change_logits(folder: Path) -> None:
    model = build(folder, padding="stock").eval()
    audio, lengths = clips()
    with torch.no_grad():
        assert (model(audio, lengths) - alone(model, audio, lengths)).abs().max() > 1e-3


def test_exact_padding_under_bfloat16(folder: Path) -> None:
    model = build(folder).eval()
    audio, lengths = clips()
    with torch.no_grad():
        full = alone(model, audio, lengths)
        with torch.autocast("cpu", torch.bfloat16):
            mixed, mixed_alone = model(audio, lengths), alone(model, audio, lengths)
        cast = model.bfloat16()(audio, lengths)
    assert mixed.dtype == cast.dtype == torch.float32
    scale = full.abs().max().item()
    for logits, other in ((mixed, mixed_alone), (mixed, full), (cast, full)):
        assert (logits - other).abs().max().item() < 0.05 * scale


@pytest.mark.parametrize("head", ["linear", "weighted", "attentive"])
def test_gradients_are_those_of_the_clips_alone(folder: Path, head: HeadKind) -> None:
    model = build(folder, head=head, freeze_conv=False).eval()
    audio, lengths = clips()
    labels = torch.tensor([0, 1, 2])

    def gradients(logits: Tensor) -> dict[str, Tensor]:
        model.zero_grad()
        nn.functional.cross_entropy(logits, labels).backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    together, apart = gradients(model(audio, lengths)), gradients(alone(model, audio, lengths))
    assert together.keys() == apart.keys()
    assert any("feature_extractor" in name for name in together)
    largest = max(value.abs().max().item() for value in apart.values())
    for name, value in apart.items():
        scale = value.abs().max().item()
        rounding = 1e-7 * largest  # all that there is in a key's bias, which softmax cancels
        assert (together[name] - value).abs().max() <= 1e-4 * scale + rounding, name


@pytest.mark.parametrize("head", ["linear", "weighted"])
def test_equals_transformers(folder: Path, head: HeadKind) -> None:
    audio, lengths = clips()
    model = build(folder, head=head, padding="stock").eval()
    stock = stock_of(model)
    exact = build(folder, head=head, padding="exact").eval()
    with torch.no_grad():
        torch.testing.assert_close(model(audio, lengths), stock(audio).logits, rtol=1e-5, atol=1e-5)
        for row, samples in enumerate(lengths.tolist()):
            clip = audio[row : row + 1, :samples]
            ours = exact(clip, lengths[row : row + 1])
            torch.testing.assert_close(ours, stock(clip).logits, rtol=1e-5, atol=1e-5)


def test_transformers_mask_for_layer_norm_models(tmp_path: Path) -> None:
    model = build(hubert_folder(tmp_path / "layer", "layer")).eval()
    audio, lengths = clips()
    mask = (torch.arange(audio.shape[1]) < lengths[:, None]).long()
    with torch.no_grad():
        stock = stock_of(model)(audio, attention_mask=mask).logits
        torch.testing.assert_close(model(audio, lengths), stock, rtol=1e-5, atol=1e-5)


def test_eager_attention_is_masked_too(folder: Path) -> None:
    model = build(folder).eval()
    audio, lengths = clips()
    with torch.no_grad():
        sdpa = model(audio, lengths)
        model.hubert.set_attn_implementation("eager")
        torch.testing.assert_close(model(audio, lengths), sdpa, rtol=1e-5, atol=1e-5)


def test_lengths_may_be_on_either_side_of_a_full_batch(folder: Path) -> None:
    model = build(folder).eval()
    audio, _ = clips(samples=(4_000, 4_000))
    with torch.no_grad():
        no_mask = model(audio, torch.tensor([4_000, 4_000]))
        masked = model(nn.functional.pad(audio, (0, 999)), torch.tensor([4_000, 4_000]))
    torch.testing.assert_close(no_mask, masked, rtol=1e-5, atol=1e-5)


def test_frames_of() -> None:
    architecture = HubertArchitecture(**SIZES["tiny"])
    model = build(None)
    samples = np.array([0, 399, 400, 719, 720, 16_000, 123_457])
    frames = frames_of(samples, architecture)
    assert frames.tolist() == [1, 1, 1, 1, 2, 49, 385]
    assert [frames_of(int(n), architecture) for n in samples] == frames.tolist()
    known: Any = torch.from_numpy(samples[2:])
    theirs: Any = model.hubert._get_feat_extract_output_lengths(known)
    assert theirs.tolist() == frames[2:].tolist()
    assert frames_of(torch.from_numpy(samples), architecture).tolist() == frames.tolist()


@pytest.mark.parametrize("padding", ["exact", "stock"])
def test_very_short_clips_train(padding: str) -> None:
    model = build(None, padding=padding, mask_time_prob=0.3)
    audio, lengths = clips(samples=(1_500, 3, 0, 399))
    logits = model(audio, lengths)
    assert logits.shape == (4, 3) and logits.isfinite().all()
    logits.sum().backward()
    tiny = model(audio[1:, :399], lengths[1:])  # shorter than a frame as a whole batch
    assert tiny.isfinite().all()
    unused = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert unused == []


def test_new_weights_come_from_the_seed_alone(folder: Path) -> None:
    for source in (None, folder):
        config = HubertConfig(pretrained=str(source) if source else None, head="mlp")
        torch.manual_seed(1)
        first = build_emotion_model(config, EMOTIONS, seed=5)
        after = torch.rand(1)
        torch.manual_seed(1)
        assert torch.rand(1) == after, "building drew from the global generator"
        second = build_emotion_model(config, EMOTIONS, seed=5)
        other = build_emotion_model(config, EMOTIONS, seed=6)
        for name, value in first.state_dict().items():
            assert torch.equal(value, second.state_dict()[name]), name
        assert not torch.equal(first.head.dense.weight, other.head.dense.weight)  # type: ignore[union-attr, arg-type]


def test_conv_stack_freezes_and_trains() -> None:
    audio, lengths = clips()
    frozen, free = build(None), build(None, freeze_conv=False)
    for model in (frozen, free):
        model(audio, lengths).sum().backward()
        for name, parameter in model.named_parameters():
            conv = name.startswith("hubert.feature_extractor.")
            assert parameter.requires_grad == (parameter.grad is not None), name
            assert parameter.requires_grad == (model is free or not conv), name


WHAT_TRAINS: dict[str, tuple[dict[str, object], int]] = {
    "all": ({"trains": "all", "freeze_conv": False}, 0),
    "last": ({"trains": "last", "last_layers": 2, "freeze_conv": False}, 1),
    "head": ({"trains": "head", "freeze_conv": False}, 3),
}
"""Settings, and how many of ``hubert_folder``'s 3 layers are frozen."""


@pytest.mark.parametrize("head", ["linear", "weighted", "attentive"])
@pytest.mark.parametrize("trains", sorted(WHAT_TRAINS))
def test_what_trains_gets_gradients(folder: Path, trains: str, head: HeadKind) -> None:
    values, frozen_layers = WHAT_TRAINS[trains]
    model = build(folder, head=head, **values)
    check_emotion(model)
    audio, lengths = clips()
    model(audio, lengths).square().sum().backward()
    for name, parameter in model.named_parameters():
        found = re.match(r"hubert\.encoder\.layers\.(\d)\.", name)
        expected = name.startswith("head.") or trains == "all"
        expected = expected or bool(found and int(found[1]) >= frozen_layers)
        if name.startswith("hubert.encoder.layer_norm.") and "layer" in str(folder.parent.name):
            expected = head != "weighted" and trains != "head"
        assert (parameter.grad is not None) == expected == parameter.requires_grad, name


@pytest.mark.parametrize("head", ["linear", "weighted"])
def test_what_trains_changes_no_logits(folder: Path, head: HeadKind) -> None:
    """Also in training mode: dropout and SpecAugment of frozen layers work as of the others."""
    audio, lengths = clips()
    results = []
    for values, _ in WHAT_TRAINS.values():
        model = build(folder, head=head, mask_time_prob=0.3, **values)
        torch.manual_seed(1)
        np.random.seed(1)
        training = model.train()(audio, lengths)
        results.append((training, model.eval()(audio, lengths)))
    for training, evaluation in results[1:]:
        torch.testing.assert_close(training, results[0][0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(evaluation, results[0][1], rtol=1e-5, atol=1e-5)
    assert (results[0][0] - results[0][1]).abs().max() > 1e-3


def test_frozen_layers_keep_no_activations(folder: Path) -> None:
    """Bytes kept for the backward pass fall with every layer that is frozen."""
    audio, lengths = clips()
    kept: list[int] = []
    for trains in ("all", "last", "head"):
        model = build(folder, **WHAT_TRAINS[trains][0])
        weights = {p.data_ptr() for p in model.parameters()}
        sizes: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            if tensor.data_ptr() not in weights:  # noqa: B023 - used at once
                sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()  # noqa: B023
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            logits = model(audio, lengths)
        kept.append(sum(sizes.values()))
        assert logits.requires_grad
    frames = int(frames_of(lengths, model.architecture).max())
    one_layer = len(lengths) * frames * model.architecture.hidden_size * 4
    assert kept[0] > 1.5 * kept[1] > 10 * one_layer
    assert kept[2] < one_layer, "the head of a frozen encoder needs pooled clips alone"


def test_a_wrong_freezing_is_noticed() -> None:
    model = build(None, trains="last", last_layers=1)
    check_emotion(model)
    model.hubert.feature_projection.requires_grad_(True)
    with pytest.raises(AssertionError, match=r"feature_projection.* must train: False"):
        check_emotion(model)
    model = build(None, trains="last", last_layers=1)
    model.hubert.encoder.layers[1].requires_grad_(False)
    with pytest.raises(AssertionError, match=r"layers\.1.* must train: True"):
        check_emotion(model)


def test_layerdrop_spares_whoever_needs_all_layers() -> None:
    model = build(None, layerdrop=0.9)
    audio, lengths = clips()
    for seed in range(5):
        torch.manual_seed(seed)
        with torch.no_grad():
            assert len(model.hubert(audio, lengths, all_layers=True)[0]) == 3


@pytest.mark.parametrize("freeze_conv", [True, False])
@pytest.mark.parametrize("trains", ["all", "last"])
def test_activation_checkpointing_changes_nothing(freeze_conv: bool, trains: str) -> None:
    audio, lengths = clips()
    results = []
    for checkpointing in (False, True):
        model = build(None, freeze_conv=freeze_conv, head="weighted", trains=trains, last_layers=1)
        if checkpointing:
            model.enable_activation_checkpointing()
        torch.manual_seed(0)
        np.random.seed(0)
        logits = model(audio, lengths)
        logits.square().sum().backward()
        results.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, msg=name)


def test_randomness_comes_from_the_global_generators() -> None:
    model = build(None, layerdrop=0.5, mask_time_prob=0.3)
    audio, lengths = clips()

    def run(torch_seed: int, numpy_seed: int) -> Tensor:
        torch.manual_seed(torch_seed)
        np.random.seed(numpy_seed)
        with torch.no_grad():
            return model(audio, lengths)

    assert torch.equal(run(0, 0), run(0, 0))
    assert not torch.equal(run(0, 0), run(1, 0))
    assert not torch.equal(run(0, 0), run(0, 1))


def test_settings_reach_the_encoder(folder: Path) -> None:
    model = build(folder, dropout=0.0, specaugment=False)
    assert all(m.p == 0 for m in model.modules() if isinstance(m, nn.Dropout))
    audio, lengths = clips()
    with torch.no_grad():
        assert torch.equal(model(audio, lengths), model(audio, lengths)), "still random"
    assert "hubert.masked_spec_embed" not in dict(model.named_parameters())
    assert build(folder).architecture.layerdrop == 0.0  # published ones carry 0.1


def test_normalises_like_transformers() -> None:
    clip = (clips()[0][1].numpy() * 0.1 + 0.05).astype(np.float32)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True)
    theirs = extractor(clip, sampling_rate=16_000)["input_values"][0]
    np.testing.assert_allclose(normalise_clip(clip), theirs, atol=1e-5)


def test_do_normalize_is_the_sources(tmp_path: Path) -> None:
    folder = hubert_folder(tmp_path / "m", "group")
    assert build(folder).do_normalize
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    assert not build(folder).do_normalize


def test_pickled_weights_load_the_same(tmp_path: Path) -> None:
    safe = build(hubert_folder(tmp_path / "safe", "group")).state_dict()
    pickled = build(hubert_folder(tmp_path / "bin", "group", safe=False)).state_dict()
    assert safe.keys() == pickled.keys()
    assert all(torch.equal(value, pickled[name]) for name, value in safe.items())


def test_published_weight_norm_names_load(tmp_path: Path) -> None:
    """hubert-base's file has the names of torch's old weight norm and a prefix."""
    folder = hubert_folder(tmp_path / "m", "group")
    expected = build(folder).state_dict()
    old = load_file(folder / "model.safetensors")
    renamed = {
        "hubert."
        + re.sub(
            r"parametrizations\.weight\.original(\d)", lambda found: f"weight_{'gv'[int(found[1])]}", name
        ): value
        for name, value in old.items()
    }
    assert any(name.endswith("weight_v") for name in renamed)
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    for name, value in build(folder).state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_missing_encoder_weights_are_refused(tmp_path: Path) -> None:
    folder = hubert_folder(tmp_path / "m", "group")
    weights = load_file(folder / "model.safetensors")
    name = "encoder.layers.1.attention.k_proj.weight"
    without = {key: value for key, value in weights.items() if key != name}
    save_file(without, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=f"{name} is missing"):
        build(folder)
    save_file({**weights, name: torch.zeros(3, 3)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=f"{name} is in another shape"):
        build(folder)


def test_a_missing_mask_embedding_is_new(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = hubert_folder(tmp_path / "m", "group")
    weights = load_file(folder / "model.safetensors")
    del weights["masked_spec_embed"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    models = [build(folder) for _ in range(2)]
    assert "freshly initialised" in caplog.text and "masked_spec_embed" in caplog.text
    embeddings = [model.hubert.masked_spec_embed for model in models]
    assert torch.equal(*embeddings) and embeddings[0].std() > 0


def test_bad_sources_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    config = HubertConfig(pretrained="nobody/no-such-hubert", revision="abc123")
    with pytest.raises(InputError) as caught:
        build_emotion_model(config, EMOTIONS, 0)
    command = "sokhan download model nobody/no-such-hubert --revision abc123"
    assert f"(`{command}`)" in str(caught.value) and "\n" not in str(caught.value)

    def message(source: Path | str) -> str:
        with pytest.raises(InputError) as caught:
            build_emotion_model(HubertConfig(pretrained=str(source)), EMOTIONS, 0)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "there is no folder" in message(tmp_path / "absent")
    assert "no config.json" in message(tmp_path)
    assert "not 'hubert'" in message(bert_folder(tmp_path / "bert"))
    folder = hubert_folder(tmp_path / "m", "group")
    (folder / "model.safetensors").write_bytes(b"not weights at all")
    assert "cannot be read" in message(folder)
    (folder / "model.safetensors").unlink()
    assert "no model.safetensors" in message(folder)
    (folder / "model.safetensors").touch()
    (folder / "config.json").write_text("{")
    assert "config.json cannot be read" in message(folder)


def test_bad_settings_are_named() -> None:
    good = HubertConfig()
    for config, key in (
        (replace(good, head="weighted", layerdrop=0.1), "model.layerdrop"),
        (replace(good, dropout=1.5), "model.dropout"),
        (replace(good, mask_time_prob=-0.1), "model.mask_time_prob"),
        (replace(good, trains="last", last_layers=3), r"model.last_layers: 3 is not in 1..2"),
    ):
        with pytest.raises(InputError, match=key):
            build_emotion_model(config, EMOTIONS, 0)
    with pytest.raises(InputError, match="labels"):
        build_emotion_model(good, ["A"], 0)
