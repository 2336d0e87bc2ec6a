"""What the tasks of language models share: the tokenizer, the lengths, a model all of which trains, and its
export. mlm.py and pair_mlm.py add their batches, their model and their loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.schema import MlmRecipe
from data_shards.index import ShardIndex
from data_shards.reader import Item, Request
from data_shards.splits import Split
from trainers.exports.card import CardFacts
from trainers.models.bert_mlm import MlmModel, PairMlmModel
from trainers.models.freezing import ParameterReport, report_of_all
from trainers.ranks.world import World
from trainers.task import Batch, StepOutput
from trainers.tasks.token_masks import TokenMasks, check_mask_token
from trainers.tasks.tokens import Pairs, count_tokens, open_tokenizer


class TextCollate(Protocol):
    """Texts -> a batch; it knows how long a text or pair is without making one."""

    def __call__(self, request: Request, items: Sequence[Item]) -> Batch: ...

    @property
    def counted_as(self) -> str:
        """What ``count`` depends on besides texts and tokenizer, in words."""

    @property
    def per_unit(self) -> float:
        """Counted tokens that make one token of a row."""

    def count(self, pairs: Pairs) -> list[int]:
        """Tokens of each text or pair."""


class LanguageModelTask(ABC):
    """Implements ``trainers.task.Task`` but for the loss. Its items are the tokens to predict."""

    unit = "tokens"
    labels: tuple[str, ...] = ()

    def __init__(
        self, recipe: MlmRecipe, index: ShardIndex, split: Split, folder: Path, world: World
    ) -> None:
        self.recipe, self.index = recipe, index
        model = recipe.model
        self.tokenizer = open_tokenizer(model, index, split.rows("train"), folder, world)
        check_mask_token(self.tokenizer, model)
        collate = self.make_collate(TokenMasks(self.tokenizer, model.mask_share, model.whole_words))
        self.collate, self.per_unit = collate, collate.per_unit
        self._lengths = count_tokens(
            index, model.text, self.tokenizer, folder, collate.counted_as, collate.count, world
        )

    @abstractmethod
    def make_collate(self, masks: TokenMasks) -> TextCollate:
        """How texts become batches."""

    @abstractmethod
    def new_model(self, vocabulary_size: int, pad_token_id: int) -> MlmModel | PairMlmModel:
        """The model of the recipe, fresh or published."""

    @abstractmethod
    def step(self, model: Any, batch: Batch, device: torch.device) -> StepOutput:
        """Forward pass and loss."""

    def lengths(self) -> NDArray[np.int32]:
        """(samples,) tokens of each text or pair."""
        return self._lengths

    def build_model(self) -> MlmModel | PairMlmModel:
        """The model, which recomputes activations if the recipe asks for it."""
        model = self.new_model(len(self.tokenizer), self.tokenizer.pad_token_id)
        if self.recipe.engine.activation_checkpointing:
            model.enable_activation_checkpointing()
        return model

    def parameters(self, model: nn.Module) -> ParameterReport:
        """Everything trains."""
        assert isinstance(model, MlmModel | PairMlmModel)
        return report_of_all(model, "mlm", model.config.num_hidden_layers)

    def export(self, state: dict[str, Tensor], folder: Path, card: CardFacts) -> None:
        """``folder`` becomes a transformers model with its tokenizer: what `model.pretrained` takes."""
        from trainers.exports.mlm import export_mlm

        export_mlm(self.build_model(), state, self.tokenizer, folder, card)
