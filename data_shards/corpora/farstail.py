"""FarsTail, Persian natural-language inference, from its three published csv files.

The files are ``Train-word.csv``, ``Val-word.csv`` and ``Test-word.csv``: tab separated with
standard quoting, columns premise, hypothesis, label (e, c, n); the test file also says which pairs
fool a model that sees only the hypothesis, or only word overlap (Amirkhani et al. 2023, doi
10.1007/s00500-023-08959-3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from configs.errors import InputError
from data_shards.corpora.corpus import Corpus
from data_shards.corpora.rows import check_label, nearest, read_lines, split_row
from data_shards.sample import Sample
from data_shards.text import TextSteps, describe, make_pair

LABELS = ("e", "c", "n")
"""Entailment, contradiction, neutral."""
SPLITS = {"train": "Train-word.csv", "validation": "Val-word.csv", "test": "Test-word.csv"}
_COLUMNS = ("premise", "hypothesis", "label")
_HARD = {"hard(hypothesis)": "hard_hypothesis", "hard(overlap)": "hard_overlap"}


@dataclass(frozen=True, slots=True)
class Row:
    """One pair as it stands in the file."""

    key: str
    premise: str
    hypothesis: str
    label: str
    groups: dict[str, str] = field(default_factory=dict)


def list_corpus(sources: Sequence[Path | str], steps: TextSteps | None = None) -> Corpus:
    """List FarsTail from the folder of the three files, or from three paths in any order.

    Keys are ``train-00001`` and so on, counting the rows of each file. Groups: source_split
    (train, validation, test) and, on test, hard_hypothesis and hard_overlap ("0" or "1").
    Raises InputError naming file and line where a row is not as it should be.
    """
    steps = steps or TextSteps()
    rows: list[Row] = []
    for split, path in find_files(sources).items():
        rows += read_split(path, split)
    return Corpus(
        name="farstail",
        kind="text",
        synthetic=False,
        items=rows,
        load=partial(load_row, steps=steps),
        key=key_of,
        settings={"source": "farstail", "text": describe(steps)},
    )


def find_files(sources: Sequence[Path | str]) -> dict[str, Path]:
    """The three files by split. Given paths are told apart by name, so their order is free."""
    paths = [Path(source) for source in sources]
    if len(paths) == 1 and paths[0].is_dir():
        found = {split: paths[0] / name for split, name in SPLITS.items()}
    elif len(paths) == 3:
        found = {_split_of(path): path for path in paths}
    else:
        given = ", ".join(map(str, paths)) or "nothing"
        raise InputError(
            f"farstail: give the folder with {', '.join(SPLITS.values())}, or the three files; got {given}"
        )
    for split, name in SPLITS.items():
        if split not in found:
            raise InputError(f"farstail: no {split} file among the three given ({name})")
        if not found[split].is_file():
            raise InputError(f"{found[split]}: not found; the FarsTail repository has it as data/{name}")
    return {split: found[split] for split in SPLITS}


def _split_of(path: Path) -> str:
    words = {"train": "train", "val": "validation", "dev": "validation", "test": "test"}
    found = {split for word, split in words.items() if word in path.stem.casefold()}
    if len(found) != 1:
        raise InputError(f"{path}: cannot tell its split; name the file Train-, Val- or Test-word.csv")
    return found.pop()


def read_split(path: Path, split: str) -> list[Row]:
    """Parse and check one file."""
    rows: list[Row] = []
    header: list[str] | None = None
    for line in read_lines(path):
        if header is None:
            header = _check_header(path, split_row(path, line, "\t"))
            continue
        values = dict(zip(header, split_row(path, line, "\t", len(header)), strict=True))
        where = f"{path}: line {line.number}"
        for name in ("premise", "hypothesis"):
            if not values[name].strip():
                raise InputError(f"{where}: the {name} is empty; fill it in or remove the row")
        groups = {"source_split": split}
        for name, group in _HARD.items():
            if name in values:
                if values[name] not in ("0", "1"):
                    raise InputError(f"{where}: {name} is {values[name]!r}; it must be 0 or 1")
                groups[group] = values[name]
        label = check_label(where, values["label"].strip(), LABELS)
        key = f"{split}-{len(rows) + 1:05d}"
        rows.append(Row(key, values["premise"], values["hypothesis"], label, groups))
    if not rows:
        raise InputError(f"{path}: has no rows; fetch the file again")
    return rows


def _check_header(path: Path, header: list[str]) -> list[str]:
    known = (*_COLUMNS, *_HARD)
    for name in header:
        if name not in known or header.count(name) > 1:
            fault = "occurs twice" if name in known else "is unknown" + nearest(name, known)
            raise InputError(f"{path}: line 1: column {name!r} {fault}")
    for name in _COLUMNS:
        if name not in header:
            raise InputError(
                f"{path}: line 1: no column {name!r}; the header must be "
                "premise, hypothesis, label, separated by tabs"
            )
    return header


def load_row(row: Row, steps: TextSteps) -> Sample:
    """Process the texts of one row."""
    pair = make_pair(row.premise, row.hypothesis, steps)
    return Sample(row.key, row.label, text=pair, groups=row.groups)


def key_of(row: Row) -> str:
    """The key of a row."""
    return row.key
