"""A small source-filter voice: glottal pulses and noise through moving formants, in NumPy alone.

It says random syllables. What it says carries no meaning; how it says it is set by a ``Voice`` (who
speaks) and a ``Delivery`` (how this utterance is spoken). The filter works on short windows in the
frequency domain, so that all frames are computed at once: about a hundred times real time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_shards.sample import SAMPLE_RATE

Array = NDArray[np.float64]

HOP = 128
"""Samples between control frames (8 ms)."""
WINDOW = 2 * HOP
"""A Hann window of two hops: shifted copies of it add up to one."""
FFT = 512
"""Leaves a window's length for the filter to ring out."""
FRAME_RATE = SAMPLE_RATE / HOP

# The six vowels of Persian, i e æ u o ɒ: F1, F2, F3 of an adult male voice, Hz.
VOWELS = np.array(
    [
        [300, 2150, 2850],
        [440, 1850, 2600],
        [690, 1600, 2500],
        [330, 850, 2350],
        [450, 900, 2400],
        [620, 1050, 2450],
    ],
    float,
)
BANDWIDTHS = (70.0, 90.0, 130.0, 200.0)
F4 = 3600.0
# Consonants: length in s, voicing and hiss (0 to 1), centre of the hiss in Hz, F1 to F3 in Hz.
CONSONANTS = np.array(
    [
        [0.080, 0.00, 0.30, 5600, 400, 1700, 2600],  # s
        [0.085, 0.00, 0.35, 3200, 400, 1900, 2500],  # ʃ
        [0.060, 0.45, 0.12, 5200, 300, 1700, 2600],  # z
        [0.075, 0.00, 0.10, 1600, 500, 1300, 2400],  # x
        [0.065, 0.00, 0.18, 4200, 450, 1500, 2500],  # t, k: closure and burst in one
        [0.050, 0.35, 0.05, 2500, 250, 1300, 2400],  # b, d, g
        [0.065, 0.55, 0.00, 2500, 250, 1250, 2300],  # m, n
        [0.055, 0.65, 0.00, 2500, 350, 1400, 2500],  # l, r
    ]
)


@dataclass(frozen=True)
class Voice:
    """Who speaks."""

    f0: float
    """Habitual fundamental frequency, Hz."""
    tract: float
    """Formants are multiplied by it: about 1 for men, 1.17 for women."""
    tilt: float
    """Slope of the voice's spectrum beside the standard one, dB an octave."""
    rate: float
    """Speed beside the standard of about five syllables a second."""
    gain: float
    """Distance and microphone, dB."""
    expressiveness: float
    """How strongly this speaker acts an emotion; about 1."""


@dataclass(frozen=True)
class Delivery:
    """How one utterance is spoken, beside the same voice speaking neutrally."""

    pitch: float = 0.0
    """Semitones above the habitual F0."""
    span: float = 2.0
    """Standard deviation of the pitch accents, semitones."""
    rise: float = -3.0
    """Pitch movement over the last part of a phrase, semitones."""
    tempo: float = 1.0
    """Multiplies the voice's rate."""
    loudness: float = 0.0
    """dB."""
    tilt: float = 0.0
    """dB an octave; a pressed voice is above 0, a soft one below."""
    breath: float = 0.05
    """Aspiration noise beside the voicing."""
    tremor: float = 0.1
    """Depth of a 6 Hz pitch tremor and of random jitter, semitones."""
    smile: float = 1.0
    """Formants are multiplied by it: spread lips shorten the tract."""
    pauses: float = 1.0
    """Multiplies the number and length of pauses."""
    noise: float = -30.0
    """Background noise beside the nominal (neutral) speech level, dB."""


def draw_voice(gender: str, rng: np.random.Generator) -> Voice:
    """A speaker of gender "F" or "M"; the genders overlap a little, as people do."""
    z = rng.standard_normal(6)
    f0, tract = (205.0, 1.16) if gender == "F" else (122.0, 1.0)
    return Voice(
        f0=f0 * float(np.exp(0.13 * z[0])),
        tract=tract * float(np.exp(0.035 * z[1])),
        tilt=1.2 * float(z[2]),
        rate=float(np.exp(0.10 * z[3])),
        gain=2.5 * float(z[4]),
        expressiveness=float(np.exp(0.25 * z[5])),
    )


