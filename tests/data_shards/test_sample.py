"""What goes into a shard comes out of it: samples, encoded and decoded."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import InputError
from data_shards.sample import (
    AUDIO_FORMATS,
    SAMPLE_RATE,
    AudioFormat,
    Sample,
    TextPair,
    check_key,
    decode_audio,
    decode_text,
    encode_audio,
    encode_sample,
    quantise_pcm16,
)

NOISE = np.random.Generator(np.random.PCG64(0)).uniform(-1, 1, 4000).astype(np.float32)


@pytest.mark.parametrize("audio_format", AUDIO_FORMATS)
def test_audio_comes_back_to_the_last_bit(audio_format: AudioFormat) -> None:
    encoded = encode_sample(Sample("a", "x", audio=NOISE), audio_format)
    assert list(encoded.members) == [audio_format, "json"] and encoded.length == 4000
    back = decode_audio(encoded.members[audio_format])
    assert back.dtype == np.float32 and np.abs(back - NOISE).max() <= 0.5 / 32768
    assert (back == quantise_pcm16(NOISE).astype(np.float32) / 32768).all()
    stream = io.BytesIO(encoded.members[audio_format])
    assert (back == soundfile.read(stream, dtype="float32")[0]).all(), "as any program reads it"
    # What was packed once is packed again without another loss.
    assert encode_audio(back, audio_format) == encoded.members[audio_format]


@pytest.mark.parametrize("audio_format", AUDIO_FORMATS)
def test_audio_files_say_what_they_are(audio_format: AudioFormat) -> None:
    facts = soundfile.info(io.BytesIO(encode_audio(NOISE, audio_format)))
    assert (facts.samplerate, facts.channels, facts.frames) == (SAMPLE_RATE, 1, 4000)
    assert (facts.format, facts.subtype) == (audio_format.upper(), "PCM_16")


def test_too_loud_audio_is_clipped_not_wrapped() -> None:
    loud = np.array([1.5, 1.0, -1.0, -1.5, 0.0], np.float32)
    assert quantise_pcm16(loud).tolist() == [32767, 32767, -32768, -32768, 0]


def test_text_comes_back_with_all_that_is_known() -> None:
    pair = TextPair("کتاب‌ها «خوب»اند", 'he said "no"\n', "کتاب خوب", "")
    sample = Sample("k", "e", "F01", text=pair, groups={"gender": "F"}, meta={"hard": 1}, notes=("cut",))
    encoded = encode_sample(sample)
    assert (encoded.key, encoded.label, encoded.speaker) == ("k", "e", "F01")
    assert encoded.groups == {"gender": "F"} and encoded.notes == ("cut",)
    assert encoded.length == 5, "white-space separated words of both originals"
    assert list(encoded.members) == ["json"] and decode_text(encoded.members["json"]) == pair
    facts = json.loads(encoded.members["json"])
    assert facts == {"label": "e", "speaker": "F01", "gender": "F", "hard": 1, **vars(pair)}
    assert "کتاب" in encoded.members["json"].decode(), "readable with any tool, not escaped"


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(st.builds(TextPair, texts, texts, texts, texts))
def test_any_text_comes_back(pair: TextPair) -> None:
    assert decode_text(encode_sample(Sample("k", "e", text=pair)).members["json"]) == pair


def test_bytes_do_not_depend_on_the_order_of_facts() -> None:
    pair = TextPair("a", "b", "a", "b")
    one = Sample("k", "e", text=pair, groups={"x": "1", "y": "2"}, meta={"m": 1, "n": 2})
    two = Sample("k", "e", text=pair, groups={"y": "2", "x": "1"}, meta={"n": 2, "m": 1})
    assert encode_sample(one).members == encode_sample(two).members


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "a\\b", "a b", "a\u200fb", "a\nb", "آ" * 101])
def test_keys_that_a_shard_cannot_hold(key: str) -> None:
    with pytest.raises(InputError, match="sample key") as caught:
        encode_sample(Sample(key, "e", audio=NOISE))
    assert "\n" not in str(caught.value)


def test_keys_that_it_can() -> None:
    for key in ("F03S02", "a-b_c+1", "گفتار-۱", "آ" * 100):
        assert check_key(key) == key
