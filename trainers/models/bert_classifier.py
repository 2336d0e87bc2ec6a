"""The classifier of sentence pairs: bert.py builds it, pruning.py cuts heads out of it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from transformers import BertForSequenceClassification

from configs.models import BertConfig
from trainers.models.masking import attention_mask_for


class NliModel(BertForSequenceClassification):
    """The stock classifier with a forward that returns logits alone, and what it was built from."""

    settings: BertConfig
    labels: tuple[str, ...]
    removed_heads: Mapping[int, tuple[int, ...]]
    """Attention heads that were taken out, by layer; numbers are those of the whole model."""

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> Tensor:
        """Three (batch, tokens) integer tensors -> (batch, classes) float32 logits.

        ``attention_mask`` is 1 where there is a token, 0 where there is padding.
        """
        dtype = self.bert.embeddings.word_embeddings.weight.dtype
        # Made here, as transformers' own mask builder waits for the device at every step.
        mask = attention_mask_for(attention_mask.bool(), dtype, self.config._attn_implementation)
        pooled = self.bert(input_ids, attention_mask=mask, token_type_ids=token_type_ids)[1]
        return self.classifier(self.dropout(pooled)).float()

    def enable_activation_checkpointing(self) -> None:
        """Recompute the encoder's activations in the backward pass instead of keeping them."""
        self.gradient_checkpointing_enable({"use_reentrant": False})
