"""Write a trained model as a folder that transformers loads, and read it back as our own class.

The folder holds model.safetensors, config.json, the tokenizer or feature extractor's settings,
README.md (a model card) and sokhan.json, which says how to make our class of it again. It is
written beside its place and renamed, so a folder that exists is whole.

transformers' own classes take every model but two: removed attention heads are filled with zeros,
which gives the same logits (our class, and a run that starts from the folder, cut them out again,
as config.json names them), and the ``mlp`` and ``attentive`` heads come with their code
(``AutoModelForAudioClassification.from_pretrained(folder, trust_remote_code=True)``).
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig as BertArchitecture
from transformers import HubertConfig as HubertArchitecture
from transformers import PreTrainedTokenizerBase

from configs.errors import InputError
from configs.files import new_folder, write_json
from configs.models import BertConfig, HubertConfig, RegimeConfig
from data_shards.writer import sha256_of
from trainers.exports.card import CardFacts, write_card
from trainers.exports.reading import Reading
from trainers.models import hubert_attentive, hubert_mlp
from trainers.models.bert import adopt
from trainers.models.bert_classifier import NliModel
from trainers.models.hubert import EmotionModel, assemble
from trainers.models.hubert_attentive import HubertAttentiveForAudioClassification
from trainers.models.hubert_encoder import PaddedHubert
from trainers.models.hubert_mlp import HubertMlpForAudioClassification
from trainers.models.pruning import REMOVED_KEY, fill_removed, prune_heads
from trainers.models.source import quiet_transformers
from trainers.models.tokenizer import write_tokenizer

FORMAT = 1
SAMPLE_RATE = 16_000
WEIGHTS = "model.safetensors"
ABOUT = "sokhan.json"
OWN_CODE = {
    "mlp": (Path(hubert_mlp.__file__), HubertMlpForAudioClassification.__name__),
    "attentive": (Path(hubert_attentive.__file__), HubertAttentiveForAudioClassification.__name__),
}
"""Heads that no class of transformers has: the file with ours, and its name."""


def export_emotion(
    model: EmotionModel,
    state: Mapping[str, Tensor] | None,
    folder: Path,
    card: CardFacts | Mapping[str, Any],
    reading: Reading | None = None,
) -> None:
    """Write a HuBERT classifier as ``folder``, replacing an older export there.

    ``state`` gives the weights by the model's own parameter names, on the CPU, where the model's
    are divided over ranks; None: they are taken from the model. They are written bit for bit.
    ``card`` holds what the model card says, the fields of ``CardFacts``; ``reading`` how samples were
    read in training.
    """
    weights = _stock_weights(model, model.state_dict() if state is None else state)
    with new_folder(folder) as temporary:
        write_json(temporary / "preprocessor_config.json", _feature_extractor(model))
        _write_model(model, weights, temporary, card, reading)


def export_nli(
    model: NliModel,
    state: Mapping[str, Tensor] | None,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    card: CardFacts | Mapping[str, Any],
    reading: Reading | None = None,
) -> None:
    """Write a BERT classifier, its regime applied, as ``folder``; see ``export_emotion``."""
    weights = _stock_weights(model, model.state_dict() if state is None else state)
    with new_folder(folder) as temporary:
        write_tokenizer(tokenizer, temporary, model.settings.max_tokens)
        _write_model(model, weights, temporary, card, reading)


def load_exported(folder: Path) -> EmotionModel | NliModel:
    """Read an exported folder back as the class that was trained, in evaluation mode.

    Weights are bit-identical; a pruned model comes back in its smaller form. Raises InputError
    where the folder is no export or a file of it has changed.
    """
    about = read_about(folder)
    path = folder / WEIGHTS
    if not path.is_file() or sha256_of(path) != about["sha256"]:
        raise InputError(f"{path}: missing or changed since the export; export the model again")
    from safetensors.torch import load_file

    weights = load_file(path)
    labels = tuple(about["labels"])
    build = _load_emotion if about["task"] == "emotion" else _load_nli
    return build(folder, about, labels, weights).eval()


def read_about(folder: Path) -> dict[str, Any]:
    """The content of an export's sokhan.json: task, labels, settings, removed heads, and what
    ``read_reading`` reads."""
    path = folder / ABOUT
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{folder} is no exported model: it has no {ABOUT}") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON; export the model again") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise InputError(f"{path}: not of format {FORMAT}; export the model again")
    return about


def _write_model(
    model: EmotionModel | NliModel,
    weights: Mapping[str, Tensor],
    folder: Path,
    card: CardFacts | Mapping[str, Any],
    reading: Reading | None,
) -> None:
    facts = card if isinstance(card, CardFacts) else CardFacts(**card)
    write_weights(weights, folder / WEIGHTS)
    _write_config(model, weights, folder)
    write_card(folder / "README.md", model, facts)
    # Keys that older versions pass over, so the format stays.
    about = {**_about(model, folder / WEIGHTS), **(reading or Reading()).as_dict()}
    write_json(folder / ABOUT, about)


def _load_emotion(
    folder: Path, about: dict[str, Any], labels: tuple[str, ...], weights: dict[str, Tensor]
) -> EmotionModel:
    settings = HubertConfig(**about["settings"])
    architecture = HubertArchitecture.from_pretrained(folder, local_files_only=True)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        model = assemble(PaddedHubert(architecture), settings, labels, about["do_normalize"])
    named = {_our_name(name): tensor for name, tensor in weights.items()}
    model.to(dtype=_widest(weights))
    model.load_state_dict(named)
    return model


def _load_nli(
    folder: Path, about: dict[str, Any], labels: tuple[str, ...], weights: dict[str, Tensor]
) -> NliModel:
    settings = _bert_settings(about["settings"])
    architecture = BertArchitecture.from_pretrained(folder, local_files_only=True)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        model = adopt(NliModel(architecture), settings, labels)
    model.to(dtype=_widest(weights))  # type: ignore[call-arg]
    model.load_state_dict(weights)
    prune_heads(model, {int(layer): tuple(gone) for layer, gone in about["removed_heads"].items()})
    return model


def _bert_settings(values: dict[str, Any]) -> BertConfig:
    regime = dict(values["regime"])
    if regime["heads"] is not None:
        regime["heads"] = {layer: tuple(gone) for layer, gone in regime["heads"].items()}
    return BertConfig(**{**values, "regime": RegimeConfig(**regime)})


def _stock_weights(model: EmotionModel | NliModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under the names, and in the shapes, of transformers' classes."""
    missing = [name for name, _ in model.named_parameters() if name not in state]
    if missing:
        raise ValueError(f"the state dict lacks {missing[0]} and {len(missing) - 1} more")
    kept = {name: state[name].detach().cpu() for name, _ in model.named_parameters()}
    if isinstance(model, EmotionModel):
        return {name.removeprefix("head."): tensor for name, tensor in kept.items()}
    heads = model.config.num_attention_heads
    return fill_removed(kept, model.removed_heads, heads, model.config.hidden_size // heads)


def _widest(weights: Mapping[str, Tensor]) -> torch.dtype:
    """The type that holds all weights without loss; parameters of one model may differ."""
    return max((tensor.dtype for tensor in weights.values()), key=lambda dtype: dtype.itemsize)


def _our_name(stock: str) -> str:
    return stock if stock.startswith("hubert.") else f"head.{stock}"


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, readable by whoever may read the folder."""
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path, {"format": "pt"})
    # safetensors makes files that only their owner may read.
    path.chmod(path.parent.stat().st_mode & 0o666)


def _write_config(model: EmotionModel | NliModel, weights: Mapping[str, Tensor], folder: Path) -> None:
    architecture = model.architecture if isinstance(model, EmotionModel) else model.config
    values = architecture.to_dict()
    if isinstance(model, EmotionModel):
        values["architectures"] = ["HubertForSequenceClassification"]
        values["use_weighted_layer_sum"] = model.settings.head == "weighted"
        if model.settings.head in OWN_CODE:
            source, name = OWN_CODE[model.settings.head]
            shutil.copyfile(source, folder / source.name)
            values["architectures"] = [name]
            values["auto_map"] = {"AutoModelForAudioClassification": f"{source.stem}.{name}"}
    else:
        values["architectures"] = ["BertForSequenceClassification"]
        values.pop(REMOVED_KEY, None)  # what the model lacked before its regime
        if model.removed_heads:
            values[REMOVED_KEY] = _removed(model)
    values["id2label"] = {str(number): label for number, label in enumerate(model.labels)}
    values["label2id"] = {label: number for number, label in enumerate(model.labels)}
    values["dtype"] = str(_widest(weights)).removeprefix("torch.")
    values.pop("_name_or_path", None)
    write_json(folder / "config.json", values)


def _feature_extractor(model: EmotionModel) -> dict[str, Any]:
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": SAMPLE_RATE,
        "padding_side": "right",
        "padding_value": 0.0,
        "do_normalize": model.do_normalize,
        # A model that normalises its first layer over time must not be given a mask.
        "return_attention_mask": model.architecture.feat_extract_norm == "layer",
    }


def _about(model: EmotionModel | NliModel, weights: Path) -> dict[str, Any]:
    about: dict[str, Any] = {
        "format": FORMAT,
        "sha256": sha256_of(weights),
        "labels": list(model.labels),
        "settings": dataclasses.asdict(model.settings),
    }
    if isinstance(model, EmotionModel):
        return {**about, "task": "emotion", "do_normalize": model.do_normalize}
    return {**about, "task": "nli", "removed_heads": _removed(model)}


def _removed(model: NliModel) -> dict[str, list[int]]:
    return {str(layer): list(gone) for layer, gone in model.removed_heads.items()}
