"""Audio files -> mono float32 at 16 kHz, refusing what is damaged.

soundfile decodes and torchaudio resamples. soundfile hands out what it finds of a cut WAV or AIFF
file without a word, so sizes in the headers are compared with the bytes that are there; formats
whose truncation cannot be seen that way are not accepted.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from configs.errors import InputError
from data_shards.sample import SAMPLE_RATE

if TYPE_CHECKING:
    import soundfile
    from torchaudio.transforms import Resample

FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF")
"""Container names of soundfile that are read. WAVEX is the extensible WAV header."""
MIN_SAMPLES = SAMPLE_RATE // 40
"""25 ms, one analysis window of speech; less than that is no clip."""
_MAX_KERNEL = 20_000_000
"""Taps of a resampler (80 MB): rates that share no large divisor with 16 kHz would need GBs."""
_UNKNOWN_SIZE = 0xFFFFFFFF
"""Data size in a WAV header written to a pipe."""


@dataclass(frozen=True)
class Clip:
    """Decoded audio."""

    audio: NDArray[np.float32]
    """(samples,) mono at 16 kHz."""
    rate: int
    """Sampling rate of the file in Hz."""
    notes: tuple[str, ...]
    """What was changed, in words that can be counted over a corpus."""


def load_file(path: Path | str) -> Clip:
    """Read one audio file. Raises InputError, naming the file, where that cannot be done."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    return load_bytes(data, str(path))


def load_bytes(data: bytes, name: str) -> Clip:
    """Decode the bytes of an audio file that is called ``name`` in errors.

    Raises InputError if they are unreadable, truncated, without samples, shorter than 25 ms, not
    finite, in a format other than ``FORMATS`` or at a rate that cannot be resampled.
    """
    if not data:
        raise InputError(f"{name}: the file is empty; replace it or leave it out")
    notes = _check_sizes(data, name)
    samples, rate = _decode(data, name)
    if len(samples) == 0:
        raise InputError(f"{name}: a header without samples; replace the file or leave it out")
    if not np.isfinite(samples).all():
        where = int(np.flatnonzero(~np.isfinite(samples).all(axis=1))[0])
        raise InputError(f"{name}: sample {where} is NaN or infinite; export the file again")
    channels = samples.shape[1]
    audio = samples[:, 0]
    if channels > 1:
        audio = samples.mean(axis=1, dtype=np.float32)
        notes.append(f"mixed {channels} channels to mono")
    if rate != SAMPLE_RATE:
        audio = resample(audio, rate, name)
        notes.append(f"resampled from {rate} Hz")
    if len(audio) < MIN_SAMPLES:
        milliseconds = 1000 * len(audio) / SAMPLE_RATE
        raise InputError(f"{name}: only {milliseconds:.1f} ms long (at least 25 needed); leave it out")
    peak = float(np.abs(audio).max())
    if peak == 0.0:
        notes.append("all samples zero")
    if peak > 1.0:
        notes.append("peaks above full scale clipped")
    return Clip(np.ascontiguousarray(audio), rate, tuple(notes))


def resample(audio: NDArray[np.float32], rate: int, name: str) -> NDArray[np.float32]:
    """(samples,) at ``rate`` Hz -> (samples * 16000 / rate,) by windowed sinc interpolation.

    Runs on one thread: faster for clips, and the result does not depend on the machine's cores.
    """
    divisor = gcd(rate, SAMPLE_RATE)
    # The kernel has 16000/divisor phases of about rate/divisor taps, and a few more on each side.
    if (rate // divisor + 16) * (SAMPLE_RATE // divisor) > _MAX_KERNEL:
        raise InputError(
            f"{name}: {rate} Hz cannot be resampled to {SAMPLE_RATE} Hz within bounds; convert the "
            "file to a usual rate (8000, 22050, 44100, 48000 Hz) first"
        )
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            wave = torch.from_numpy(np.ascontiguousarray(audio))
            result: NDArray[np.float32] = _resampler(rate)(wave).numpy()
    finally:
        torch.set_num_threads(threads)
    return result


@cache
def _resampler(rate: int) -> Resample:
    """The filter of a rate, computed once per process."""
    from torchaudio.transforms import Resample

    return Resample(rate, SAMPLE_RATE)


def _decode(data: bytes, name: str) -> tuple[NDArray[np.float32], int]:
    """All samples (samples, channels) and the rate."""
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            _check_format(sound, name)
            frames, rate = sound.frames, sound.samplerate
            samples = sound.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        reason = str(error).rpartition(": ")[2].strip().rstrip(".")
        detail = f" ({reason})" if reason else ""
        raise InputError(
            f"{name}: not readable as audio{detail}; damaged, truncated or not an audio file"
        ) from None
    if len(samples) < frames:
        raise InputError(
            f"{name}: truncated, {len(samples)} of {frames} samples can be decoded; fetch it again"
        )
    return samples, rate


def _check_format(sound: soundfile.SoundFile, name: str) -> None:
    if sound.format not in FORMATS:
        raise InputError(f"{name}: {sound.format} files are not supported; convert it to WAV or FLAC")
    if sound.frames > 2**31 - 1:
        raise InputError(f"{name}: its header does not say how long it is; convert it to WAV")


def _check_sizes(data: bytes, name: str) -> list[str]:
    """Compare what the container promises with the bytes that are there; return notes."""
    magic, form = data[:4], data[8:12]
    if magic == b"RIFF" and form == b"WAVE":
        return _check_chunks(data, name, b"data", "little")
    if magic == b"FORM" and form in (b"AIFF", b"AIFC"):
        return _check_chunks(data, name, b"SSND", "big")
    if magic == b"OggS":
        # The last page of a complete stream carries the end-of-stream flag (byte 5), and all of the
        # segments whose sizes it lists (RFC 3533).
        page = data[data.rfind(b"OggS") :]
        segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
        if len(page) < 27 + len(segments) + sum(segments) or not page[5] & 4:
            raise InputError(f"{name}: truncated, the end of the stream is missing; fetch it again")
    return []


def _check_chunks(data: bytes, name: str, wanted: bytes, order: str) -> list[str]:
    """Walk the chunks of a RIFF or IFF file up to the one with the samples."""
    little = order == "little"
    position = 12
    while position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little" if little else "big")
        there = len(data) - position - 8
        if data[position : position + 4] == wanted:
            if little and size == _UNKNOWN_SIZE:
                return ["length not in the header"]
            if size > there:
                raise InputError(f"{name}: truncated, has {there} of {size} bytes of samples; fetch it again")
            if size == 0:
                break
            return []
        position += 8 + size + size % 2
    raise InputError(f"{name}: a header without samples; replace the file or leave it out")
