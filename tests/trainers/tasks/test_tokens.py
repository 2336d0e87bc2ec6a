"""Token counts kept beside the shards, and what they are kept under."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from data_shards.index import ShardIndex, open_index
from trainers.models.tokenizer import train_wordpiece
from trainers.tasks.tokens import GivenUp, kept_counts, read_texts, tokenizer_state


@pytest.fixture
def index(text_shards: Path, tmp_path: Path) -> ShardIndex:
    """Of a copy without counts."""
    shutil.copytree(text_shards, tmp_path / "shards", ignore=shutil.ignore_patterns("cache"))
    return open_index(tmp_path / "shards")


@pytest.fixture
def tokenizer(index: ShardIndex, tmp_path: Path) -> Any:
    """Trained on all texts."""
    texts = (text for pair in read_texts(index, range(len(index)), "original") for text in pair)
    return train_wordpiece(texts, 300, tmp_path / "tokenizer")


def test_what_calls_leave_in_a_tokenizer_is_no_part_of_it(tokenizer: Any, tmp_path: Path) -> None:
    before = tokenizer_state(tokenizer)
    tokenizer("متن", truncation=True, max_length=7, padding="max_length")
    assert tokenizer.backend_tokenizer.truncation and tokenizer.backend_tokenizer.padding
    assert tokenizer_state(tokenizer) == before
    other = train_wordpiece(["یک متن دیگر"], 60, tmp_path / "other")
    assert tokenizer_state(other) != before


def test_counts_are_made_once_and_again_when_damaged(
    index: ShardIndex, tokenizer: Any, tmp_path: Path
) -> None:
    asked = []

    def words(pairs: Sequence[tuple[str, str]]) -> list[int]:
        asked.append(len(pairs))
        return [len(f"{premise} {hypothesis}".split()) for premise, hypothesis in pairs]

    def counted() -> list[int]:
        about = ("original", tokenizer, tmp_path, "words")
        return kept_counts(index, *about, words, Event()).tolist()

    first = counted()
    assert len(first) == len(index) == sum(asked)
    assert counted() == first and sum(asked) == len(index)
    (file,) = (index.root / "cache").glob("tokens-*")
    whole = file.read_bytes()
    for times, content in enumerate((whole[:-4], b"", b"text"), start=2):
        file.write_bytes(content)
        assert counted() == first and sum(asked) == times * len(index)
        assert file.read_bytes() == whole
    np.save(file, np.zeros(3, np.int32))  # of other rows
    assert counted() == first


def test_counting_is_given_up_when_asked(index: ShardIndex, tokenizer: Any, tmp_path: Path) -> None:
    stop = Event()
    stop.set()
    with pytest.raises(GivenUp):
        kept_counts(index, "original", tokenizer, tmp_path, "words", lambda pairs: [1], stop)
    assert not (index.root / "cache").exists()
