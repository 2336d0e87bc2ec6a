"""Persian text processing with hazm: normalisation, stop-word removal, lemmatisation.

hazm is imported on first use (about 4 s with its word lists) and its parts are made once per
process. Two things to know when comparing the processed with the original text, both hazm's own:
its stop words include negations (نیست, نه, بدون), and the lemma of a negated verb is that of the
affirmative one (نرفت -> رفت#رو). For inference that loses information; each step can be turned off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any

from data_shards.sample import TextPair


@dataclass(frozen=True)
class TextSteps:
    """Which steps run, in this order."""

    normalise: bool = True
    """Characters, digits, spacing and half-spaces in hazm's standard form."""
    remove_stopwords: bool = True
    """Leave out the words of hazm's stop-word list, as they stand in the text."""
    lemmatise: bool = True
    """Replace words by hazm's lemmas. A verb becomes past#present stem (رفت -> رفت#رو), unchanged
    from hazm, as in published FarsTail work; a BERT tokenizer reads that as three tokens."""


def process(text: str, steps: TextSteps) -> str:
    """The processed text; words are separated by single spaces unless only ``normalise`` is on.

    A text of nothing but stop words keeps them, so that no text becomes empty.
    """
    if steps.normalise:
        text = _normalise()(text)
    if not (steps.remove_stopwords or steps.lemmatise):
        return text
    words = _tokenise()(text)
    if steps.remove_stopwords:
        stopwords = _stopwords()
        words = [word for word in words if word not in stopwords] or words
    if steps.lemmatise:
        words = [_lemma(word) for word in words]
    # hazm's tokenizer joins the parts of a compound verb (آمده_است) and its lemmatizer resolves
    # them; parts that are still joined go back to how they are written.
    return " ".join(word.replace("_", " ") for word in words).strip()


def describe(steps: TextSteps) -> dict[str, Any]:
    """The steps for a corpus's settings, with hazm's version: of FarsTail's lemmas, 1 % differ
    between hazm 0.10 (Python 3.11) and 0.12."""
    return {**asdict(steps), "hazm": version("hazm") if any(vars(steps).values()) else None}


def described_in(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the settings of packed shards say of the steps, as ``describe`` has it; None: nothing, as
    those of audio. Generated pairs name them otherwise, and without hazm's version."""
    return settings.get("text") or settings.get("steps")


def steps_of(described: Mapping[str, Any]) -> TextSteps:
    """The inverse of ``describe``. Raises KeyError where a step is not named."""
    return TextSteps(**{step.name: bool(described[step.name]) for step in fields(TextSteps)})


def make_pair(premise: str, hypothesis: str, steps: TextSteps) -> TextPair:
    """A pair with both the original and the processed texts."""
    return TextPair(premise, hypothesis, process(premise, steps), process(hypothesis, steps))


@cache
def _normalise() -> Callable[[str], str]:
    from hazm import Normalizer

    normalize: Callable[[str], str] = Normalizer().normalize
    return normalize


@cache
def _tokenise() -> Callable[[str], list[str]]:
    # hazm.word_tokenize would build a tokenizer at every call.
    from hazm import WordTokenizer

    tokenize: Callable[[str], list[str]] = WordTokenizer().tokenize
    return tokenize


@cache
def _stopwords() -> frozenset[str]:
    from hazm import stopwords_list

    return frozenset(stopwords_list())


@cache
def _lemmatise() -> Callable[[str], str]:
    from hazm import Lemmatizer

    lemmatize: Callable[[str], str] = Lemmatizer().lemmatize
    return lemmatize


@lru_cache(maxsize=200_000)
def _lemma(word: str) -> str:
    """Words repeat, so most lemmas come from here; the bound is about 40 MB."""
    return _lemmatise()(word)
