"""Baselines of inference: what the hypothesis alone gives away, and what word overlap does.

Annotated hypotheses give their label away to a model that never sees the premise (Poliak et al. 2018,
Gururangan et al. 2018), and word overlap suggests entailment (McCoy et al. 2019): a model that reads
both has to beat models that cannot.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.baselines.baseline import Baseline, LeftOut, Parts
from trainers.baselines.linear import fit_logistic, standardised

Pair = tuple[str, str]
"""Premise and hypothesis."""
Analyser = Callable[[Pair], list[str]]
"""What a bag holds of a pair."""

_WORD = re.compile(r"[^\W_]+(?:\u200c[^\W_]+)*")
"""Letters and digits; the zero-width non-joiner is part of Persian words."""
_NEGATIONS = frozenset(
    "نه نیست نیستند نیستم نبود نبودند نبوده ندارد ندارند نداشت نداشتند نداشته نشد نشدند نشده "
    "نشود نکرد نکردند نکرده نکند نکنند نخواهد نخواهند نباید نتوانست نتواند هیچ هیچ‌کس هیچ‌یک هیچ‌گاه "
    "هرگز بدون عدم غیر فاقد مخالف".split()
)
_NEGATED_VERB = "نمی"
"""How the present and the imperfect negate."""
_STRENGTHS = (0.01, 0.1, 1.0, 10.0)
OVERLAP_FEATURES = (
    "Jaccard index of the words",
    "share of hypothesis words in the premise",
    "share of premise words in the hypothesis",
    "share of hypothesis bigrams in the premise",
    "share of hypothesis words whose first four letters begin a premise word",
    "hypothesis stands in the premise",
    "log words of the premise",
    "log words of the hypothesis",
    "log ratio of the lengths",
    "negation in the premise only",
    "negation in the hypothesis only",
    "negation in both",
    "share of hypothesis numbers missing from the premise",
)


def text_baselines(pairs: Mapping[str, Sequence[Pair]], parts: Parts) -> Iterator[Baseline | LeftOut]:
    """Word overlap, hypothesis only, and both texts as bags of words; a bag of texts that have no word
    in train is left out.

    ``pairs``: part -> premise and hypothesis of each item, as a model would read them.
    """
    overlap = {part: overlap_features(own) for part, own in pairs.items()}
    probabilities, strength = fit_logistic(standardised(overlap), parts, _STRENGTHS, "accuracy")
    what = f"logistic regression on {len(OVERLAP_FEATURES)} measures of overlap, length and negation"
    yield Baseline("overlap", "Word overlap", what, probabilities, {"c": strength})

    what = "logistic regression on words and bigrams (TF-IDF) of the hypothesis; sees no premise"
    analysers = {"hypothesis": _of_hypothesis}
    yield _bag_of_words("hypothesis", "Hypothesis only", what, analysers, pairs, parts)

    what = "logistic regression on words and bigrams (TF-IDF) of both texts, kept apart"
    analysers = {"premise": _of_premise, "hypothesis": _of_hypothesis}
    yield _bag_of_words("bag_of_words", "Bag of words", what, analysers, pairs, parts)


def _bag_of_words(
    name: str,
    title: str,
    what: str,
    analysers: Mapping[str, Analyser],
    pairs: Mapping[str, Sequence[Pair]],
    parts: Parts,
) -> Baseline | LeftOut:
    """Logistic regression on what is in the texts that ``analysers`` take of a pair."""
    # A text that is empty throughout gives no column; TF-IDF refuses it.
    present = {
        text: analyse for text, analyse in analysers.items() if any(analyse(pair) for pair in pairs["train"])
    }
    if not present:
        return LeftOut(title, f"no {' and no '.join(analysers)} of the train part has a word")
    bags = _bags(pairs, present)
    probabilities, strength = fit_logistic(bags, parts, _STRENGTHS, "accuracy")
    return Baseline(name, title, what, probabilities, {"c": strength})


def words_of(text: str) -> list[str]:
    """Words without punctuation, in lower case."""
    return _WORD.findall(text.lower())


def overlap_features(pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """(pairs, features) as in ``OVERLAP_FEATURES``."""
    rows = [_overlap(words_of(premise), words_of(hypothesis)) for premise, hypothesis in pairs]
    return np.array(rows, np.float64).reshape(len(pairs), len(OVERLAP_FEATURES))


def _overlap(premise: list[str], hypothesis: list[str]) -> list[float]:
    p, h = set(premise), set(hypothesis)
    p_bigrams = set(zip(premise, premise[1:], strict=False))
    h_bigrams = list(zip(hypothesis, hypothesis[1:], strict=False))
    stems = {word[:4] for word in p}
    numbers = [word for word in hypothesis if word.isdigit()]
    p_negated, h_negated = _negated(premise), _negated(hypothesis)
    return [
        len(p & h) / max(len(p | h), 1),
        _share([word in p for word in hypothesis]),
        _share([word in h for word in premise]),
        _share([bigram in p_bigrams for bigram in h_bigrams]),
        _share([word[:4] in stems for word in hypothesis]),
        float(f" {' '.join(hypothesis)} " in f" {' '.join(premise)} "),
        float(np.log1p(len(premise))),
        float(np.log1p(len(hypothesis))),
        float(np.log1p(len(hypothesis)) - np.log1p(len(premise))),
        float(p_negated and not h_negated),
        float(h_negated and not p_negated),
        float(p_negated and h_negated),
        _share([number not in p for number in numbers]),
    ]


def _share(answers: Sequence[bool]) -> float:
    return sum(answers) / max(len(answers), 1)


def _negated(words: Sequence[str]) -> bool:
    return any(word in _NEGATIONS or word.startswith(_NEGATED_VERB) for word in words)


def _bags(pairs: Mapping[str, Sequence[Pair]], analysers: Mapping[str, Analyser]) -> dict[str, Any]:
    """Part -> (items, words and bigrams) sparse TF-IDF, of the words that train has."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion

    vectorisers = FeatureUnion(
        [(name, TfidfVectorizer(analyzer=analyse, sublinear_tf=True)) for name, analyse in analysers.items()]
    )
    bags = {"train": vectorisers.fit_transform(pairs["train"])}
    return bags | {p: vectorisers.transform(own) for p, own in pairs.items() if p != "train"}


def _of_premise(pair: Pair) -> list[str]:
    return _words_and_bigrams(pair[0])


def _of_hypothesis(pair: Pair) -> list[str]:
    return _words_and_bigrams(pair[1])


def _words_and_bigrams(text: str) -> list[str]:
    words = words_of(text)
    return words + [f"{a} {b}" for a, b in zip(words, words[1:], strict=False)]
