"""Which tokens a language model has to predict, and what it sees in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from configs.errors import InputError
from configs.models import MlmConfig
from data_shards.reader import Request

_SEED_TAG = 30


@dataclass(frozen=True)
class TokenMasks:
    """transformers' masking, drawn from a seed that the plan gives."""

    tokenizer: Any
    share: float
    whole_words: bool

    def __call__(self, ids: Tensor, words: Tensor, seed: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """(rows, tokens) ids and numbers of their words (-1: special or padding) -> the ids with masks,
        (items,) places to predict in the flattened ids, and what stood there."""
        masking = self._masking
        state = np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)
        masking.generator = torch.Generator().manual_seed(int(state[0]) >> 1)
        special = words < 0
        offsets = None
        if self.whole_words:
            # transformers takes tokens whose offsets touch for one word.
            start = words + torch.arange(words.numel()).view_as(words)
            offsets = torch.stack([start, start + 1], dim=-1)
            offsets[special] = 0
        masked, targets = masking.torch_mask_tokens(ids.clone(), special, offsets)
        if not bool((targets >= 0).any()):
            # A loss over nothing has no mean: the first token that may be is predicted, or, where texts
            # tokenise to nothing, the first [SEP].
            allowed = torch.nonzero(~special).tolist()
            row, column = allowed[0] if allowed else (0, 1)
            targets[row, column] = ids[row, column]
        places = torch.nonzero(targets.flatten() >= 0).flatten()
        return masked, places, targets.flatten()[places]

    @cached_property
    def _masking(self) -> Any:
        from transformers import DataCollatorForLanguageModeling

        replace, swap = (1.0, 0.0) if self.whole_words else (0.8, 0.1)
        return DataCollatorForLanguageModeling(
            self.tokenizer,
            whole_word_mask=self.whole_words,
            mlm_probability=self.share,
            mask_replace_prob=replace,
            random_replace_prob=swap,
        )


def seed_of(seed: int, request: Request) -> list[int]:
    """Of a micro-batch's masks: they follow from its place in the plan."""
    return [_SEED_TAG, seed, request.epoch, request.step, request.micro_batch]


def check_mask_token(tokenizer: Any, model: MlmConfig) -> None:
    """Raise InputError where nothing can be masked."""
    if tokenizer.mask_token_id is None:
        raise InputError(f"model.pretrained: the tokenizer of {model.pretrained} has no mask token")
