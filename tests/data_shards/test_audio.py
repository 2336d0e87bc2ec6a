"""Conversion keeps the sound; damage of every kind is refused with a line that names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from configs.errors import InputError
from data_shards.audio import load_bytes, load_file
from data_shards.sample import SAMPLE_RATE
from tests.data_shards.clips import encoded, tone


def test_16_khz_mono_is_untouched() -> None:
    clip = load_bytes(encoded(tone(), subtype="FLOAT"), "a.wav")
    np.testing.assert_array_equal(clip.audio, tone().astype(np.float32))
    assert clip.audio.dtype == np.float32 and clip.rate == SAMPLE_RATE and clip.notes == ()


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_resampling_keeps_the_tone(rate: int) -> None:
    clip = load_bytes(encoded(tone(0.5, rate), rate), "a.wav")
    want = tone(0.5)
    assert abs(len(clip.audio) - len(want)) <= 1
    # The edges see the silence outside of the clip.
    middle = slice(800, 7200)
    np.testing.assert_allclose(clip.audio[middle], want[middle], atol=2e-3)
    assert clip.rate == rate and clip.notes == (f"resampled from {rate} Hz",)


def test_a_rate_without_common_divisor_is_refused_before_it_takes_gigabytes() -> None:
    with pytest.raises(InputError, match=r"^a\.wav: 44101 Hz cannot be resampled"):
        load_bytes(encoded(tone(0.1, 44101), 44101), "a.wav")


def test_stereo_is_mixed() -> None:
    left, right = tone(hertz=300), tone(hertz=500)
    clip = load_bytes(encoded(np.stack([left, right], axis=1), subtype="FLOAT"), "a.wav")
    np.testing.assert_allclose(clip.audio, (left + right) / 2, atol=1e-6)
    assert clip.notes == ("mixed 2 channels to mono",)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_U8"),
        ("WAV", "PCM_24"),
        ("WAVEX", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("MP3", "MPEG_LAYER_III"),
        ("AIFF", "PCM_16"),
    ],
)
def test_containers(container: str, subtype: str) -> None:
    clip = load_bytes(encoded(tone(0.5), container=container, subtype=subtype), "a")
    spectrum = np.abs(np.fft.rfft(clip.audio))
    assert abs(np.argmax(spectrum) * SAMPLE_RATE / len(clip.audio) - 440) < 5


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("AIFF", "PCM_16"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_truncated(container: str, subtype: str, kept: float) -> None:
    data = encoded(tone(1.0), container=container, subtype=subtype)
    with pytest.raises(InputError, match="truncated") as caught:
        load_bytes(data[: int(kept * len(data))], "clips.zip:a.wav")
    assert str(caught.value).startswith("clips.zip:a.wav: ") and "\n" not in str(caught.value)


def test_one_missing_byte_is_noticed() -> None:
    with pytest.raises(InputError, match="truncated, has 3199 of 3200 bytes"):
        load_bytes(encoded(tone())[:-1], "a.wav")


def test_metadata_after_the_samples_may_be_cut() -> None:
    data = encoded(tone()) + b"LIST\xff\x00\x00\x00INFO"
    assert len(load_bytes(data, "a.wav").audio) == 1600


def test_wav_written_to_a_pipe_is_read_and_noted() -> None:
    data = bytearray(encoded(tone()))
    start = data.index(b"data") + 4
    data[start : start + 4] = b"\xff\xff\xff\xff"
    clip = load_bytes(bytes(data), "a.wav")
    assert len(clip.audio) == 1600 and clip.notes == ("length not in the header",)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (encoded(tone(0.0)), "a header without samples"),
        (encoded(tone())[:30], "a header without samples"),
        (b"this is no audio at all" * 20, "not readable as audio"),
        (encoded(tone(0.02)), "only 20.0 ms long"),
        (encoded(tone(), container="W64"), "W64 files are not supported"),
    ],
)
def test_refused(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=f"^a.wav: .*{words}") as caught:
        load_bytes(data, "a.wav")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value: float) -> None:
    samples = tone()
    samples[100] = value
    with pytest.raises(InputError, match=r"^a\.wav: sample 100 is NaN or infinite"):
        load_bytes(encoded(samples, subtype="FLOAT"), "a.wav")


def test_silence_and_overload_are_noted() -> None:
    assert load_bytes(encoded(0 * tone()), "a").notes == ("all samples zero",)
    loud = load_bytes(encoded(3 * tone(), subtype="FLOAT"), "a")
    assert loud.notes == ("peaks above full scale clipped",)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.wav: cannot be read"):
        load_file(tmp_path / "none.wav")
