"""The three heads over HuBERT's hidden states.

Parameters have the names of transformers' HubertForSequenceClassification where it has them
(``projector``, ``classifier``, ``layer_weights``), so that exports load there. Pooling comes before
the projection: the mean of a linear map is the map of the mean, and far cheaper.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from configs.models import HeadKind
from trainers.models.masking import masked_mean


class LinearHead(nn.Module):
    """The stock head: last layer, mean over frames, projector, classifier; nothing between."""

    needs_all_layers = False

    def __init__(self, width: int, projection: int, classes: int) -> None:
        super().__init__()
        self.projector = nn.Linear(width, projection)
        self.classifier = nn.Linear(projection, classes)

    def forward(self, states: Sequence[Tensor], valid: Tensor | None) -> Tensor:
        """Hidden states (batch, frames, width), the last one used -> logits (batch, classes)."""
        return self.classifier(self.projector(masked_mean(states[-1], valid)))


class MlpHead(nn.Module):
    """The reference's head: last layer, mean over frames, width -> 4 width -> classes.

    The reference does not say what lies between: GELU, as in the encoder, and dropout are ours.
    """

    needs_all_layers = False

    def __init__(self, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, 4 * width)
        self.activation = nn.GELU()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(4 * width, classes)

    def forward(self, states: Sequence[Tensor], valid: Tensor | None) -> Tensor:
        """Hidden states (batch, frames, width), the last one used -> logits (batch, classes)."""
        pooled = masked_mean(states[-1], valid)
        return self.classifier(self.dropout(self.activation(self.dense(pooled))))


class WeightedHead(nn.Module):
    """SUPERB's head (arXiv 2105.01051, s3prl): sum over layers of softmax(w)_l h_l, mean over
    frames, projector, classifier. The layers include the input to the first one; w starts at 0."""

    needs_all_layers = True

    def __init__(self, layers: int, width: int, projection: int, classes: int) -> None:
        super().__init__()
        self.layer_weights = nn.Parameter(torch.zeros(layers + 1))
        self.projector = nn.Linear(width, projection)
        self.classifier = nn.Linear(projection, classes)

    def forward(self, states: Sequence[Tensor], valid: Tensor | None) -> Tensor:
        """Hidden states of all layers, each (batch, frames, width) -> logits (batch, classes)."""
        assert len(states) == self.layer_weights.shape[0], "one hidden state per weight"
        pooled = torch.stack([masked_mean(state, valid) for state in states], dim=1)
        weights = torch.softmax(self.layer_weights.float(), dim=0).to(pooled.dtype)
        return self.classifier(self.projector((pooled * weights[:, None]).sum(dim=1)))


def build_head(
    kind: HeadKind, *, layers: int, width: int, projection: int, classes: int, dropout: float
) -> LinearHead | MlpHead | WeightedHead:
    """A fresh head, initialised like a BERT layer: normal with deviation 0.02, zero biases."""
    head: LinearHead | MlpHead | WeightedHead
    if kind == "linear":
        head = LinearHead(width, projection, classes)
    elif kind == "mlp":
        head = MlpHead(width, classes, dropout)
    else:
        head = WeightedHead(layers, width, projection, classes)
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return head
