"""The model sections of recipes: one dataclass for each task's model, each field with its meaning.

Fields marked (site) do not change the result and are left out of a run's signature.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

HubertSize = Literal["tiny", "base", "large"]
BertSize = Literal["tiny", "mini", "small", "base"]
HeadKind = Literal["linear", "mlp", "weighted", "attentive"]
Padding = Literal["exact", "stock"]
RegimeKind = Literal["full", "freeze_first", "embeddings_last", "intermediate", "heads_removed"]


@dataclass(frozen=True)
class HubertConfig:
    """The HuBERT emotion classifier."""

    pretrained: str | None = None
    """Hub name or local folder; null: a fresh model of `size`."""
    revision: str | None = None
    """Hub commit to pin."""
    size: HubertSize = "tiny"
    """Size of a fresh model."""
    head: HeadKind = "linear"
    """linear: the stock projector and classifier; mlp: hidden -> 4 hidden -> classes; weighted:
    a learnt weighting of all layers (SUPERB); attentive: learnt attention over the frames."""
    trains: Literal["all", "last", "head"] = "all"
    """all: encoder and head (the convolutions only without `freeze_conv`); last: the topmost
    `last_layers` and the head; head: the head alone."""
    last_layers: int | None = None
    """trains last: encoder layers that train, counted from the top."""
    cache: bool = False
    """trains head: compute each clip's features once, without dropout and masks, keep them beside the
    shards, and train on them; needs a head that pools first (not attentive)."""
    padding: Padding = "exact"
    """exact: a clip's logits do not depend on its batch; stock: zeros are averaged in."""
    freeze_conv: bool = True
    """Keep the convolutional feature extractor as it is."""
    dropout: float = 0.1
    """Dropout in the encoder and the head."""
    layerdrop: float = 0.0
    """Probability of skipping an encoder layer; needs ZeRO 0 and a head other than weighted."""
    specaugment: bool = True
    """Mask spans of the features in training."""
    mask_time_prob: float = 0.05
    """Share of frames that SpecAugment masks, in spans of 10."""
    max_seconds: float = 30.0
    """Longer clips are cut to their first `max_seconds`, in training and evaluation alike."""


@dataclass(frozen=True)
class RegimeConfig:
    """One of the five ways to fine-tune BERT."""

    kind: RegimeKind = "full"
    """Which one."""
    layers: int | None = None
    """freeze_first: layers that stay as they are, counted from the input, with the embeddings;
    intermediate: layers that are kept."""
    heads_share: float | None = None
    """heads_removed: share of all attention heads to remove; those that a pruned `pretrained` model
    already lacks count as removed."""
    heads: dict[str, tuple[int, ...]] | None = None
    """heads_removed: the heads to remove, by layer number ("0" is the first), instead of a share."""
    choose: Literal["random", "importance"] = "random"
    """heads_removed by share: at random from the seed, or those whose masks move the loss least
    (Michel et al. 2019) in the model as it is before training."""
    score_on: Literal["train", "validation"] = "train"
    """importance: part whose samples score the heads."""
    score_items: int | None = 2000
    """importance: samples that score, the first of the part in shard order; null: all."""
    round_share: float | None = None
    """importance: share of all heads removed before the rest is scored anew; null: all at once."""


@dataclass(frozen=True)
class BertConfig:
    """The BERT sentence-pair classifier."""

    pretrained: str | None = None
    """Hub name or local folder; null: a fresh model of `size` and a WordPiece tokenizer trained on
    the training part."""
    revision: str | None = None
    """Hub commit to pin."""
    size: BertSize = "tiny"
    """Size of a fresh model."""
    vocabulary: int = 8000
    """Entries of a freshly trained tokenizer."""
    regime: RegimeConfig = field(default_factory=RegimeConfig)
    """What trains."""
    text: Literal["processed", "original"] = "processed"
    """Which of the two stored texts is read."""
    reads: Literal["pair", "hypothesis"] = "pair"
    """hypothesis: the premise is left out, a control that shows what labels give away by themselves."""
    dropout: float = 0.1
    """Dropout in the encoder and before the classifier."""
    max_tokens: int = 128
    """Longer pairs are cut, token by token from the longer of the two texts."""


@dataclass(frozen=True)
class MlmConfig:
    """BERT as a masked language model."""

    pretrained: str | None = None
    """Hub name or local folder to go on from; null: a fresh model of `size` and a WordPiece tokenizer
    trained on the training part."""
    revision: str | None = None
    """Hub commit to pin."""
    size: BertSize = "mini"
    """Size of a fresh model."""
    layers: int | None = None
    """Layers of a fresh model, if not the size's."""
    deviation: float | None = None
    """Standard deviation of a fresh model's weights, if not the size's."""
    positions: Literal["random", "sinusoidal"] = "sinusoidal"
    """What a fresh model's position embeddings start as. Sinusoids make near and far known from the
    start; in short trials small models with random ones did not get beyond the frequency of words."""
    vocabulary: int = 8000
    """Entries of a freshly trained tokenizer."""
    text: Literal["processed", "original"] = "processed"
    """Which of the two stored texts is read."""
    dropout: float = 0.1
    """Dropout in the encoder."""
    max_tokens: int = 128
    """Tokens of a row. Rows are filled with paragraphs one behind the other and cut where they are full."""
    mask_share: float = 0.15
    """Share of tokens to predict: of these 80 % are masked, 10 % replaced, 10 % left as they are (BERT)."""
    whole_words: bool = False
    """Choose words with all their pieces instead of tokens; all of them are masked then."""
    next_sentence: bool = False
    """Learn also whether the second text of a pair belongs to the first (BERT's second objective): a row
    is a pair then, and half of the second texts are exchanged. Needs shards of pairs and
    batching.kind buckets or fixed."""
    shared_tokens: bool = False
    """With next_sentence, learn also which tokens of a pair stand in its other text too: a little of what
    ERNIE 2.0 learns (token-document relation)."""
