"""What tasks over text share: reading texts from shards, the tokenizer, and the tokens of each row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from configs.models import BertConfig, MlmConfig
from data_shards.index import ShardIndex
from data_shards.reader import ShardReader
from data_shards.sample import TextPair
from trainers.files.array_file import open_array, save_array
from trainers.models.tokenizer import load_tokenizer, train_wordpiece
from trainers.ranks.beside import main_first_beside
from trainers.ranks.world import World

_ROWS_AT_ONCE = 1000
Text = Literal["processed", "original"]
Pairs = Sequence[tuple[str, str]]


def texts_of(pair: TextPair | None, text: Text) -> tuple[str, str]:
    """Both texts in the form that the recipe reads."""
    assert pair is not None
    if text == "processed":
        return pair.premise_processed, pair.hypothesis_processed
    return pair.premise, pair.hypothesis


class GivenUp(Exception):
    """Texts were read no further because ``stop`` was set."""


def read_texts(
    index: ShardIndex,
    rows: Sequence[int] | NDArray[np.int64],
    text: Text,
    stop: Event | None = None,
) -> Iterator[tuple[str, str]]:
    """The texts of some rows, one after the other. Raises GivenUp soon after ``stop`` is set."""
    shards = ShardReader(index.root)
    for row in rows:
        if stop is not None and stop.is_set():
            raise GivenUp
        yield texts_of(shards.item(int(row)).text, text)


def open_tokenizer(
    model: BertConfig | MlmConfig, index: ShardIndex, train: NDArray[np.int64], folder: Path, world: World
) -> Any:
    """The pre-trained model's tokenizer; for a fresh model one trained on the ``train`` rows, kept as
    ``folder``/tokenizer. A collective call."""
    return main_first_beside(
        world,
        lambda stop: _open_tokenizer(model, index, train, folder, stop),
        "the tokenizer was still being trained",
    )


def _open_tokenizer(
    model: BertConfig | MlmConfig, index: ShardIndex, train: NDArray[np.int64], folder: Path, stop: Event
) -> Any:
    if model.pretrained:
        return load_tokenizer(model.pretrained, model.revision)
    if not (folder / "tokenizer" / "tokenizer.json").is_file():
        texts = read_texts(index, train, model.text, stop)
        train_wordpiece((t for pair in texts for t in pair), model.vocabulary, folder / "tokenizer")
    return load_tokenizer(str(folder / "tokenizer"))


def tokenizer_state(tokenizer: Any) -> str:
    """All that a tokenizer's tokens depend on besides the options of a call, as text.

    A call leaves its cutting and padding in the tokenizer: they would tell a tokenizer that has been
    used from the same one that has not.
    """
    document = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {name: part for name, part in document.items() if name not in ("truncation", "padding")}
    return json.dumps(kept, ensure_ascii=False, sort_keys=True)


def count_tokens(
    index: ShardIndex,
    text: Text,
    tokenizer: Any,
    folder: Path,
    about: str,
    count: Callable[[Pairs], Sequence[int]],
    world: World,
) -> NDArray[np.int32]:
    """``kept_counts``, as a collective call of which rank 0 may count for hours."""
    return main_first_beside(
        world,
        lambda stop: kept_counts(index, text, tokenizer, folder, about, count, stop),
        "tokens were still being counted",
    )


def kept_counts(
    index: ShardIndex,
    text: Text,
    tokenizer: Any,
    folder: Path,
    about: str,
    count: Callable[[Pairs], Sequence[int]],
    stop: Event,
) -> NDArray[np.int32]:
    """(samples,) tokens of every row as ``count`` counts them, kept beside the shards (or in
    ``folder``, where those are read-only) under what they depend on: ``about`` says what ``count``
    depends on besides text and tokenizer. Raises GivenUp soon after ``stop`` is set."""
    state = f"{index.manifest.digest} {text} {about} {tokenizer_state(tokenizer)}"
    name = f"tokens-{hashlib.sha256(state.encode()).hexdigest()[:16]}.npy"
    places = [index.root / "cache" / name, folder / name]
    for place in places:
        found = open_array(place, (len(index),), np.int32)
        if found is not None:
            return found
    lengths = np.empty(len(index), np.int32)
    texts = read_texts(index, range(len(index)), text, stop)
    for start in range(0, len(index), _ROWS_AT_ONCE):
        pairs = list(islice(texts, _ROWS_AT_ONCE))
        lengths[start : start + len(pairs)] = count(pairs)
    for place in places:
        if save_array(place, lengths):
            break
    return lengths
