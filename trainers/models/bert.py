"""BERT for sentence pairs: transformers' classifier, its parameter names, fresh or published."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from transformers import BertConfig as BertArchitecture

from configs.errors import InputError
from configs.models import BertConfig, BertSize
from configs.sizes import BERT_SIZES
from trainers.models.bert_classifier import NliModel
from trainers.models.pruning import prune_exported
from trainers.models.source import (
    load_weights,
    quiet_transformers,
    read_config,
    resolve_model,
    seeded,
)

logger = logging.getLogger(__name__)

# The stock deviation of fresh weights, 0.02, is for width 768: narrow models that start with it stay
# at the classes' shares for hundreds of steps. These have about 1.5/sqrt(width): tried, not derived.
SIZES: dict[BertSize, dict[str, Any]] = {
    "tiny": {**BERT_SIZES["tiny"].architecture, "initializer_range": 0.13},
    "mini": {**BERT_SIZES["mini"].architecture, "initializer_range": 0.09},
    "small": {**BERT_SIZES["small"].architecture, "initializer_range": 0.066},
    "base": {**BERT_SIZES["base"].architecture},
}


def build_nli_model(
    config: BertConfig,
    labels: Sequence[str],
    vocabulary_size: int | None,
    pad_token_id: int,
    seed: int,
) -> NliModel:
    """Build the classifier that ``config`` describes, all of it trainable; the regime comes after.

    ``vocabulary_size`` and ``pad_token_id`` are the tokenizer's; a fresh model has as many word
    embeddings. All new weights are a function of ``seed``. Weights of a checkpoint's classifier are
    kept where it names the same labels in the same order, so that one run can go on from another;
    heads that were removed from an export stay removed.
    Raises InputError where the pre-trained model is missing or does not fit.
    """
    if len(labels) < 2:
        raise InputError(f"labels: a classifier needs two or more, the shards have {len(labels)}")
    if not 0 <= config.dropout < 1:
        raise InputError(f"model.dropout: {config.dropout} is not in [0, 1)")
    folder = resolve_model(config.pretrained, config.revision) if config.pretrained else None
    if folder:
        architecture = read_config(folder, "bert")
    else:
        assert vocabulary_size is not None, "a fresh model needs its tokenizer's size"
        architecture = BertArchitecture(
            **SIZES[config.size], vocab_size=vocabulary_size, pad_token_id=pad_token_id
        )
    _check_fits(architecture, config, vocabulary_size)
    same_labels = _labels_of(architecture) == list(labels)
    apply_settings(architecture, config, labels)
    with seeded(seed):
        if folder is None:
            with quiet_transformers():
                model = NliModel(architecture)
        else:
            # A checkpoint of a masked language model has no pooler: it is part of the head.
            model, new = load_weights(
                NliModel,
                folder,
                architecture,
                lambda name: name.startswith(("classifier.", "bert.pooler.")),
            )
            if not same_labels and "classifier.weight" not in new:
                logger.warning("%s: classifier of other labels replaced by a fresh one", folder)
                torch.nn.init.normal_(model.classifier.weight, std=architecture.initializer_range)
                torch.nn.init.zeros_(model.classifier.bias)
    adopt(model, config, labels)
    prune_exported(model)
    return model


def adopt(model: NliModel, config: BertConfig, labels: Sequence[str]) -> NliModel:
    """Note on a model what it was built from."""
    model.settings, model.labels, model.removed_heads = config, tuple(labels), {}
    return model.train()


def apply_settings(architecture: BertArchitecture, config: BertConfig, labels: Sequence[str]) -> None:
    """Write the recipe's dropout and the labels into transformers' configuration."""
    architecture.hidden_dropout_prob = config.dropout
    architecture.attention_probs_dropout_prob = config.dropout
    architecture.classifier_dropout = config.dropout
    architecture.id2label = dict(enumerate(labels))
    architecture.label2id = {label: number for number, label in enumerate(labels)}
    architecture.problem_type = "single_label_classification"


def _labels_of(architecture: BertArchitecture) -> list[str]:
    return [label for _, label in sorted((architecture.id2label or {}).items())]


def _check_fits(architecture: BertArchitecture, config: BertConfig, vocabulary_size: int | None) -> None:
    """Raise InputError where the model cannot take the tokens that it will be given."""
    positions = architecture.max_position_embeddings
    if not 3 <= config.max_tokens <= positions:
        raise InputError(
            f"model.max_tokens: {config.max_tokens} is not in 3..{positions}, what the model holds"
        )
    if vocabulary_size is not None and vocabulary_size > architecture.vocab_size:
        raise InputError(
            f"model.pretrained: the tokenizer has {vocabulary_size} entries, the model only"
            f" {architecture.vocab_size}"
        )
    if architecture.type_vocab_size < 2:
        raise InputError("model.pretrained: the model cannot tell two texts apart (one token type)")
