"""Each step does what it says, alone and with the others, on real Persian sentences."""

from __future__ import annotations

import pytest

from data_shards.sample import TextPair
from data_shards.text import TextSteps, make_pair, process

SENTENCE = "كتاب هاي تاريخي را از كتابخانه گرفته است."
NONE = TextSteps(False, False, False)


def test_nothing_on_changes_nothing() -> None:
    text = "  كتاب_ها  و\tچيز  "
    assert process(text, NONE) == text


def test_normalise_fixes_letters_and_half_spaces() -> None:
    got = process(SENTENCE, TextSteps(True, False, False))
    assert got == "کتاب‌های تاریخی را از کتابخانه گرفته است."


def test_remove_stopwords() -> None:
    got = process(SENTENCE, TextSteps(True, True, False))
    assert got == "کتاب‌های تاریخی کتابخانه ."


def test_lemmatise_keeps_hazms_verb_form() -> None:
    got = process(SENTENCE, TextSteps(True, False, True))
    assert got == "کتاب تاریخی را از کتابخانه گرفت#گیر ."


def test_all_steps() -> None:
    assert process("توانست به روند این انتقال سرعت بخشد.", TextSteps()) == (
        "توانست#توان انتقال سرعت بخشید#بخش ."
    )


def test_joined_verbs_come_apart_again_without_lemmas() -> None:
    """hazm's tokenizer writes a compound verb as one token with underscores."""
    text = "او کتاب را خوانده است"
    assert process(text, TextSteps(False, True, False)) == "کتاب خوانده است"
    assert process(text, TextSteps(False, False, True)) == "او کتاب را خواند#خوان"


@pytest.mark.parametrize("text", ["است", "این و آن", "نه"])
def test_only_stop_words_stay(text: str) -> None:
    assert process(text, TextSteps(True, True, False)) == text


def test_make_pair_keeps_the_original() -> None:
    pair = make_pair(SENTENCE, "كتاب", TextSteps(True, False, False))
    assert pair == TextPair(SENTENCE, "كتاب", "کتاب‌های تاریخی را از کتابخانه گرفته است.", "کتاب")
