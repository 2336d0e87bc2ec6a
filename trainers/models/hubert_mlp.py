"""HuBERT with a two-layer classification head, for transformers' AutoModelForAudioClassification.

This file is copied into the folder of an exported model, so it stands alone: it needs torch and
transformers only. Load such a folder with ``trust_remote_code=True``.
"""

from torch import nn
from transformers import HubertModel, HubertPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class HubertMlpForAudioClassification(HubertPreTrainedModel):
    """Last hidden state, mean over frames, width -> 4 width -> classes."""

    def __init__(self, config):  # type: ignore[no-untyped-def]
        super().__init__(config)
        self.hubert = HubertModel(config)
        self.dense = nn.Linear(config.hidden_size, 4 * config.hidden_size)
        self.activation = nn.GELU()
        self.dropout = nn.Dropout(config.final_dropout)
        self.classifier = nn.Linear(4 * config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_values, attention_mask=None, labels=None, **kwargs):  # type: ignore[no-untyped-def]
        """(batch, samples) -> logits (batch, classes), and the cross entropy where labels are.

        The mask counts padded samples out of attention and pooling, as in transformers' own
        classifier; the first layer's normalisation still sees them in models that normalise there.
        """
        hidden = self.hubert(input_values, attention_mask=attention_mask).last_hidden_state
        if attention_mask is None:
            pooled = hidden.mean(dim=1)
        else:
            valid = self._get_feature_vector_attention_mask(hidden.shape[1], attention_mask)
            hidden = hidden.masked_fill(~valid[:, :, None], 0.0)
            pooled = hidden.sum(dim=1) / valid.sum(dim=1, keepdim=True)
        logits = self.classifier(self.dropout(self.activation(self.dense(pooled))))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)  # type: ignore[arg-type]
