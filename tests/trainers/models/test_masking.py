"""Masks, pooling and SpecAugment's spans."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.models.hubert.modeling_hubert import _compute_mask_indices

from trainers.models.masking import attention_mask_for, draw_time_mask, masked_mean, valid_mask


def test_valid_mask_and_mean() -> None:
    valid = valid_mask(torch.tensor([3, 1]), 4)
    assert valid.tolist() == [[True, True, True, False], [True, False, False, False]]
    states = torch.arange(8.0).view(2, 4, 1)
    assert masked_mean(states, valid).tolist() == [[1.0], [4.0]]
    assert masked_mean(states, None).tolist() == [[1.5], [5.5]]
    assert masked_mean(states.bfloat16(), valid).dtype == torch.bfloat16


def test_attention_masks_agree() -> None:
    valid = valid_mask(torch.tensor([3, 1]), 4)
    keys = attention_mask_for(valid, torch.float32, "sdpa")
    bias = attention_mask_for(valid, torch.float32, "eager")
    assert keys is not None and bias is not None
    assert keys.shape == bias.shape == (2, 1, 4, 4)
    assert torch.equal(keys, bias == 0)
    assert attention_mask_for(None, torch.float32, "sdpa") is None
    assert attention_mask_for(valid, torch.float32, "flash_attention_2") is valid


@pytest.mark.parametrize("share", [0.05, 0.4])
def test_time_mask_draws_as_transformers_does(share: float) -> None:
    for seed in range(20):
        np.random.seed(seed)
        theirs = _compute_mask_indices((3, 60), share, 10, min_masks=2)
        np.random.seed(seed)
        ours = draw_time_mask([60, 60, 60], 60, share, 10, 2)
        assert np.array_equal(ours, theirs)


def test_time_mask_stays_within_short_clips() -> None:
    np.random.seed(0)
    for _ in range(50):
        mask = draw_time_mask([40, 12, 9, 1], 40, 0.3, 10, 2)
        assert mask[0].any() and not mask[0, 40:].any()
        assert mask[1].sum() == 10 and not mask[1, 12:].any()
        assert not mask[2:].any()
