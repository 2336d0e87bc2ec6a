"""Sizes of fresh encoders, against the published ones: https://huggingface.co's bert-base, hubert-base
and hubert-large."""

from __future__ import annotations

from typing import get_args

import pytest

from configs.models import BertSize, HubertSize
from configs.sizes import BERT_SIZES, HUBERT_SIZES, EncoderSize


def test_every_size_is_there_and_heads_divide_its_width() -> None:
    assert set(BERT_SIZES) == set(get_args(BertSize))
    assert set(HUBERT_SIZES) == set(get_args(HubertSize))
    sizes = [*BERT_SIZES.values(), *HUBERT_SIZES.values()]
    assert [size for size in sizes if size.width % size.heads] == []


@pytest.mark.parametrize("size", [BERT_SIZES["base"], HUBERT_SIZES["base"]])
def test_base_is_what_transformers_makes(size: EncoderSize) -> None:
    from transformers import BertConfig, HubertConfig

    for stock in (BertConfig(), HubertConfig()):
        assert {key: getattr(stock, key) for key in size.architecture} == size.architecture
    assert HUBERT_SIZES["large"].architecture == {
        "num_hidden_layers": 24,
        "hidden_size": 1024,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    }
