"""The trained tokenizer: the same every time, right for Persian, loadable."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from configs.errors import InputError
from tests.trainers.tiny_models import minilm_folder
from trainers.models.tokenizer import SPECIAL, load_tokenizer, train_wordpiece

WORDS = "کتاب کتاب‌ها می‌رود می‌روند رفتن خانه خانه‌های بزرگ کوچک دانشگاه تهران علی مدرسه آبِ".split()
TEXTS = [f"{a} {b} {c}." for a in WORDS for b in WORDS[::2] for c in WORDS[::3]]

RETRAIN = """
import hashlib, pathlib, sys
from tests.trainers.models.test_tokenizer import TEXTS
from trainers.models.tokenizer import train_wordpiece
train_wordpiece(reversed(TEXTS), 120, pathlib.Path(sys.argv[1]))
"""


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tokenizer") / "out"
    train_wordpiece(TEXTS, 120, out)
    return out


def test_training_is_a_function_of_the_texts(folder: Path, tmp_path: Path) -> None:
    """Hash tables are ordered differently in every process, so one retrains in another."""
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", RETRAIN, tmp_path / "again"], cwd=root, check=True)
    assert digest(folder) == digest(tmp_path / "again")
    train_wordpiece(TEXTS[:-1] + ["دیگر"], 120, tmp_path / "other")
    assert digest(folder) != digest(tmp_path / "other")


def test_vocabulary(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    vocabulary = tokenizer.get_vocab()
    assert [vocabulary[token] for token in SPECIAL] == [0, 1, 2, 3, 4]
    assert 60 < len(tokenizer) <= 120
    assert sorted(vocabulary.values()) == list(range(len(tokenizer)))


def test_pairs_have_two_token_types(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    encoded = tokenizer("علی رفتن", "خانه")
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    assert tokens[0] == "[CLS]" and tokens[-1] == "[SEP]" and tokens.count("[SEP]") == 2
    border = tokens.index("[SEP]") + 1
    assert encoded["token_type_ids"] == [0] * border + [1] * (len(tokens) - border)
    padded = tokenizer(["علی", "علی رفتن خانه"], padding=True)
    assert padded["input_ids"][0][-1] == tokenizer.pad_token_id == 0


def test_persian_is_left_as_it_is(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    pieces = tokenizer.tokenize("می‌رود آبِ")
    assert "".join(piece.removeprefix("##") for piece in pieces) == "می‌رودآبِ"
    assert pieces[0] == "می‌" and not pieces[1].startswith("##"), "the half-space ends a piece"
    assert tokenizer.tokenize("\u202bعلی\u200f") == tokenizer.tokenize("علی"), "direction marks"
    assert tokenizer.tokenize("漢") == ["[UNK]"]


def test_loads_beside_a_bert_config(folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    again = load_tokenizer(tmp_path)
    text = "می‌روند خانه‌های بزرگ"
    assert again(text, text) == tokenizer(text, text)


def test_too_small_a_vocabulary_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model.vocabulary: 20 is too small .* at least \d+"):
        train_wordpiece(TEXTS, 20, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_without_a_tokenizer_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no config.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="holds no tokenizer that loads"):
        load_tokenizer(tmp_path)


def test_published_tokenizer_loads() -> None:
    tokenizer = load_tokenizer(minilm_folder())
    assert tokenizer.convert_ids_to_tokens(tokenizer("hello world")["input_ids"]) == [
        "[CLS]",
        "hello",
        "world",
        "[SEP]",
    ]