def speak(voice: Voice, delivery: Delivery, seconds: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Say random syllables for ``seconds``: (samples,) at 16 kHz, peaks below 1."""
    samples = max(WINDOW, round(seconds * SAMPLE_RATE))
    frames = samples // HOP + 2
    track = _syllables(frames, voice, delivery, rng)
    f0 = voice.f0 * 2 ** ((delivery.pitch + _melody(track, delivery, rng)) / 12)
    length = (frames + 1) * HOP
    spectrum = _windows(_glottis(f0, delivery.breath, length, rng)) * track.voicing[:, None]
    formants = np.column_stack([track.formants, np.full(frames, F4)])
    spectrum *= _tract(formants * voice.tract * delivery.smile)
    spectrum *= _slope(voice.tilt + delivery.tilt)
    spectrum += _windows(rng.standard_normal(length)) * _hiss(track)
    speech = _overlap_add(spectrum)[HOP : HOP + samples]
    level = np.sqrt(np.mean(speech**2)) + 1e-9
    nominal = 10 ** ((-27.0 + voice.gain) / 20)  # RMS of neutral speech beside full scale
    room = rng.standard_normal(samples)
    room = room + 0.9 * np.concatenate([[0.0], room[:-1]])  # darker than white
    speech *= nominal * 10 ** (delivery.loudness / 20) / level
    speech += room * nominal * 10 ** (delivery.noise / 20)
    peak = float(np.abs(speech).max())
    return (speech * min(1.0, 0.97 / peak)).astype(np.float32)


@dataclass(frozen=True)
class _Track:
    """Control values, one a frame."""

    voicing: Array
    hiss: Array
    centre: Array
    formants: Array
    """(frames, 3) Hz, before the speaker's tract."""
    accents: Array
    """A random number a syllable, held through it."""
    phrase: Array
    """Position in the phrase, 0 to 1."""


def _syllables(frames: int, voice: Voice, delivery: Delivery, rng: np.random.Generator) -> _Track:
    """Lay out consonant-vowel syllables and pauses until the frames are full."""
    rows = np.zeros((frames, 7))  # voicing, hiss, centre, F1, F2, F3, accent
    rows[:, 2:6] = [2500, 500, 1500, 2500]
    phrase = np.zeros(frames)
    speed = voice.rate * delivery.tempo
    at = start = 0
    left = _phrase_length(delivery, rng)
    while at < frames:
        u = rng.random(5)
        accent = float(rng.standard_normal())
        consonant = CONSONANTS[int(u[0] * len(CONSONANTS))]
        vowel = VOWELS[int(u[1] * len(VOWELS))]
        left -= 1
        stretch = (1.6 if left == 0 else 1.0) / speed  # syllables lengthen before a pause
        end = at + max(2, round(consonant[0] * (0.7 + 0.6 * u[2]) / speed * FRAME_RATE))
        rows[at:end] = [*consonant[1:], accent]
        at, end = end, end + max(4, round((0.07 + 0.09 * u[3]) * stretch * FRAME_RATE))
        rows[at:end] = [1.0, 0.0, 2500, *vowel, accent]
        at = end
        if left == 0 or at >= frames:
            last = min(at, frames)
            phrase[start:last] = np.linspace(0, 1, last - start)
            at += round(delivery.pauses * (0.12 + 0.3 * u[4]) * FRAME_RATE)
            start, left = at, _phrase_length(delivery, rng)
    smooth = np.column_stack([_smooth(column, 5) for column in rows.T])
    return _Track(
        smooth[:, 0],
        smooth[:, 1],
        smooth[:, 2],
        smooth[:, 3:6],
        _smooth(rows[:, 6], 11),
        phrase,
    )


def _phrase_length(delivery: Delivery, rng: np.random.Generator) -> int:
    return max(2, round((6 + 10 * float(rng.random())) / delivery.pauses))


def _melody(track: _Track, delivery: Delivery, rng: np.random.Generator) -> Array:
    """(frames,) semitones: declination, accents, the phrase's end, tremor and jitter."""
    ending = np.clip((track.phrase - 0.65) / 0.35, 0, 1) ** 2
    phase, turns = float(rng.random()), np.arange(len(track.phrase)) / FRAME_RATE * 6.0
    jitter = _smooth(rng.standard_normal(len(turns)), 3)
    return (
        1.2
        - 2.4 * track.phrase
        + delivery.span * track.accents
        + delivery.rise * ending
        + delivery.tremor * (np.sin(2 * np.pi * (turns + phase)) + jitter)
    )


def _glottis(f0: Array, breath: float, length: int, rng: np.random.Generator) -> Array:
    """Derivative of the glottal flow, (length,): Rosenberg's pulse (JASA 49, 1971, shape C).

    The flow rises over the first 40 % of a period and falls over the next 20 %; the sharp closing
    is what excites the formants. Noise is added in proportion to ``breath``.
    """
    hertz = np.interp(np.arange(length) / HOP, np.arange(len(f0)) + 0.5, f0)
    phase = np.cumsum(np.clip(hertz, 50, 700) / SAMPLE_RATE) % 1.0
    opening, closing = 0.4, 0.2
    flow = np.where(
        phase < opening,
        0.5 / opening * np.sin(np.pi * phase / opening),
        -0.5 / closing * np.sin(0.5 * np.pi * (phase - opening) / closing),
    )
    flow[phase >= opening + closing] = 0.0
    return flow + breath * rng.standard_normal(length)


def _windows(signal: Array) -> NDArray[np.complex128]:
    """(length,) -> (frames, bins): spectra of Hann windows one hop apart."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(WINDOW) + 0.5) / WINDOW)
    return np.fft.rfft(frames * hann, FFT)


def _overlap_add(spectrum: NDArray[np.complex128]) -> Array:
    """(frames, bins) -> (length,): the inverse of ``_windows`` where nothing was filtered."""
    parts = np.fft.irfft(spectrum, FFT).reshape(len(spectrum), FFT // HOP, HOP)
    out = np.zeros((len(spectrum) + FFT // HOP - 1, HOP))
    for step in range(FFT // HOP):
        out[step : step + len(spectrum)] += parts[:, step]
    return out.reshape(-1)


def _tract(formants: Array) -> NDArray[np.complex128]:
    """(frames, 4) Hz -> (frames, bins): two-pole resonators in cascade, gain 1 at 0 Hz."""
    z = np.exp(-2j * np.pi * np.arange(FFT // 2 + 1) / FFT)
    response = np.ones((len(formants), len(z)), complex)
    for column, bandwidth in zip(formants.T, BANDWIDTHS, strict=True):
        radius = np.exp(-np.pi * bandwidth / SAMPLE_RATE)
        twice = 2 * radius * np.cos(2 * np.pi * column / SAMPLE_RATE)[:, None]
        response *= (1 - twice + radius**2) / (1 - twice * z + radius**2 * z**2)
    return response


def _slope(tilt: float) -> Array:
    """(bins,) gain of ``tilt`` dB an octave around 500 Hz."""
    hertz = np.maximum(np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT, 125.0)
    return np.asarray((hertz / 500.0) ** (tilt / 6.0206))


def _hiss(track: _Track) -> Array:
    """(frames, bins) gain of the frication noise: a bell around its centre, 1.2 kHz wide."""
    hertz = np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT
    bell = np.exp(-0.5 * ((hertz - track.centre[:, None]) / 1200.0) ** 2)
    return np.asarray(bell * track.hiss[:, None])


def _smooth(values: Array, width: int) -> Array:
    """Moving average over ``width`` frames (odd), the ends repeated."""
    padded = np.pad(values, width // 2, mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")
