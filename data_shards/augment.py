"""Changes to training clips: noise and circular shift while reading, pitch shift made beforehand.

Which clips are changed is the plan's business (``copies`` > 0); how follows from the seed of
(run, epoch, row, copy), so the same entry sounds the same on any rank and after a resume.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import AugmentConfig
from data_shards.plan import random_keys
from data_shards.sample import SAMPLE_RATE


@dataclass(frozen=True)
class Change:
    """How one entry is changed."""

    semitones: int
    shift: int
    """Samples that the clip is rotated by."""
    noise_seed: int


def draw_change(config: AugmentConfig, seed: int, epoch: int, row: int, copy: int) -> Change:
    """The change of one plan entry: each value drawn evenly from its range."""
    keys = random_keys(3, seed, epoch, 7, row, copy).tolist()
    shifts = int(config.shift_seconds * SAMPLE_RATE) + 1
    return Change(config.semitones[keys[0] % len(config.semitones)], keys[1] % shifts, keys[2])


def apply_change(audio: NDArray[np.float32], change: Change, noise: float) -> NDArray[np.float32]:
    """Rotate (samples,) in time and add Gaussian noise; the pitch is the derived clip's."""
    generator = np.random.Generator(np.random.PCG64(change.noise_seed))
    added = generator.standard_normal(len(audio), dtype=np.float32) * np.float32(noise)
    return np.roll(audio, change.shift) + added


def pitched_key(row: int, semitones: int) -> str:
    """Key, in the derived shard set, of the clip of ``row`` shifted by ``semitones``."""
    return f"{row}_{semitones:+d}"


def pitch_shift(audio: NDArray[np.float32], semitones: int) -> NDArray[np.float32]:
    """(samples,) at 16 kHz -> the same length, ``semitones`` higher: stretched by a phase vocoder
    and resampled back (Laroche and Dolson 1999, doi 10.1109/ASPAA.1999.810857).

    The ratio is rounded to a small fraction (within 0.2 cents): resampling by the exact one would
    need a filter bank of 16 000 phases.
    """
    import torch
    import torchaudio

    ratio = Fraction(2.0 ** (semitones / 12)).limit_denominator(120)
    window = torch.hann_window(512)
    clip = torch.from_numpy(np.ascontiguousarray(audio))
    pad = max(0, 512 - len(audio))
    spectrum = torch.stft(
        torch.nn.functional.pad(clip, (0, pad)), 512, 128, window=window, return_complex=True
    )
    advance = torch.linspace(0, np.pi * 128, 257)[:, None]
    slow = torchaudio.functional.phase_vocoder(spectrum, float(1 / ratio), advance)
    stretched = torch.istft(slow, 512, 128, window=window, length=round((len(audio) + pad) * float(ratio)))
    shifted = torchaudio.functional.resample(stretched, ratio.numerator, ratio.denominator)
    out: Any = np.zeros(len(audio), np.float32)
    kept = min(len(audio), len(shifted))
    out[:kept] = shifted[:kept].numpy()
    # The vocoder loses some 3 dB: level must not tell a changed copy from an original.
    before, after = np.sqrt(np.mean(audio**2)), np.sqrt(np.mean(out**2))
    if after > 0:
        out *= before / after
    return out  # type: ignore[no-any-return]
