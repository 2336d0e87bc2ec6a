"""Functionals of a clip: statistics over its frames of what openSMILE's feature sets describe.

Per frame (25 ms every 10 ms) 13 MFCCs, energy, zero crossings and the spectrum's shape, with their
deltas; F0 and voicing from 40 ms by the autocorrelation method of Boersma (1993). Per clip the mean,
deviation, percentiles and slope of each, in the manner of eGeMAPS (Eyben et al. 2016).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data_shards.index import ShardIndex
from data_shards.reader import ShardReader
from data_shards.sample import SAMPLE_RATE
from trainers.baselines.pitch import F0_WINDOW, HOP, pitch
from trainers.files.array_file import open_array, save_array

if TYPE_CHECKING:
    from torch import Tensor

_FFT, _WINDOW, _MELS, _MFCCS = 512, 400, 40, 13
_VOICED = 0.45
"""Least strength of a voiced frame's period, of 1."""
_SILENT = 0.03
"""Frames weaker than this share of the clip's strongest are not voiced."""
_BATCH_SECONDS = 60

_SHAPES = ("energy", "zero crossings", "centroid", "bandwidth", "roll-off", "flux", "flatness", "alpha ratio")
_DESCRIPTORS = tuple(f"MFCC {n}" for n in range(_MFCCS)) + _SHAPES
_STATISTICS = ("mean", "deviation", "skewness", "5 %", "median", "95 %", "slope")
_VOICE = ("voiced share", "voiced stretches a second", "mean voiced stretch", "log duration")
FEATURES = (
    *(f"{d}{delta}: {s}" for delta in ("", " delta") for d in _DESCRIPTORS for s in _STATISTICS),
    *(f"{d}: {s}" for d in ("F0", "voicing") for s in _STATISTICS),
    *_VOICE,
)
"""What each column is."""
_VERSION = 2
"""Changes with what a feature means, and with it ``results.VERSION``."""


def functionals(index: ShardIndex) -> NDArray[np.float32]:
    """(samples, features) of all clips of a corpus, kept beside the shards where that can be written."""
    state = f"{index.manifest.digest} {_VERSION} {FEATURES}"
    digest = hashlib.sha256(state.encode()).hexdigest()[:16]
    place = index.root / "cache" / f"functionals-{digest}.npy"
    shape = (len(index), len(FEATURES))
    found = open_array(place, shape, np.float32)
    if found is not None:
        return found
    values = np.zeros(shape, np.float32)
    shards = ShardReader(index.root)
    for rows in _batches(np.asarray(index.length)):
        clips = []
        for row in rows.tolist():
            audio = shards.item(row).audio
            assert audio is not None
            clips.append(audio)
        values[rows] = functionals_of(clips)
    save_array(place, values)
    return values


