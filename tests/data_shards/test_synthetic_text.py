"""The generated pairs: right by their meaning, balanced without a shortcut, solvable after hazm."""

from __future__ import annotations

import pickle
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from configs.errors import InputError
from data_shards.corpora.synthetic_lexicon import (
    CITIES,
    COMPARISONS,
    FAMILIES,
    FIRST_NAMES,
    GROUPS,
    OPENERS,
    PEOPLE,
    SCENES,
)
from data_shards.corpora.synthetic_text import PairItem, synthetic_farstail
from data_shards.text import TextSteps, process

PLAIN = TextSteps(normalise=False, remove_stopwords=False, lemmatise=False)
PAIRS: list[PairItem] = list(synthetic_farstail(2400, seed=7).items)


def bare(sentence: str) -> str:
    """Without the opening phrase and the full stop."""
    for opener in OPENERS:
        sentence = sentence.removeprefix(f"{opener} ")
    return sentence.removesuffix(".")


def test_each_premise_and_each_hypothesis_has_every_label_equally() -> None:
    whole = PAIRS[:-18]  # the last block may be cut
    cut = {pair.hypothesis for pair in PAIRS[-18:]}
    of_premise: dict[str, Counter[str]] = defaultdict(Counter)
    of_hypothesis: dict[str, Counter[str]] = defaultdict(Counter)
    for pair in PAIRS:
        of_premise[pair.premise][pair.label] += 1
    for pair in whole:
        if pair.hypothesis not in cut:
            of_hypothesis[pair.hypothesis][pair.label] += 1
    assert all(labels == {"e": 1, "c": 1, "n": 1} for labels in of_premise.values())
    assert len(of_hypothesis) > 300
    for text, labels in of_hypothesis.items():
        assert labels["e"] == labels["c"] == labels["n"], text


def test_splits_have_their_share_and_no_common_premise() -> None:
    premises = defaultdict(set)
    for pair in PAIRS:
        premises[pair.split].add(bare(pair.premise))
    for a, b in combinations(premises, 2):
        assert not premises[a] & premises[b]
    for split, share in {"train": 0.7, "validation": 0.15, "test": 0.15}.items():
        assert sum(p.split == split for p in PAIRS) / 2400 == pytest.approx(share, abs=0.02)
        assert {p.family for p in PAIRS if p.split == split} == set(FAMILIES)


def meanings() -> dict[str, tuple[str, int, int]]:
    """Every statement of the scenes -> (subject, contrast, side); no statement means two things."""
    table: dict[str, tuple[str, int, int]] = {}
    contrasts = [(scene, contrast) for scene in SCENES for contrast in scene.contrasts]
    for number, (scene, contrast) in enumerate(contrasts):
        for side_number, side in enumerate(contrast):
            for subject in scene.subjects[:12]:
                for text in side.premises + side.hypotheses:
                    for word in side.words:
                        meaning = (subject, number, side_number)
                        said = text.format(x=subject, w=word)
                        assert table.setdefault(said, meaning) == meaning, said
    return table


def test_labels_follow_from_what_the_texts_say() -> None:
    table = meanings()
    for pair in PAIRS:
        if pair.family in ("order", "entity"):
            continue
        who, contrast, side = table[bare(pair.premise)]
        whom, asked, claim = table[bare(pair.hypothesis)]
        assert who == whom
        expected = "n" if contrast != asked else "e" if side == claim else "c"
        assert pair.label == expected, pair


def test_entity_labels_follow_from_who_is_said_to_do_what() -> None:
    table = meanings()
    pairs = [pair for pair in PAIRS if pair.family == "entity"]
    assert pairs
    for pair in pairs:
        clauses = bare(pair.premise).replace("، اما ", " و ").split(" و ")
        known = {}
        for start in range(len(clauses)):  # a clause may itself hold a "و"
            for end in range(start + 1, len(clauses) + 1):
                said = table.get(" و ".join(clauses[start:end]))
                if said:
                    known[said[0]] = said[1:]
        assert len(known) == 2, pair
        whom, *asked = table[bare(pair.hypothesis)]
        expected = "n" if whom not in known else "e" if [*known[whom]] == asked else "c"
        assert pair.label == expected, pair


def test_order_labels_follow_from_the_order() -> None:
    says = {}
    for kind, comparison in enumerate(COMPARISONS):
        for a in FIRST_NAMES[:12]:
            for b in FIRST_NAMES[:12]:
                for word in comparison.words:
                    for text in (comparison.more, comparison.less):
                        says[text.format(a=a, b=b, w=word)] = (kind, word, a, b)
    pairs = [pair for pair in PAIRS if pair.family == "order"]
    assert pairs
    for pair in pairs:
        *about, a, b = says[bare(pair.premise)]
        *asked, c, d = says[bare(pair.hypothesis)]
        assert about == asked
        assert pair.label == {(a, b): "e", (b, a): "c"}.get((c, d), "n"), pair


