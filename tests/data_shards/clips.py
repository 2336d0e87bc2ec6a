"""Short tones as audio files, for tests that need some."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from data_shards.sample import SAMPLE_RATE

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Real corpora, beside the checkout."""


def tone(seconds: float = 0.1, rate: int = SAMPLE_RATE, hertz: float = 440.0) -> NDArray[np.float64]:
    """(samples,) of a sine at half of full scale."""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def encoded(
    samples: NDArray[np.float64],
    rate: int = SAMPLE_RATE,
    container: str = "WAV",
    subtype: str = "PCM_16",
) -> bytes:
    """The bytes of an audio file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype)
    return buffer.getvalue()


def write_tones(folder: Path, count: int, rate: int = SAMPLE_RATE) -> list[Path]:
    """``count`` different wavs clip-000.wav, clip-001.wav, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"clip-{n:03d}.wav" for n in range(count)]
    for n, path in enumerate(paths):
        path.write_bytes(encoded(tone(0.05 + 0.001 * n, rate, 200 + 10 * n), rate))
    return paths
