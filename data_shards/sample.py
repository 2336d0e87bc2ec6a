"""One corpus item and how it is laid down in a shard: the only place that knows the format.

Inside a tar shard an audio sample is two members, ``<key>.wav`` (or ``.flac``) and ``<key>.json``;
a text sample is ``<key>.json`` alone. Both are plain WebDataset samples.
"""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from configs.errors import InputError

SAMPLE_RATE = 16_000
AudioFormat = Literal["wav", "flac"]
# Bytes 12 to 40 of a mono 16 kHz PCM16 file: the format chunk and the name of the next one.
_WAV_HEADER = struct.pack("<4sIHHIIHH4s", b"fmt ", 16, 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16, b"data")
_PCM16_STEP = np.float32(1 / 32768)
AUDIO_FORMATS: tuple[AudioFormat, ...] = ("wav", "flac")


@dataclass(frozen=True)
class TextPair:
    """A premise and a hypothesis, as the corpus has them and after text processing."""

    premise: str
    hypothesis: str
    premise_processed: str
    hypothesis_processed: str


@dataclass(frozen=True)
class Sample:
    """One item of a corpus, ready to be encoded. Exactly one of ``audio`` and ``text`` is given."""

    key: str
    """Unique in the corpus; no dot, slash or white space (WebDataset cuts names at the first dot)."""
    label: str
    speaker: str = ""
    """Empty where unknown."""
    audio: NDArray[np.float32] | None = None
    """(samples,) mono at 16 kHz, in [-1, 1]."""
    text: TextPair | None = None
    groups: dict[str, str] = field(default_factory=dict)
    """Categorical facts that the index keeps as columns: gender, the corpus's own split, ..."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Everything else worth keeping (transcripts, original rate): only in the shard's JSON."""
    notes: tuple[str, ...] = ()
    """What packing changed, e.g. "resampled from 44100 Hz"; counted in the packing summary."""


@dataclass(frozen=True)
class EncodedSample:
    """A sample as bytes, made in a packing worker and written by the shard writer."""

    key: str
    label: str
    speaker: str
    groups: dict[str, str]
    length: int
    """Audio: samples at 16 kHz. Text: white-space separated words of premise and hypothesis."""
    members: dict[str, bytes]
    """File extension -> content; the first one is the payload that the index points to."""
    notes: tuple[str, ...] = ()


_JOINERS = "\u200c\u200d"
"""Zero-width non-joiner and joiner: part of Persian spelling, invisible as they are."""


def check_key(key: str) -> str:
    """Return ``key`` if a shard can hold it. Raises InputError naming it otherwise."""
    visible = key.translate(dict.fromkeys(map(ord, _JOINERS)))
    if not visible or any(c in "./\\" or c.isspace() or not c.isprintable() for c in visible):
        raise InputError(f"sample key {key!r}: keys need visible characters, no dots, slashes or white space")
    if len(key.encode()) > 200:
        raise InputError(f"sample key {key[:40]!r}...: keys must be at most 200 bytes long")
    return key


def encode_sample(sample: Sample, audio_format: AudioFormat = "wav") -> EncodedSample:
    """Encode a sample: PCM16 WAV or FLAC for audio, UTF-8 JSON with sorted keys for the rest."""
    assert (sample.audio is None) != (sample.text is None), "a sample holds audio or text"
    facts: dict[str, Any] = {"label": sample.label, **sample.groups, **sample.meta}
    if sample.speaker:
        facts["speaker"] = sample.speaker
    members: dict[str, bytes] = {}
    if sample.audio is not None:
        members[audio_format] = encode_audio(sample.audio, audio_format)
        length = len(sample.audio)
    else:
        assert sample.text is not None
        facts.update(vars(sample.text))
        length = len(sample.text.premise.split()) + len(sample.text.hypothesis.split())
    members["json"] = json.dumps(facts, ensure_ascii=False, sort_keys=True).encode()
    return EncodedSample(
        check_key(sample.key),
        sample.label,
        sample.speaker,
        sample.groups,
        length,
        members,
        sample.notes,
    )


def encode_audio(audio: NDArray[np.float32], audio_format: AudioFormat) -> bytes:
    """(samples,) in [-1, 1] -> a 16 kHz mono 16-bit file as bytes; values outside are clipped."""
    import soundfile  # heavy, and text shards never need it

    pcm = quantise_pcm16(audio)
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, SAMPLE_RATE, format=audio_format.upper(), subtype="PCM_16")
    return buffer.getvalue()


def quantise_pcm16(audio: NDArray[np.float32]) -> NDArray[np.int16]:
    """Round to 16 bits; full scale is 32768, as soundfile reads it back."""
    return np.clip(np.rint(audio * 32768.0), -32768, 32767).astype(np.int16)


def as_packed(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """(samples,) in [-1, 1] -> the same as it is read again from a shard, in steps of 16 bits."""
    return quantise_pcm16(audio) * _PCM16_STEP


def decode_audio(payload: bytes) -> NDArray[np.float32]:
    """A shard's audio member -> (samples,) float32 in [-1, 1)."""
    if payload[12:40] == _WAV_HEADER:
        # As encode_audio writes it. NumPy alone takes a third of the time of an audio library.
        size = int.from_bytes(payload[40:44], "little")
        return np.frombuffer(payload, "<i2", size // 2, offset=44) * _PCM16_STEP
    import soundfile

    audio, _ = soundfile.read(io.BytesIO(payload), dtype="float32")
    return audio  # type: ignore[no-any-return]


def decode_text(payload: bytes) -> TextPair:
    """A shard's JSON member -> the text pair."""
    facts = json.loads(payload)
    return TextPair(
        facts["premise"],
        facts["hypothesis"],
        facts["premise_processed"],
        facts["hypothesis_processed"],
    )