def accuracy(words: Callable[[PairItem], list[str]]) -> float:
    """Of a logistic regression over sets of words, trained on train, on the other two splits."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = CountVectorizer(analyzer=words, binary=True)
    train = [pair for pair in PAIRS if pair.split == "train"]
    held_out = [pair for pair in PAIRS if pair.split != "train"]
    model = LogisticRegression(max_iter=200, C=0.3)
    model.fit(vectorizer.fit_transform(train), [pair.label for pair in train])
    guesses = model.predict(vectorizer.transform(held_out))
    return float(np.mean(guesses == np.array([pair.label for pair in held_out])))


def test_neither_text_alone_gives_the_label_away() -> None:
    assert accuracy(lambda pair: pair.hypothesis.split()) <= 0.40
    assert accuracy(lambda pair: pair.premise.split()) <= 0.40


def test_both_together_do() -> None:
    def crossed(pair: PairItem) -> list[str]:
        return [f"{a}|{b}" for a in pair.premise.split() for b in pair.hypothesis.split()]

    assert 0.65 < accuracy(crossed) < 0.99


def test_what_decides_survives_all_text_steps() -> None:
    steps = TextSteps()
    for scene in SCENES:
        for contrast in scene.contrasts:
            for texts in ("premises", "hypotheses"):
                of_side = [
                    {
                        process(text.format(x=scene.subjects[0], w=word), steps)
                        for text in getattr(side, texts)
                        for word in side.words
                    }
                    for side in contrast
                ]
                for a, b in combinations(of_side, 2):
                    assert not a & b, f"{scene.family}: {a & b} means two things"
    for comparison in COMPARISONS:
        said = {
            process(text.format(a=a, b=b, w=comparison.words[0]), steps)
            for text in (comparison.more, comparison.less)
            for a, b in (("سارا", "کیان"), ("کیان", "سارا"))
        }
        assert len(said) == 4, said
    names = [process(name, steps) for name in (*PEOPLE, *CITIES)]
    assert names == [*PEOPLE, *CITIES]
    assert len({process(group, steps) for group in GROUPS}) == len(GROUPS)


def test_processed_pairs_have_one_label_each() -> None:
    corpus = synthetic_farstail(600, seed=1)
    labels = defaultdict(set)
    for item in corpus.items:
        sample = corpus.load(item)
        assert sample.text is not None
        labels[sample.text.premise_processed, sample.text.hypothesis_processed].add(sample.label)
    assert all(len(found) == 1 for found in labels.values())


def test_samples_say_what_they_are() -> None:
    corpus = synthetic_farstail(120, steps=PLAIN)
    assert corpus.synthetic and corpus.kind == "text" and len(corpus.items) == 120
    load = pickle.loads(pickle.dumps(corpus.load))  # packing sends it to worker processes
    sample = load(corpus.items[7])
    assert sample.key == corpus.key(corpus.items[7]) == "synthetic-000007"
    assert sample.text.premise == sample.text.premise_processed == corpus.items[7].premise
    assert sample.groups == {
        "source_split": corpus.items[7].split,
        "family": corpus.items[7].family,
    }
    assert sample.meta["synthetic"] is True


def test_the_seed_decides() -> None:
    assert list(synthetic_farstail(300, seed=7).items) == list(synthetic_farstail(300, 7).items)
    assert list(synthetic_farstail(300, seed=7).items) != list(synthetic_farstail(300, 8).items)


def test_the_persian_is_written_as_persian() -> None:
    text = " ".join(f"{pair.premise} {pair.hypothesis}" for pair in PAIRS)
    assert "\u200c" in text and set("۰۱۲۳۴۵۶۷۸۹") <= set(text)
    assert not set("يك٠١٢٣٤٥٦٧٨٩0123456789{}") & set(text), "Arabic letters or other digits"
    assert "  " not in text and 300 < len(set(text.split())) < 700
    for pair in PAIRS:
        assert len(pair.premise.split()) <= 20 and 3 <= len(pair.hypothesis.split()) <= 10


@pytest.mark.parametrize("samples", [120, 1001, 2401, 9000, 50_000])
def test_any_size_is_met_exactly(samples: int) -> None:
    items = synthetic_farstail(samples, seed=2).items
    assert len(items) == samples
    assert len({item.premise for item in items}) >= samples / 3
    counts = Counter(item.label for item in items)
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize(
    ("samples", "seed", "named"), [(119, 0, "samples"), (200, -1, "seed"), (200_000, 0, "samples")]
)
def test_bad_settings_are_named(samples: int, seed: int, named: str) -> None:
    with pytest.raises(InputError, match=f"^synthetic-farstail: {named} is [^\n]*$"):
        synthetic_farstail(samples, seed)
