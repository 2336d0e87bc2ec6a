"""The tokenizer of a fresh BERT, trained on the training part, and loading of published ones.

WordPiece; letter case and Persian's signs stay as they are. A half-space (ZWNJ) ends a piece and
stays with it: می‌رود is می‌ + رود, so that prefixes and endings are seen apart from words.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from configs.errors import InputError
from configs.files import new_folder, write_json
from trainers.models.source import read_config, resolve_model

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ZWNJ = "\u200c"
ALPHABET = 1000
"""Characters that get entries of their own, the most frequent ones; the rest become [UNK]."""


def train_wordpiece(texts: Iterable[str], size: int, out: Path) -> PreTrainedTokenizerFast:
    """Train a WordPiece tokenizer of at most ``size`` entries and save it as the folder ``out``.

    The same texts in any order give the same files. Raises InputError if ``size`` cannot hold the
    characters of the texts.
    """
    from tokenizers import Tokenizer, models, trainers

    counts, alphabet = _count_words(texts)
    pieces = [*alphabet, *(f"##{character}" for character in alphabet)]
    least = len(SPECIAL) + len(pieces)
    if size < least:
        raise InputError(f"model.vocabulary: {size} is too small for these texts; at least {least}")
    # The library numbers characters in the order of a hash table, which differs from run to run and
    # breaks ties between pieces. Given as special tokens they are numbered before anything else.
    # The tokenizer that learns this way is thrown away: only its vocabulary is used.
    learner = Tokenizer(models.WordPiece(unk_token=SPECIAL[1]))
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=[*SPECIAL, *pieces],
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    words = (word for word, count in sorted(counts.items()) for _ in range(count))
    learner.train_from_iterator(words, trainer)
    tokenizer = _assemble(learner.get_vocab())
    save_tokenizer(tokenizer, out)
    return tokenizer


def load_tokenizer(name: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a model folder or the hub. Raises InputError where there is none."""
    folder = Path(name)
    if not (folder / "tokenizer.json").is_file():
        folder = resolve_model(str(name), revision)
        read_config(folder, "bert")  # a model without a tokenizer is most often one of another kind
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"model.pretrained: {name} holds no tokenizer that loads") from error
    if tokenizer.pad_token_id is None:
        raise InputError(f"model.pretrained: the tokenizer of {name} has no padding token")
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Write a tokenizer as a folder; it appears whole or not at all, an older one is replaced."""
    with new_folder(out) as temporary:
        write_tokenizer(tokenizer, temporary)


def write_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, max_tokens: int | None = None) -> None:
    """Write a tokenizer's files into a folder, for transformers 4 and 5.

    ``max_tokens``: where texts are cut by those who only say that they are to be cut; None: where the
    tokenizer cuts them.
    """
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"  # its name in both
    if max_tokens is not None:
        settings["model_max_length"] = max_tokens
    for name in ("is_local", "local_files_only"):  # how this process had loaded it
        settings.pop(name, None)
    write_json(path, settings)


def _pipeline() -> tuple:  # type: ignore[type-arg]
    """Normaliser and splitter: canonical composition, white space, punctuation, half-spaces."""
    from tokenizers import Regex, normalizers, pre_tokenizers

    normaliser = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(f"[\\p{{Cc}}\\p{{Cf}}&&[^{ZWNJ}\\s]]"), "")]
    )
    splitter = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Split(ZWNJ, "merged_with_previous")]
    )
    return normaliser, splitter


def _count_words(texts: Iterable[str]) -> tuple[Counter[str], list[str]]:
    """Normalised words with their counts, and the characters that get entries, sorted."""
    normaliser, splitter = _pipeline()
    counts: Counter[str] = Counter()
    for text in texts:
        split = splitter.pre_tokenize_str(normaliser.normalize_str(text))
        counts.update(word for word, _ in split)
    characters: Counter[str] = Counter()
    for word, count in counts.items():
        for character in word:
            characters[character] += count
    ranked = sorted(characters, key=lambda character: (-characters[character], character))
    return counts, sorted(ranked[:ALPHABET])


def _assemble(vocabulary: dict[str, int]) -> PreTrainedTokenizerFast:
    """The tokenizer proper: [CLS] a [SEP] b [SEP], token types 0 and 1."""
    from tokenizers import Tokenizer, decoders, models, processors

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=SPECIAL[1]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = _pipeline()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    pad, unknown, first, separator, mask = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        unk_token=unknown,
        cls_token=first,
        sep_token=separator,
        mask_token=mask,
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
