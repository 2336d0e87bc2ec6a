"""HuBERT with attentive pooling, for transformers' AutoModelForAudioClassification.

This file is copied into the folder of an exported model, so it stands alone: it needs torch and
transformers only. Load such a folder with ``trust_remote_code=True``.
"""

import torch
from torch import Tensor, nn
from transformers import HubertModel, HubertPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class AttentivePooling(nn.Module):
    """A learnt weighted mean over frames: sum_t softmax(v tanh(W h_t + b))_t h_t.

    The scores are those of Okabe et al. 2018 (arXiv 1803.10963) without the constant, which softmax
    takes out; of their statistics the mean alone. Small weights give about the plain mean.
    """

    UNITS = 64

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, self.UNITS)
        self.score = nn.Linear(self.UNITS, 1, bias=False)

    def forward(self, states: Tensor, valid: Tensor | None) -> Tensor:
        """(batch, frames, width) -> (batch, width), summed in float32.

        ``valid`` is (batch, frames) bool with at least one true frame a row; None: all are valid.
        """
        scores = self.score(torch.tanh(self.dense(states)))[:, :, 0].float()
        if valid is not None:
            scores = scores.masked_fill(~valid, float("-inf"))
        weights = torch.softmax(scores, dim=1)
        return (weights[:, :, None] * states.float()).sum(dim=1).to(states.dtype)


class HubertAttentiveForAudioClassification(HubertPreTrainedModel):
    """Last hidden state, attentive pooling over frames, projector, classifier."""

    def __init__(self, config):  # type: ignore[no-untyped-def]
        super().__init__(config)
        self.hubert = HubertModel(config)
        self.pooling = AttentivePooling(config.hidden_size)
        self.projector = nn.Linear(config.hidden_size, config.classifier_proj_size)
        self.classifier = nn.Linear(config.classifier_proj_size, config.num_labels)
        self.post_init()

    def forward(self, input_values, attention_mask=None, labels=None, **kwargs):  # type: ignore[no-untyped-def]
        """(batch, samples) -> logits (batch, classes), and the cross entropy where labels are.

        The mask counts padded samples out of attention and pooling, as in transformers' own
        classifier; the first layer's normalisation still sees them in models that normalise there.
        """
        hidden = self.hubert(input_values, attention_mask=attention_mask).last_hidden_state
        valid = None
        if attention_mask is not None:
            mask = self._get_feature_vector_attention_mask(hidden.shape[1], attention_mask)
            valid = mask.bool()
        logits = self.classifier(self.projector(self.pooling(hidden, valid)))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)  # type: ignore[arg-type]
