"""The four heads over HuBERT's hidden states.

Parameters have the names of transformers' HubertForSequenceClassification where it has them
(``projector``, ``classifier``, ``layer_weights``), so that exports load there. Pooling comes before
the projection: the mean of a linear map is the map of the mean, and far cheaper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from configs.models import HeadKind
from trainers.models.hubert_attentive import AttentivePooling
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


class AttentiveHead(nn.Module):
    """Last layer, learnt attention over frames (``AttentivePooling``), projector, classifier."""

    needs_all_layers = False

    def __init__(self, width: int, projection: int, classes: int) -> None:
        super().__init__()
        self.pooling = AttentivePooling(width)
        self.projector = nn.Linear(width, projection)
        self.classifier = nn.Linear(projection, classes)

    def forward(self, states: Sequence[Tensor], valid: Tensor | None) -> Tensor:
        """Hidden states (batch, frames, width), the last one used -> logits (batch, classes)."""
        return self.classifier(self.projector(self.pooling(states[-1], valid)))


Head = LinearHead | MlpHead | WeightedHead | AttentiveHead


def build_head(
    kind: HeadKind, *, layers: int, width: int, projection: int, classes: int, dropout: float
) -> Head:
    """A fresh head, initialised like a BERT layer: normal with deviation 0.02, zero biases."""
    head: Head
    if kind == "linear":
        head = LinearHead(width, projection, classes)
    elif kind == "mlp":
        head = MlpHead(width, classes, dropout)
    elif kind == "weighted":
        head = WeightedHead(layers, width, projection, classes)
    else:
        head = AttentiveHead(width, projection, classes)
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return head


def layer_weights(state: Mapping[str, Tensor]) -> list[float] | None:
    """What each layer weighs in a model with a weighted head, by its state dict: softmax(w), the
    input to the first layer first. None for other heads. Names with and without ``head.`` will do,
    so that an exported model's weights do too."""
    for name in ("head.layer_weights", "layer_weights"):
        if name in state:
            return [float(share) for share in torch.softmax(state[name].double(), dim=0)]
    return None
