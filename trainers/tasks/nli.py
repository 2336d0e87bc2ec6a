"""Natural-language inference: BERT over pairs of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.schema import NliRecipe
from data_shards.index import ShardIndex
from data_shards.reader import Item, Request
from data_shards.splits import Split, label_counts
from trainers.exports.card import CardFacts
from trainers.exports.reading import reading_of
from trainers.losses import ClassLoss, is_training
from trainers.models.bert import build_nli_model
from trainers.models.bert_classifier import NliModel
from trainers.models.freezing import ParameterReport, apply_regime, check_regime, report_of
from trainers.models.pruning import Heads
from trainers.ranks.world import World
from trainers.task import Batch, StepOutput
from trainers.tasks.head_choice import choose_heads_once, scoring_samples
from trainers.tasks.tokens import Pairs, Text, count_tokens, open_tokenizer, texts_of


@dataclass(frozen=True)
class NliCollate:
    """Pairs -> (batch, tokens) ids, attention mask and token types."""

    tokenizer: Any
    max_tokens: int
    text: Text
    reads: str = "pair"
    """hypothesis: the premise is left empty."""

    def __call__(self, request: Request, items: Sequence[Item]) -> Batch:
        tokens = self.encode(
            [texts_of(item.text, self.text) for item in items], padding=True, return_tensors="pt"
        )
        inputs = (tokens["input_ids"], tokens["attention_mask"], tokens["token_type_ids"])
        labels = torch.tensor([item.label for item in items])
        valid = float(tokens["attention_mask"].sum())
        return Batch(request, inputs, labels, valid, float(inputs[0].numel()))

    def encode(self, pairs: Pairs, **options: Any) -> Any:
        """Tokenise pairs, cutting token by token from the longer text of one that is too long."""
        first = [premise if self.reads == "pair" else "" for premise, _ in pairs]
        second = [hypothesis for _, hypothesis in pairs]
        return self.tokenizer(
            first,
            second,
            truncation="longest_first",
            max_length=self.max_tokens,
            return_token_type_ids=True,
            **options,
        )

    def count(self, pairs: Pairs) -> list[int]:
        """Tokens of each pair."""
        return list(map(len, self.encode(pairs)["input_ids"]))


class NliTask:
    """Implements ``trainers.task.Task``."""

    unit = "tokens"
    per_unit = 1.0

    def __init__(
        self, recipe: NliRecipe, index: ShardIndex, split: Split, folder: Path, world: World
    ) -> None:
        self.recipe = recipe
        self.index = index
        self.folder = folder
        self.labels = index.manifest.labels
        self.loss = ClassLoss(recipe.loss, label_counts(index, split, "train"))
        model = recipe.model
        tokenizer = open_tokenizer(model, index, split.rows("train"), folder, world)
        self.collate = NliCollate(tokenizer, model.max_tokens, model.text, model.reads)
        about = f"nli {model.max_tokens} {model.reads}"
        self._lengths = count_tokens(index, model.text, tokenizer, folder, about, self.collate.count, world)
        self.heads: Heads | None = None
        regime = model.regime
        if regime.choose == "importance":
            samples = scoring_samples(index.root, split, regime.score_on, regime.score_items, self.collate)
            self.heads = choose_heads_once(self._whole_model, regime, samples, folder, world)

    def lengths(self) -> NDArray[np.int32]:
        """(samples,) tokens of each pair."""
        return self._lengths

    def build_model(self) -> NliModel:
        """The classifier with its regime applied."""
        built = self._whole_model()
        apply_regime(built, self.recipe.model.regime, self.recipe.seed, self.heads)
        if self.recipe.engine.activation_checkpointing:
            built.enable_activation_checkpointing()
        return built

    def parameters(self, model: nn.Module) -> ParameterReport:
        """Which parameters train; raises if they are not the regime's."""
        assert isinstance(model, NliModel)
        check_regime(model, self.recipe.model.regime)
        return report_of(model)

    def step(self, model: Any, batch: Batch, device: torch.device) -> StepOutput:
        """Cross entropy a pair."""
        logits: Tensor = model(*(tensor.to(device, non_blocking=True) for tensor in batch.inputs))
        labels = batch.labels.to(device, non_blocking=True)
        losses = self.loss(logits, labels, is_training(model))
        return StepOutput.of_classes(losses, logits, labels)

    def export(self, state: dict[str, Tensor], folder: Path, card: CardFacts) -> None:
        """``folder`` becomes a transformers model with its tokenizer."""
        from trainers.exports.classifier import export_nli

        reading = reading_of(self.recipe, self.index)
        export_nli(self.build_model(), state, self.collate.tokenizer, folder, card, reading)

    def _whole_model(self) -> NliModel:
        """The classifier as it is before its regime."""
        tokenizer, model = self.collate.tokenizer, self.recipe.model
        return build_nli_model(model, self.labels, len(tokenizer), tokenizer.pad_token_id, self.recipe.seed)
