"""Natural-language inference: BERT over pairs of sentences."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from configs.schema import NliRecipe
from data_shards.index import ShardIndex
from data_shards.reader import Item, Request, ShardReader
from data_shards.sample import TextPair
from data_shards.splits import Split
from trainers.card import CardFacts
from trainers.models.bert import NliModel, build_nli_model
from trainers.models.freezing import ParameterReport, apply_regime, check_regime, report_of
from trainers.models.tokenizer import load_tokenizer, train_wordpiece
from trainers.task import Batch, StepOutput
from trainers.world import World

_ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class NliCollate:
    """Pairs -> (batch, tokens) ids, attention mask and token types."""

    tokenizer: Any
    max_tokens: int
    text: str
    """processed or original."""

    def __call__(self, request: Request, items: Sequence[Item]) -> Batch:
        tokens = self.encode(
            [self._texts(item.text) for item in items], padding=True, return_tensors="pt"
        )
        inputs = (tokens["input_ids"], tokens["attention_mask"], tokens["token_type_ids"])
        labels = torch.tensor([item.label for item in items])
        valid = float(tokens["attention_mask"].sum())
        return Batch(request, inputs, labels, valid, float(inputs[0].numel()))

    def encode(self, pairs: Sequence[tuple[str, str]], **options: Any) -> Any:
        """Tokenise pairs, cutting token by token from the longer text of one that is too long."""
        first, second = [p for p, _ in pairs], [h for _, h in pairs]
        return self.tokenizer(
            first, second, truncation="longest_first", max_length=self.max_tokens,
            return_token_type_ids=True, **options,
        )  # fmt: skip

    def _texts(self, pair: TextPair | None) -> tuple[str, str]:
        assert pair is not None
        return texts_of(pair, self.text)


def texts_of(pair: TextPair, text: str) -> tuple[str, str]:
    """Premise and hypothesis in the form that the recipe reads."""
    if text == "processed":
        return pair.premise_processed, pair.hypothesis_processed
    return pair.premise, pair.hypothesis


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
        model = recipe.model
        tokenizer = world.main_first(lambda: self._tokenizer(split))
        self.collate = NliCollate(tokenizer, model.max_tokens, model.text)
        self._lengths = world.main_first(self._count_tokens)

    def lengths(self) -> NDArray[np.int32]:
        """(samples,) tokens of each pair."""
        return self._lengths

    def build_model(self) -> NliModel:
        """The classifier with its regime applied."""
        tokenizer, model = self.collate.tokenizer, self.recipe.model
        built = build_nli_model(
            model, self.labels, len(tokenizer), tokenizer.pad_token_id, self.recipe.seed
        )
        apply_regime(built, model.regime, self.recipe.seed)
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
        losses = functional.cross_entropy(logits.float(), labels, reduction="none")
        return StepOutput(losses, logits.detach().float())

    def export(self, state: dict[str, Tensor], folder: Path, card: CardFacts) -> None:
        """``folder`` becomes a transformers model with its tokenizer."""
        from trainers.export import export_nli

        export_nli(self.build_model(), state, self.collate.tokenizer, folder, card)

    def _tokenizer(self, split: Split) -> Any:
        model = self.recipe.model
        if model.pretrained:
            return load_tokenizer(model.pretrained, model.revision)
        folder = self.folder / "tokenizer"
        if not (folder / "tokenizer.json").is_file():
            texts = self._texts(split.rows("train"))
            train_wordpiece((t for pair in texts for t in pair), model.vocabulary, folder)
        return load_tokenizer(str(folder))

    def _texts(self, rows: Sequence[int] | NDArray[np.int64]) -> Iterator[tuple[str, str]]:
        shards = ShardReader(self.index.root)
        for row in rows:
            pair = shards.item(int(row)).text
            assert pair is not None
            yield texts_of(pair, self.recipe.model.text)

    def _count_tokens(self) -> NDArray[np.int32]:
        """Tokens of every pair, kept beside the shards (or in the run) under what they depend on."""
        model = self.recipe.model
        state = f"{self.index.manifest.digest} {model.max_tokens} {model.text} "
        state += self.collate.tokenizer.backend_tokenizer.to_str()
        name = f"tokens-{hashlib.sha256(state.encode()).hexdigest()[:16]}.npy"
        places = [self.index.root / "cache" / name, self.folder / name]
        for place in places:
            if os.access(place, os.R_OK):
                return np.load(place, mmap_mode="r")  # type: ignore[no-any-return]
        counts: list[int] = []
        pairs: list[tuple[str, str]] = []
        for pair in self._texts(range(len(self.index))):
            pairs.append(pair)
            if len(pairs) == _ROWS_AT_ONCE:
                counts += map(len, self.collate.encode(pairs)["input_ids"])
                pairs = []
        if pairs:
            counts += map(len, self.collate.encode(pairs)["input_ids"])
        lengths = np.array(counts, np.int32)
        for place in places:
            if _save(place, lengths):
                break
        return lengths


def _save(place: Path, lengths: NDArray[np.int32]) -> bool:
    """Save unless the folder is read-only, as shared shards may be."""
    partial = place.with_suffix(f".{platform.node()}-{os.getpid()}.npy")
    try:
        place.parent.mkdir(exist_ok=True)
        np.save(partial, lengths)
        partial.replace(place)
    except OSError:
        return False
    return True