def functionals_of(clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(samples,) clips at 16 kHz -> (clips, features) as in ``FEATURES``. A clip's values do not depend
    on the others."""
    import torch

    lengths = [len(clip) for clip in clips]
    audio = torch.zeros(len(clips), max(*lengths, F0_WINDOW))
    for row, clip in zip(audio, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(np.asarray(clip))
    described = _describe(audio)
    semitones, strength, rms = pitch(audio)
    values = []
    for n, length in enumerate(lengths):
        frames = _frames(length, _FFT)
        voice = slice(0, _frames(length, F0_WINDOW))
        values.append(
            torch.cat(
                [
                    _statistics(_with_deltas(described[n, :, :frames])),
                    _voice(semitones[n, voice], strength[n, voice], rms[n, voice]),
                    torch.tensor([length / SAMPLE_RATE]).log(),
                ]
            )
        )
    return torch.stack(values).float().numpy()


def _batches(lengths: NDArray[np.int32]) -> Iterator[NDArray[np.int64]]:
    """Rows by length, so that little of a batch is padding."""
    start, order = 0, np.argsort(lengths, kind="stable")
    while start < len(order):
        end = start + 1
        while end < len(order):
            padded = (end + 1 - start) * int(lengths[order[end]])
            if padded > _BATCH_SECONDS * SAMPLE_RATE:
                break
            end += 1
        yield order[start:end]
        start = end


def _frames(length: int, window: int) -> int:
    return max(0, length - window) // HOP + 1


def _describe(audio: Tensor) -> Tensor:
    """(batch, samples) -> (batch, descriptors, frames)."""
    import torch
    from torchaudio.functional import create_dct, melscale_fbanks

    spectrum = torch.stft(
        audio, _FFT, HOP, _WINDOW, torch.hann_window(_WINDOW), center=False, return_complex=True
    )
    power = spectrum.abs().square()  # (batch, bins, frames)
    filters = melscale_fbanks(_FFT // 2 + 1, 20.0, SAMPLE_RATE / 2, _MELS, SAMPLE_RATE)
    mels = (power.transpose(1, 2) @ filters + 1e-6).log()
    mfccs = (mels @ create_dct(_MFCCS, _MELS, "ortho")).transpose(1, 2)

    frequency = torch.linspace(0, SAMPLE_RATE / 2000, _FFT // 2 + 1)[:, None]  # kHz
    share = (power + 1e-10) / (power + 1e-10).sum(1, keepdim=True)
    centroid = (share * frequency).sum(1)
    bandwidth = (share * (frequency - centroid[:, None]).square()).sum(1).sqrt()
    below = (share.cumsum(1) < 0.85).sum(1) * (SAMPLE_RATE / 2000 / (_FFT // 2))
    root = share.sqrt()
    flux = torch.zeros_like(centroid)
    flux[:, 1:] = (root[:, :, 1:] - root[:, :, :-1]).square().sum(1).sqrt()
    flatness = (power + 1e-10).log().mean(1) - (power + 1e-10).mean(1).log()
    low, high = (frequency < 1)[:, 0], (frequency >= 1)[:, 0] & (frequency < 5)[:, 0]
    alpha = (power[:, low].sum(1) + 1e-8).log() - (power[:, high].sum(1) + 1e-8).log()

    frames = audio.unfold(1, _FFT, HOP)
    energy = (frames.square().mean(2) + 1e-8).log()
    crossings = (frames[..., 1:] * frames[..., :-1] < 0).float().mean(2)
    shapes = (energy, crossings, centroid, bandwidth, below, flux, flatness, alpha)
    return torch.cat([mfccs, torch.stack(shapes, 1)], 1)


def _with_deltas(values: Tensor) -> Tensor:
    """(descriptors, frames) -> (2 * descriptors, frames)."""
    import torch
    from torchaudio.functional import compute_deltas

    return torch.cat([values, compute_deltas(values[None])[0]])


def _voice(semitones: Tensor, strength: Tensor, rms: Tensor) -> Tensor:
    """Statistics of F0 over voiced frames (zeros if there are none), of voicing, and of its rhythm."""
    import torch

    voiced = (strength > _VOICED) & (rms > _SILENT * rms.max()) & (rms > 1e-5)
    f0 = semitones[voiced][None] if bool(voiced.any()) else torch.zeros(1, 1)
    starts = int(voiced[0]) + int((voiced[1:] & ~voiced[:-1]).sum())
    seconds = len(voiced) * HOP / SAMPLE_RATE
    mean_stretch = float(voiced.sum()) * HOP / SAMPLE_RATE / max(starts, 1)
    rhythm = torch.tensor([float(voiced.float().mean()), starts / seconds, mean_stretch])
    return torch.cat([_statistics(f0), _statistics(strength[None]), rhythm])


def _statistics(values: Tensor) -> Tensor:
    """(descriptors, frames) -> (descriptors * statistics,), those of a descriptor side by side."""
    import torch

    mean = values.mean(1, keepdim=True)
    off = values - mean
    deviation = off.square().mean(1).sqrt()
    skewness = off.pow(3).mean(1) / deviation.clamp(min=1e-6).pow(3)
    quantiles = torch.quantile(values, torch.tensor([0.05, 0.5, 0.95]), dim=1)
    time = torch.arange(values.shape[1]) * (HOP / SAMPLE_RATE)
    time = time - time.mean()
    slope = (off * time).sum(1) / time.square().sum().clamp(min=1e-9)
    return torch.stack([mean[:, 0], deviation, skewness, *quantiles, slope], 1).flatten()
