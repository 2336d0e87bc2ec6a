"""Changed clips: drawn from (seed, epoch, row, copy), rotated, noisy and higher as they should be."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from configs.schema import AugmentConfig
from data_shards.augment import Change, apply_change, draw_change, pitch_shift, pitched_key
from data_shards.sample import SAMPLE_RATE

CONFIG = AugmentConfig()


def tone(hertz: float, samples: int = SAMPLE_RATE) -> NDArray[np.float32]:
    time = np.arange(samples) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def test_a_change_follows_from_its_four_numbers() -> None:
    drawn = {where: draw_change(CONFIG, *where) for where in product((0, 1), (1, 2), range(20), (1, 2))}
    assert drawn == {where: draw_change(CONFIG, *where) for where in drawn}
    assert len({change.noise_seed for change in drawn.values()}) == len(drawn)


def test_changes_fill_their_ranges_evenly() -> None:
    changes = [draw_change(CONFIG, 0, 1, row, 1) for row in range(3000)]
    semitones = np.array([change.semitones for change in changes])
    assert all(abs((semitones == s).mean() - 1 / 3) < 0.03 for s in (-1, 0, 1))
    shifts = np.array([change.shift for change in changes])
    assert shifts.min() >= 0 and 3100 < shifts.max() <= 3200, "0.2 s of 16 kHz"
    assert abs(shifts.mean() - 1600) < 60
    assert abs(np.corrcoef(semitones, shifts)[0, 1]) < 0.06


def test_no_range_is_no_change() -> None:
    change = draw_change(AugmentConfig(noise=0.0, shift_seconds=0.0, semitones=(0,)), 0, 1, 2, 3)
    assert (change.semitones, change.shift) == (0, 0)
    assert (apply_change(tone(300), change, 0.0) == tone(300)).all()


@given(st.integers(1, 50), st.integers(0, 200))
def test_the_shift_is_a_rotation(length: int, shift: int) -> None:
    audio = np.arange(length, dtype=np.float32)
    moved = apply_change(audio, Change(0, shift, 0), noise=0.0)
    cut = shift % length
    assert moved.tolist() == [*audio[length - cut :].tolist(), *audio[: length - cut].tolist()]
    assert audio.tolist() == list(range(length)), "the clip itself stays as it is"


def test_noise_has_its_level_and_no_colour() -> None:
    silence = np.zeros(100_000, np.float32)
    noisy = apply_change(silence, Change(0, 0, 42), noise=0.005)
    assert noisy.dtype == np.float32
    assert noisy.std() == pytest.approx(0.005, rel=0.02) and abs(noisy.mean()) < 1e-4
    assert abs(np.corrcoef(noisy[1:], noisy[:-1])[0, 1]) < 0.02
    again, other = (apply_change(silence, Change(0, 0, seed), 0.005) for seed in (42, 43))
    assert (again == noisy).all() and abs(np.corrcoef(other, noisy)[0, 1]) < 0.02


def peak_hertz(audio: NDArray[np.float32]) -> float:
    """Frequency of the strongest partial, between bins by a parabola."""
    power = np.log(np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) + 1e-12)
    at = int(power[1:-1].argmax()) + 1
    left, centre, right = power[at - 1 : at + 2]
    return (at + 0.5 * (left - right) / (left - 2 * centre + right)) * SAMPLE_RATE / len(audio)


@pytest.mark.parametrize("semitones", [-12, -1, 1, 4])
@pytest.mark.parametrize("hertz", [200.0, 1500.0])
def test_a_tone_moves_by_semitones(semitones: int, hertz: float) -> None:
    audio = tone(hertz)
    shifted = pitch_shift(audio, semitones)
    assert shifted.shape == audio.shape and shifted.dtype == np.float32
    cents = 1200 * np.log2(peak_hertz(shifted) / hertz) - 100 * semitones
    assert abs(cents) < 5
    # A plain phase vocoder loses some level: the bins of a partial drift out of phase.
    assert 0.15 < shifted[2000:-2000].std() / audio[2000:-2000].std() < 1.05


def test_what_happens_when_stays_where_it_was() -> None:
    audio = np.zeros(SAMPLE_RATE, np.float32)
    audio[4000:8000] = tone(440, 4000)
    energy = pitch_shift(audio, 1) ** 2
    assert energy[3500:8500].sum() > 0.98 * energy.sum()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 1200), st.sampled_from([-1, 1]))
def test_any_length_is_kept(length: int, semitones: int) -> None:
    shifted = pitch_shift(tone(440, length), semitones)
    assert len(shifted) == length and np.isfinite(shifted).all()


@pytest.mark.parametrize("length", [100, 511, 16_000])
def test_silence_stays_silent(length: int) -> None:
    assert not pitch_shift(np.zeros(length, np.float32), 1).any()


def test_shifted_clips_have_keys_that_shards_can_hold() -> None:
    keys = {pitched_key(row, s) for row in (0, 1, 11) for s in (-11, -1, 1)}
    assert len(keys) == 9 and pitched_key(11, -1) == "11_-1"


@pytest.mark.parametrize("semitones", [-1, 1])
def test_a_pitch_shift_keeps_the_level(semitones: int) -> None:
    generator = np.random.Generator(np.random.PCG64(3))
    clip = (0.1 * generator.standard_normal(16_000)).astype(np.float32)
    shifted = pitch_shift(clip, semitones)
    assert np.sqrt(np.mean(shifted**2)) == pytest.approx(np.sqrt(np.mean(clip**2)), rel=1e-3)
