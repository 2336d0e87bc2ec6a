"""Masked language modelling: BERT over rows filled with text (Devlin et al. 2019, arXiv 1810.04805).

A micro-batch's texts are laid one behind the other, each ended by [SEP], and the stream is cut into
rows of equal length that start with [CLS]: full sequences across paragraphs, as RoBERTa's
(arXiv 1907.11692), so that hardly a token is padding. The second text of a pair has token type 1.
What is masked depends on (seed, epoch, step, micro-batch) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from data_shards.reader import Item, Request
from trainers.models.bert_mlm import MlmModel, build_mlm_model
from trainers.task import Batch, StepOutput
from trainers.tasks.language_model import LanguageModelTask
from trainers.tasks.token_masks import TokenMasks, seed_of
from trainers.tasks.tokens import Pairs, Text, texts_of


@dataclass(frozen=True)
class MlmCollate:
    """Texts -> (rows, tokens) ids, attention mask and token types, and (items,) places to predict."""

    masks: TokenMasks
    max_tokens: int
    text: Text
    seed: int
    counted_as: ClassVar[str] = "mlm"

    @property
    def tokenizer(self) -> Any:
        """The masks' own."""
        return self.masks.tokenizer

    @property
    def per_unit(self) -> float:
        """Each row holds one token less of the texts than it is long: [CLS]."""
        return (self.max_tokens - 1) / self.max_tokens

    def __call__(self, request: Request, items: Sequence[Item]) -> Batch:
        rows = self.rows([texts_of(item.text, self.text) for item in items])
        ids, places, labels = self.masks(rows.ids, rows.words, seed_of(self.seed, request))
        attention = (rows.ids != self.tokenizer.pad_token_id).long()
        inputs = (ids, attention, rows.types, places)
        return Batch(request, inputs, labels, float(attention.sum()), float(ids.numel()))

    def rows(self, texts: Pairs) -> Rows:
        """The texts as full rows; only the last one is padded."""
        stream, types, words = self._stream(texts)
        width = self.max_tokens - 1  # beside [CLS]
        count = -(-len(stream) // width)
        filled: list[NDArray[np.int64]] = []
        for values, start, fill in (
            (stream, self.tokenizer.cls_token_id, self.tokenizer.pad_token_id),
            (types, 0, 0),
            (words, -1, -1),
        ):
            table = np.full((count, self.max_tokens), fill, np.int64)
            table[:, 0] = start
            table[:, 1:].flat[: len(values)] = values
            filled.append(table)
        return Rows(*map(torch.from_numpy, filled))

    def count(self, pairs: Pairs) -> list[int]:
        """Tokens that each pair adds to a stream: all of its texts, and a [SEP] after each."""
        both = [text for pair in pairs for text in pair]
        ids = self.tokenizer(both, add_special_tokens=False, return_attention_mask=False, verbose=False)[
            "input_ids"
        ]
        return [
            len(ids[2 * n]) + 1 + (len(ids[2 * n + 1]) + 1 if second else 0)
            for n, (_, second) in enumerate(pairs)
        ]

    def _stream(self, texts: Pairs) -> tuple[list[int], list[int], list[int]]:
        """Ids, token types and word numbers (-1: not to be masked) of all texts in a row."""
        both = [text for pair in texts for text in pair]
        encoded = self.tokenizer(both, add_special_tokens=False, return_attention_mask=False, verbose=False)
        ids, types, words = list[int](), list[int](), list[int]()
        known = 0
        for number, text in enumerate(both):
            if number % 2 and not text:
                continue  # a paragraph has no second text
            own = encoded["input_ids"][number]
            ids += [*own, self.tokenizer.sep_token_id]
            types += [number % 2] * (len(own) + 1)
            within = encoded.word_ids(number)
            words += [*(known + word for word in within), -1]
            known += 1 + max(within, default=0)
        return ids, types, words


@dataclass(frozen=True)
class Rows:
    """Full rows of tokens, each (rows, tokens)."""

    ids: Tensor
    types: Tensor
    words: Tensor
    """Number of the word that a token belongs to; -1: special or padding."""


class MlmTask(LanguageModelTask):
    """Masked tokens alone."""

    def make_collate(self, masks: TokenMasks) -> MlmCollate:
        """Rows filled with text."""
        model = self.recipe.model
        return MlmCollate(masks, model.max_tokens, model.text, self.recipe.seed)

    def new_model(self, vocabulary_size: int, pad_token_id: int) -> MlmModel:
        """An encoder with the language model's head."""
        return build_mlm_model(self.recipe.model, vocabulary_size, pad_token_id, self.recipe.seed)

    def step(self, model: Any, batch: Batch, device: torch.device) -> StepOutput:
        """Cross entropy a masked token."""
        logits: Tensor = model(*(tensor.to(device, non_blocking=True) for tensor in batch.inputs))
        labels = batch.labels.to(device, non_blocking=True)
        losses = functional.cross_entropy(logits.float(), labels, reduction="none")
        return StepOutput(losses, logits.detach().argmax(1) == labels)
