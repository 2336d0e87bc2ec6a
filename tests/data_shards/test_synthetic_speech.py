"""The generated speech: ShEMO's shape, the same bytes everywhere, learnable but not trivial."""

from __future__ import annotations

import multiprocessing
import re
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from configs.errors import InputError
from data_shards.corpora.synthetic_speech import (
    LABELS,
    SHEMO_COUNTS,
    apportion,
    key_of,
    render,
    synthetic_shemo,
)
from data_shards.corpora.voice import Delivery, Voice, speak
from data_shards.sample import SAMPLE_RATE, encode_sample

VOICE = Voice(f0=140.0, tract=1.0, tilt=0.0, rate=1.0, gain=0.0, expressiveness=1.0)
CALM = Delivery(span=0.5, rise=0.0, tremor=0.02, noise=-60.0)


def pitch_track(audio: NDArray[np.float32]) -> NDArray[np.float64]:
    """Semitones over 100 Hz of the voiced, louder half of the frames, by autocorrelation."""
    frames = np.lib.stride_tricks.sliding_window_view(audio.astype(float), 512)[::256]
    frames = frames * np.hanning(512)
    power = np.abs(np.fft.rfft(frames, 1024)) ** 2
    correlation = np.fft.irfft(power)[:, :320]
    peaks = correlation[:, 32:]
    voiced = peaks.max(1) > 0.4 * correlation[:, 0]
    voiced &= correlation[:, 0] >= np.median(correlation[:, 0])
    return np.asarray(12 * np.log2(SAMPLE_RATE / (peaks.argmax(1) + 32) / 100)[voiced])


def functionals(audio: NDArray[np.float32]) -> list[float]:
    """A handful of numbers about a clip: loudness, pitch, pitch movement, spectral balance."""
    audio = np.pad(audio, (0, max(0, 1024 - len(audio))))
    frames = np.lib.stride_tricks.sliding_window_view(audio.astype(float), 512)[::256]
    energy = np.log((frames**2).mean(1) + 1e-8)
    power = np.abs(np.fft.rfft(frames * np.hanning(512))) ** 2
    edges = [1, 16, 32, 64, 112, 176, 257]
    bands = [np.log(power[:, a:b].mean() + 1e-8) for a, b in zip(edges, edges[1:], strict=False)]
    pitch = pitch_track(audio)
    if len(pitch) < 4:
        pitch = np.zeros(4)
    steps = np.abs(np.diff(pitch)).mean()
    return [
        energy.mean(),
        energy.std(),
        energy.max(),
        float(np.abs(np.diff(energy)).mean()),
        pitch.mean(),
        pitch.std(),
        steps,
        *(band - energy.mean() for band in bands),
    ]


def test_default_corpus_has_shemos_shape() -> None:
    corpus = synthetic_shemo()
    assert corpus.synthetic and corpus.kind == "audio" and len(corpus.items) == 480
    keys = [corpus.key(item) for item in corpus.items]
    assert len(set(keys)) == 480
    assert all(re.fullmatch(r"[FM]\d\d[ANSWHF]\d\d", key) for key in keys)
    classes = Counter(key[3] for key in keys)
    assert classes == {"A": 169, "N": 165, "S": 72, "W": 36, "H": 32, "F": 6}
    speakers = {key[:3] for key in keys}
    assert len(speakers) == 24 and sum(name[0] == "F" for name in speakers) == 9
    assert len({key[:3] for key in keys if key[3] == "F"}) == 6, "fear must reach every split"
    emotions = defaultdict(set)
    for key in keys:
        emotions[key[:3]].add(key[3])
    assert min(map(len, emotions.values())) < 6, "no real speaker shows everything"


def test_at_shemos_size_classes_speakers_and_lengths_are_shemos() -> None:
    corpus = synthetic_shemo(3000, seed=3)
    keys = [corpus.key(item) for item in corpus.items]
    assert Counter(key[3] for key in keys) == SHEMO_COUNTS
    speakers = Counter(key[:3] for key in keys)
    assert len(speakers) == 87 and sum(name[0] == "F" for name in speakers) == 31
    assert max(speakers.values()) > 4 * np.median(list(speakers.values())), "uneven, as in ShEMO"
    seconds = np.array([item.seconds for item in corpus.items])
    assert np.median(seconds) == pytest.approx(3.1, rel=0.06)
    assert np.percentile(seconds, 95) == pytest.approx(10.8, rel=0.08)
    assert seconds.max() <= 33.3


@pytest.mark.parametrize("samples", [24, 40, 97, 6000, 20_000])
def test_every_size_has_all_classes_in_three_places_and_unique_names(samples: int) -> None:
    corpus = synthetic_shemo(samples, seed=1)
    keys = [corpus.key(item) for item in corpus.items]
    assert len(keys) == len(set(keys)) == samples
    for emotion in LABELS:
        assert len({key[:3] for key in keys if key[3] == emotion}) >= 3, emotion


def test_clips_are_the_same_in_any_process_and_order() -> None:
    items = synthetic_shemo(24, seed=5, seconds_scale=0.2).items[:6]
    here = [encode_sample(render(item)).members["wav"] for item in items]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        there = list(pool.map(render, reversed(items)))
    assert [encode_sample(sample).members["wav"] for sample in reversed(there)] == here
    other = replace(items[0], seed=6)
    assert encode_sample(render(other)).members["wav"] != here[0]


