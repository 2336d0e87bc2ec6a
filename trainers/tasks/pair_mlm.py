"""BERT's two objectives over pairs of texts: masked tokens, and whether the second text belongs to the
first (next sentence prediction, Devlin et al. 2019, arXiv 1810.04805). On request a third: which tokens
stand in the other text too, after the token-document relation of ERNIE 2.0 (Sun et al. 2020, arXiv
1907.12412).

A row is one pair. In half of the rows the second text is exchanged for one of another pair of the
micro-batch whose first text differs. What is exchanged and masked depends on (seed, epoch, step,
micro-batch) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from data_shards.reader import Item, Request
from trainers.models.bert_mlm import PairMlmModel, build_pair_mlm_model
from trainers.task import Batch, StepOutput
from trainers.tasks.language_model import LanguageModelTask
from trainers.tasks.token_masks import TokenMasks, seed_of
from trainers.tasks.tokens import Pairs, Text, texts_of

_IGNORED = -100


@dataclass(frozen=True)
class PairMlmCollate:
    """Pairs -> (batch, tokens) ids, attention mask and token types, (items,) places to predict, (batch,)
    whether the second text is another pair's, and, if asked, (batch, tokens) 1 for a token that the other
    text holds too, 0 for one that it does not, -100 for masked, special and padding ones."""

    masks: TokenMasks
    max_tokens: int
    text: Text
    seed: int
    shared: bool = False
    per_unit: ClassVar[float] = 1.0

    @property
    def tokenizer(self) -> Any:
        """The masks' own."""
        return self.masks.tokenizer

    @property
    def counted_as(self) -> str:
        """Pairs are cut to the length of a row."""
        return f"pair mlm {self.max_tokens}"

    def __call__(self, request: Request, items: Sequence[Item]) -> Batch:
        seed = seed_of(self.seed, request)
        pairs, exchanged = exchange([texts_of(item.text, self.text) for item in items], seed)
        tokens = self._encode(pairs, padding=True, return_tensors="pt")
        ids, attention = tokens["input_ids"], tokens["attention_mask"]
        types, words = tokens["token_type_ids"], _words(tokens, len(pairs))
        masked, places, labels = self.masks(ids, words, seed)
        inputs = [masked, attention, types, places, torch.tensor(exchanged)]
        if self.shared:
            asked = (words >= 0).flatten()
            asked[places] = False
            told = shared_tokens(ids.masked_fill(words < 0, -1), types).long()
            inputs.append(told.masked_fill(~asked.view_as(told), _IGNORED))
        return Batch(request, tuple(inputs), labels, float(attention.sum()), float(ids.numel()))

    def count(self, pairs: Pairs) -> list[int]:
        """Tokens of each pair as it was packed; one whose second text is exchanged may be longer."""
        return list(map(len, self._encode(pairs)["input_ids"]))

    def _encode(self, pairs: Pairs, **options: Any) -> Any:
        return self.tokenizer(
            [first for first, _ in pairs],
            [second for _, second in pairs],
            truncation="longest_first",
            max_length=self.max_tokens,
            return_token_type_ids=True,
            **options,
        )


def exchange(pairs: Pairs, seed: Sequence[int]) -> tuple[list[tuple[str, str]], list[int]]:
    """Give about half of the pairs the second text of another one whose first text differs; 1 where
    that was done, 0 elsewhere. Pairs without such another keep their own."""
    draws = np.random.Generator(np.random.PCG64([*seed, len(pairs)])).random((len(pairs), 2))
    result, exchanged = [], []
    for (first, second), (chance, which) in zip(pairs, draws.tolist(), strict=True):
        others = [theirs for other, theirs in pairs if other != first and theirs != second]
        swap = chance < 0.5 and bool(others)
        result.append((first, others[int(which * len(others))] if swap else second))
        exchanged.append(int(swap))
    return result, exchanged


def shared_tokens(ids: Tensor, types: Tensor) -> Tensor:
    """(rows, tokens) ids, -1 where none stands, and the text, 0 or 1, that each belongs to -> (rows, tokens)
    bool, true for those that stand in both texts of their row."""
    first, second = ids.masked_fill(types == 1, -1), ids.masked_fill(types == 0, -1)
    same = (first[:, :, None] == second[:, None, :]) & (first >= 0)[:, :, None]
    return same.any(2) | same.any(1)


def _words(tokens: Any, rows: int) -> Tensor:
    """(rows, tokens) number of the word that a token belongs to, -1 for special tokens and padding."""
    table = []
    for row in range(rows):
        words, texts = tokens.word_ids(row), tokens.sequence_ids(row)
        first = 1 + max((w for w, t in zip(words, texts, strict=True) if t == 0), default=-1)
        table.append([-1 if t is None else w + t * first for w, t in zip(words, texts, strict=True)])
    return torch.tensor(table)


def _shared_losses(logits: Tensor, labels: Tensor) -> list[Tensor]:
    """(rows,) mean cross entropy of a row's tokens that are asked, 0 where none is, and (rows,) the share
    told rightly."""
    asked = labels != _IGNORED
    count = asked.sum(1).clamp(min=1)
    losses = functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=_IGNORED, reduction="none")
    right = (logits.argmax(2) == labels) & asked
    return [losses.sum(1) / count, right.sum(1) / count]


class PairMlmTask(LanguageModelTask):
    """Masked tokens and pairs, and on request shared tokens."""

    def make_collate(self, masks: TokenMasks) -> PairMlmCollate:
        """A pair a row."""
        model = self.recipe.model
        return PairMlmCollate(masks, model.max_tokens, model.text, self.recipe.seed, model.shared_tokens)

    def new_model(self, vocabulary_size: int, pad_token_id: int) -> PairMlmModel:
        """An encoder with the heads of all objectives."""
        return build_pair_mlm_model(self.recipe.model, vocabulary_size, pad_token_id, self.recipe.seed)

    def step(self, model: Any, batch: Batch, device: torch.device) -> StepOutput:
        """Cross entropy a masked token, and with it that of its pair, and the mean of its pair's shared
        tokens: the mean over tokens is BERT's sum of both means, pairs weighing by their masked tokens."""
        inputs = [tensor.to(device, non_blocking=True) for tensor in batch.inputs]
        ids, attention, types, places, exchanged = inputs[:5]
        logits, pair_logits, *shared_logits = model(ids, attention, types, places)
        labels = batch.labels.to(device, non_blocking=True)
        tokens = functional.cross_entropy(logits.float(), labels, reduction="none")
        pairs = functional.cross_entropy(pair_logits.float(), exchanged, reduction="none")
        told = [pairs, (pair_logits.argmax(1) == exchanged).float()]
        if shared_logits:
            told += _shared_losses(shared_logits[0].float(), inputs[5])
            pairs = pairs + told[2]
        row = places // ids.shape[1]
        scores = torch.stack(told, dim=1).detach()[row]
        return StepOutput(tokens + pairs[row], logits.detach().argmax(1) == labels, pairs=scores)
