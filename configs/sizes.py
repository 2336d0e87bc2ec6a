"""How large fresh encoders are, by the name of their size: told to models, and to the arithmetic of what a
training costs, which has no torch."""

from __future__ import annotations

from dataclasses import dataclass

from configs.models import BertSize, HubertSize


@dataclass(frozen=True)
class EncoderSize:
    """Layers of a transformer encoder; the layers in between are four times as wide."""

    layers: int
    width: int
    heads: int

    @property
    def architecture(self) -> dict[str, int]:
        """The same in the names of transformers' configurations."""
        return {
            "num_hidden_layers": self.layers,
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "intermediate_size": 4 * self.width,
        }


BERT_SIZES: dict[BertSize, EncoderSize] = {
    "tiny": EncoderSize(2, 128, 4),
    "mini": EncoderSize(4, 256, 4),
    "small": EncoderSize(4, 512, 8),
    "base": EncoderSize(12, 768, 12),
}
HUBERT_SIZES: dict[HubertSize, EncoderSize] = {
    "tiny": EncoderSize(2, 64, 4),
    "base": EncoderSize(12, 768, 12),
    "large": EncoderSize(24, 1024, 16),
}