def test_samples_say_what_they_are() -> None:
    clip = synthetic_shemo(24, seconds_scale=0.1).items[0]
    sample = render(clip)
    assert sample.key == clip.key == key_of(clip)
    assert sample.label == LABELS[clip.key[3]] and sample.speaker == clip.key[:3]
    assert sample.groups == {"gender": clip.key[0]} and sample.meta["synthetic"] is True
    assert sample.audio is not None and sample.audio.dtype == np.float32
    assert len(sample.audio) == round(clip.seconds * SAMPLE_RATE)


def test_seconds_scale_scales_the_clips() -> None:
    full, short = synthetic_shemo(100), synthetic_shemo(100, seconds_scale=0.5)
    for a, b in zip(full.items, short.items, strict=True):
        assert a.key == b.key and b.seconds == pytest.approx(max(0.3, a.seconds / 2), abs=1e-3)


@pytest.mark.parametrize("f0", [110.0, 220.0])
def test_the_voice_has_the_pitch_asked_for(f0: float) -> None:
    audio = speak(replace(VOICE, f0=f0), CALM, 3.0, np.random.default_rng(0))
    heard = 100 * 2 ** (np.median(pitch_track(audio)) / 12)
    assert heard == pytest.approx(f0, rel=0.08)
    raised = speak(replace(VOICE, f0=f0), replace(CALM, pitch=5.0), 3.0, np.random.default_rng(0))
    change = np.median(pitch_track(raised)) - np.median(pitch_track(audio))
    assert change == pytest.approx(5.0, abs=1.0)


def test_delivery_moves_loudness_brightness_and_tempo() -> None:
    def say(**change: float) -> NDArray[np.float32]:
        return speak(VOICE, replace(CALM, **change), 8.0, np.random.default_rng(1))

    def level(audio: NDArray[np.float32]) -> float:
        return float(10 * np.log10(np.mean(audio.astype(float) ** 2)))

    def brightness(audio: NDArray[np.float32]) -> float:
        power = np.abs(np.fft.rfft(audio)) ** 2
        return float((power * np.arange(len(power))).sum() / power.sum())

    assert level(say(loudness=6.0)) - level(say()) == pytest.approx(6.0, abs=0.1)
    assert brightness(say(tilt=4.0)) > 1.3 * brightness(say())
    assert brightness(say(smile=1.2)) > 1.05 * brightness(say())
    noisy, clean = say(noise=-10.0), say()
    assert np.percentile(np.abs(noisy), 10) > 3 * np.percentile(np.abs(clean), 10)

    def beats(audio: NDArray[np.float32]) -> int:
        """How often the smoothed loudness crosses its mean."""
        loudness = np.log((audio.astype(float).reshape(-1, 160) ** 2).mean(1) + 1e-6)
        smooth = np.convolve(loudness, np.hanning(9) / 4, mode="valid")
        return int(np.count_nonzero(np.diff(smooth > smooth.mean())))

    assert beats(say(tempo=1.6)) > 1.3 * beats(say(tempo=0.6))


@pytest.mark.parametrize("seconds", [0.3, 1.0, 33.3])
def test_speech_is_finite_unclipped_and_exactly_as_long_as_asked(seconds: float) -> None:
    loud = replace(VOICE, gain=25.0)
    audio = speak(loud, CALM, seconds, np.random.default_rng(2))
    assert len(audio) == round(seconds * SAMPLE_RATE) and np.isfinite(audio).all()
    assert 0.5 < np.abs(audio).max() <= 0.971


def test_a_simple_classifier_beats_the_majority_but_is_often_wrong() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    corpus = synthetic_shemo(480, seconds_scale=0.3)
    samples = [corpus.load(item) for item in corpus.items]
    features = np.array([functionals(s.audio) for s in samples if s.audio is not None])
    labels = np.array([s.label for s in samples])
    speakers = np.array([s.speaker for s in samples])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    guesses = cross_val_predict(model, features, labels, groups=speakers, cv=GroupKFold(5))
    majority = max(Counter(labels).values()) / len(labels)
    assert majority + 0.15 < (guesses == labels).mean() < 0.85


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((23,), "samples"), ((100, -1), "seed"), ((100, 0, 0.0), "seconds_scale")],
)
def test_bad_settings_are_named(arguments: tuple[int, ...], named: str) -> None:
    with pytest.raises(InputError, match=f"^synthetic-shemo: {named} is [^\n]*$"):
        synthetic_shemo(*arguments)


def test_apportion_gives_whole_parts_near_their_share() -> None:
    weights = np.array([1059.0, 1028, 449, 225, 201, 38])
    none = np.zeros(6, np.int64)
    assert apportion(3000, weights, none).tolist() == weights.tolist()
    for total in (7, 100, 481):
        parts = apportion(total, weights, none)
        assert parts.sum() == total
        assert np.abs(parts - total * weights / weights.sum()).max() < 1
    held = apportion(20, weights, np.full(6, 3))
    assert held.sum() == 20 and held.min() == 3
