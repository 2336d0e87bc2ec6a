"""What tasks over text share: reading texts from shards, the tokenizer, and the tokens of each row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from configs.models import BertConfig, MlmConfig
from data_shards.index import ShardIndex
from data_shards.reader import ShardReader
from data_shards.sample import TextPair
from trainers.files.array_file import open_array, save_array
from trainers.models.tokenizer import load_tokenizer, train_wordpiece

_ROWS_AT_ONCE = 1000
Text = Literal["processed", "original"]
Pairs = Sequence[tuple[str, str]]


def texts_of(pair: TextPair | None, text: Text) -> tuple[str, str]:
    """Both texts in the form that the recipe reads."""
    assert pair is not None
    if text == "processed":
        return pair.premise_processed, pair.hypothesis_processed
    return pair.premise, pair.hypothesis


def read_texts(
    index: ShardIndex, rows: Sequence[int] | NDArray[np.int64], text: Text
) -> Iterator[tuple[str, str]]:
    """The texts of some rows, one after the other."""
    shards = ShardReader(index.root)
    for row in rows:
        yield texts_of(shards.item(int(row)).text, text)


def open_tokenizer(
    model: BertConfig | MlmConfig, index: ShardIndex, train: NDArray[np.int64], folder: Path
) -> Any:
    """The pre-trained model's tokenizer; for a fresh model one trained on the ``train`` rows, kept as
    ``folder``/tokenizer."""
    if model.pretrained:
        return load_tokenizer(model.pretrained, model.revision)
    if not (folder / "tokenizer" / "tokenizer.json").is_file():
        texts = read_texts(index, train, model.text)
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
    index: ShardIndex, text: Text, tokenizer: Any, folder: Path, about: str,
    count: Callable[[Pairs], Sequence[int]],
) -> NDArray[np.int32]:  # fmt: skip
    """(samples,) tokens of every row as ``count`` counts them, kept beside the shards (or in
    ``folder``, where those are read-only) under what they depend on: ``about`` says what ``count``
    depends on besides text and tokenizer."""
    state = f"{index.manifest.digest} {text} {about} {tokenizer_state(tokenizer)}"
    name = f"tokens-{hashlib.sha256(state.encode()).hexdigest()[:16]}.npy"
    places = [index.root / "cache" / name, folder / name]
    for place in places:
        found = open_array(place, (len(index),), np.int32)
        if found is not None:
            return found
    counts: list[int] = []
    pairs: list[tuple[str, str]] = []
    for pair in read_texts(index, range(len(index)), text):
        pairs.append(pair)
        if len(pairs) == _ROWS_AT_ONCE:
            counts += count(pairs)
            pairs = []
    if pairs:
        counts += count(pairs)
    lengths = np.array(counts, np.int32)
    for place in places:
        if save_array(place, lengths):
            break
    return lengths
