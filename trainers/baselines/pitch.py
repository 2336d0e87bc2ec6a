"""F0 and voicing of clips, by the autocorrelation method of Boersma (1993)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_shards.sample import SAMPLE_RATE

if TYPE_CHECKING:
    from torch import Tensor

HOP = 160
"""Samples from frame to frame: 10 ms."""
F0_WINDOW, _F0_FFT = 640, 1024
"""The transform also holds the longest lag, 213, so that no lag wraps round."""
_F0_RANGE = (75.0, 500.0)
"""Hz: the window holds three periods of the lowest."""
_OCTAVE_COST = 0.01
"""Of a period twice as long: of equally strong ones the shortest counts."""
_FINE = 4
"""Steps of lag in one sample. A voice rich in overtones has peaks about as narrow as a sample: seen at
whole samples alone, that of the period may look lower than that of two or three periods."""


def pitch(audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(batch, samples) -> F0 in semitones above 27.5 Hz, strength of the period (1: perfect) and root
    mean square, (batch, frames) each, by Boersma's "Accurate short-term analysis" (1993) without its
    path finding: the autocorrelation of the windowed frame over that of the window."""
    import torch

    frames = audio.unfold(1, F0_WINDOW, HOP)
    frames = frames - frames.mean(2, keepdim=True)
    rms = frames.square().mean(2).sqrt()
    window = torch.hann_window(F0_WINDOW)

    def autocorrelation(signal: Tensor) -> Tensor:
        power = torch.fft.rfft(signal, _F0_FFT).abs().square()
        lags = torch.fft.irfft(power, _FINE * _F0_FFT)  # zeros at the end of a spectrum interpolate
        return lags / lags[..., :1].clamp(min=1e-12)

    longest, shortest = (int(_FINE * SAMPLE_RATE / hz) for hz in _F0_RANGE)
    longest += _FINE  # a sample more: the period of the lowest F0 lies between two lags
    first, last = shortest - 1, longest + 2  # a neighbour on each side
    r = (autocorrelation(frames * window) / autocorrelation(window))[..., first:last]
    before, here, after = r[..., :-2], r[..., 1:-1], r[..., 2:]
    # A parabola through three lags, for what lies between them.
    shift = (0.5 * (before - after) / (before - 2 * here + after).clamp(max=-1e-6)).clamp(-0.5, 0.5)
    lag = torch.arange(shortest, longest + 1) + shift
    height = here - 0.25 * (before - after) * shift
    rated = height - _OCTAVE_COST * (lag / shortest).log2()
    rated = torch.where((here > before) & (here >= after), rated, -1.0)
    best = rated.argmax(2, keepdim=True)
    hz = _FINE * SAMPLE_RATE / lag.gather(2, best)[..., 0]
    peaked = rated.gather(2, best)[..., 0] > -1
    strength = torch.where(peaked, height.gather(2, best)[..., 0].clamp(0, 1), 0.0)
    return 12 * (hz / 27.5).log2(), strength, rms
