"""BERT as a language model: transformers' own, with a forward over the places to predict."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from transformers import BertConfig as BertArchitecture
from transformers import BertForMaskedLM, BertForPreTraining

from configs.errors import InputError
from configs.models import MlmConfig
from trainers.models.bert import SIZES
from trainers.models.masking import attention_mask_for
from trainers.models.source import (
    load_weights,
    quiet_transformers,
    read_config,
    resolve_model,
    seeded,
)


class MlmModel(BertForMaskedLM):
    """The stock model with a forward that returns logits of some tokens alone."""

    settings: MlmConfig

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor, places: Tensor
    ) -> Tensor:
        """Three (rows, tokens) integer tensors and (items,) positions in a flattened one of them ->
        (items, vocabulary) logits.

        The head runs over the tokens to predict only: at a share of 15 % it would else cost as much
        as the whole encoder of a small model.
        """
        dtype = self.bert.embeddings.word_embeddings.weight.dtype
        mask = attention_mask_for(attention_mask.bool(), dtype, self.config._attn_implementation)
        states = self.bert(input_ids, attention_mask=mask, token_type_ids=token_type_ids)[0]
        return self.cls(states.flatten(0, 1).index_select(0, places))  # type: ignore[no-any-return]

    def enable_activation_checkpointing(self) -> None:
        """Recompute the encoder's activations in the backward pass instead of keeping them."""
        self.gradient_checkpointing_enable({"use_reentrant": False})


class PairMlmModel(BertForPreTraining):
    """The stock model with a forward that returns logits of some tokens and of all pairs, and a third head,
    over all tokens, where the settings ask for it."""

    settings: MlmConfig

    def __init__(self, config: BertArchitecture) -> None:
        super().__init__(config)
        self.shared_tokens: nn.Linear | None = None

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor, places: Tensor
    ) -> tuple[Tensor, ...]:
        """Three (rows, tokens) integer tensors and (items,) positions in a flattened one of them ->
        (items, vocabulary) logits; (rows, 2) logits of a second text that belongs to the first, and of one
        that does not; with the third head, (rows, tokens, 2) logits of a token that does not stand in the
        other text, and of one that does."""
        dtype = self.bert.embeddings.word_embeddings.weight.dtype
        mask = attention_mask_for(attention_mask.bool(), dtype, self.config._attn_implementation)
        states, pooled = self.bert(input_ids, attention_mask=mask, token_type_ids=token_type_ids).to_tuple()[
            :2
        ]
        chosen = states.flatten(0, 1).index_select(0, places)
        logits = self.cls.predictions(chosen), self.cls.seq_relationship(pooled)
        return logits if self.shared_tokens is None else (*logits, self.shared_tokens(states))

    def enable_activation_checkpointing(self) -> None:
        """Recompute the encoder's activations in the backward pass instead of keeping them."""
        self.gradient_checkpointing_enable({"use_reentrant": False})


_Model = TypeVar("_Model", MlmModel, PairMlmModel)


def build_mlm_model(config: MlmConfig, vocabulary_size: int, pad_token_id: int, seed: int) -> MlmModel:
    """The model that ``config`` describes, in training mode; new weights are a function of ``seed``.

    A checkpoint without a language model's head gets a new one. Raises InputError where the
    pre-trained model is missing or does not fit.
    """
    return _build(MlmModel, config, vocabulary_size, pad_token_id, seed)


def build_pair_mlm_model(
    config: MlmConfig, vocabulary_size: int, pad_token_id: int, seed: int
) -> PairMlmModel:
    """The same with BERT's pooler and its head over pairs, and a new one over shared tokens if asked."""
    model = _build(PairMlmModel, config, vocabulary_size, pad_token_id, seed)
    if config.shared_tokens:
        with seeded(seed):
            model.shared_tokens = nn.Linear(model.config.hidden_size, 2)
            nn.init.normal_(model.shared_tokens.weight, std=model.config.initializer_range)
            nn.init.zeros_(model.shared_tokens.bias)
    return model


def _build(
    kind: type[_Model], config: MlmConfig, vocabulary_size: int, pad_token_id: int, seed: int
) -> _Model:
    folder = resolve_model(config.pretrained, config.revision) if config.pretrained else None
    if folder:
        architecture = read_config(folder, "bert")
    else:
        architecture = BertArchitecture(
            **SIZES[config.size], vocab_size=vocabulary_size, pad_token_id=pad_token_id
        )
        architecture.num_hidden_layers = config.layers or architecture.num_hidden_layers
        architecture.initializer_range = config.deviation or architecture.initializer_range
    if config.max_tokens > architecture.max_position_embeddings:
        raise InputError(
            f"model.max_tokens: {config.max_tokens} is more than the "
            f"{architecture.max_position_embeddings} positions of the model"
        )
    if vocabulary_size > architecture.vocab_size:
        raise InputError(
            f"model.pretrained: the tokenizer has {vocabulary_size} entries, the model only "
            f"{architecture.vocab_size}"
        )
    architecture.hidden_dropout_prob = config.dropout
    architecture.attention_probs_dropout_prob = config.dropout
    with seeded(seed):
        if folder is None:
            with quiet_transformers():
                model = kind(architecture)
            if config.positions == "sinusoidal":
                _set_sinusoids(model.bert.embeddings.position_embeddings.weight, architecture)
        else:
            model, _ = load_weights(
                kind,
                folder,
                architecture,
                lambda name: name.startswith(("cls.", "bert.pooler.")),
            )
    model.settings = config
    return model.train()


def _set_sinusoids(table: Tensor, architecture: BertArchitecture) -> None:
    """Fill (positions, width) with sines and cosines of falling frequency (Vaswani et al. 2017, arXiv
    1706.03762), of the same mean square as the other embeddings. They train like these."""
    positions, width = table.shape
    frequency = torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
    angle = torch.arange(positions)[:, None] * frequency
    waves = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
    with torch.no_grad():
        table.copy_(waves * (architecture.initializer_range * math.sqrt(2)))
