"""The real FarsTail is listed whole; every kind of bad row is refused with file and line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from configs.errors import InputError
from data_shards.corpora import farstail
from data_shards.text import TextSteps
from tests.data_shards.clips import SHARED

REAL = SHARED / "farstail"
RAW = TextSteps(False, False, False)
HEADER = "premise\thypothesis\tlabel\n"
GOOD = "سیب سرخ است.\tسیب سبز است.\tc\n"


def write(folder: Path, train: bytes | str = HEADER + GOOD) -> Path:
    folder.mkdir(exist_ok=True)
    data = train if isinstance(train, bytes) else train.encode()
    (folder / "Train-word.csv").write_bytes(data)
    (folder / "Val-word.csv").write_text(HEADER + GOOD * 2)
    (folder / "Test-word.csv").write_text(
        HEADER[:-1] + "\thard(hypothesis)\thard(overlap)\n" + GOOD[:-1] + "\t0\t1\n"
    )
    return folder


@pytest.mark.skipif(not REAL.is_dir(), reason="the real FarsTail is not here")
def test_real_farstail() -> None:
    corpus = farstail.list_corpus([REAL], RAW)
    splits = Counter(row.groups["source_split"] for row in corpus.items)
    assert splits == {"train": 7266, "validation": 1537, "test": 1564}
    test = [row for row in corpus.items if row.groups["source_split"] == "test"]
    assert Counter(row.label for row in test) == {"e": 519, "c": 510, "n": 535}
    assert all(row.groups.keys() == {"source_split", "hard_hypothesis", "hard_overlap"} for row in test)
    assert len({corpus.key(row) for row in corpus.items}) == len(corpus.items) == 10367
    texts = [text for row in corpus.items for text in (row.premise, row.hypothesis)]
    assert sum("\t" in text for text in texts) == 20  # inside quotes
    assert not any("\n" in text or "\r" in text for text in texts)


def test_samples(tmp_path: Path) -> None:
    corpus = farstail.list_corpus([write(tmp_path)], RAW)
    samples = [corpus.load(row) for row in corpus.items]
    assert [s.key for s in samples] == [
        "train-00001",
        "validation-00001",
        "validation-00002",
        "test-00001",
    ]
    assert samples[0].groups == {"source_split": "train"} and samples[0].label == "c"
    assert samples[3].groups == {
        "source_split": "test",
        "hard_hypothesis": "0",
        "hard_overlap": "1",
    }
    pair = samples[0].text
    assert pair is not None and pair.premise == pair.premise_processed == "سیب سرخ است."


def test_three_files_in_any_order(tmp_path: Path) -> None:
    write(tmp_path)
    files = sorted(tmp_path.glob("*.csv"))  # Test, Train, Val, as a shell lists them
    assert farstail.list_corpus(files, RAW).items == farstail.list_corpus([tmp_path], RAW).items
    with pytest.raises(InputError, match="give the folder .* or the three files"):
        farstail.list_corpus(files[:2], RAW)
    with pytest.raises(InputError, match="no validation file"):
        farstail.list_corpus([files[0], files[1], files[1]], RAW)
    other = tmp_path / "pairs.csv"
    with pytest.raises(InputError, match="pairs.csv: cannot tell its split"):
        farstail.list_corpus([files[0], files[1], other], RAW)


def test_missing_file(tmp_path: Path) -> None:
    (write(tmp_path) / "Val-word.csv").unlink()
    with pytest.raises(InputError, match=r"Val-word\.csv: not found"):
        farstail.list_corpus([tmp_path], RAW)


def test_byte_order_mark_crlf_and_quotes(tmp_path: Path) -> None:
    row = 'او گفت "نه"\t"گفت ""نه"" و رفت"\te\n'
    text = "\ufeff" + (HEADER + row + "\n" + GOOD).replace("\n", "\r\n")
    rows = farstail.list_corpus([write(tmp_path, text)], RAW).items
    assert (rows[0].premise, rows[0].hypothesis) == ('او گفت "نه"', 'گفت "نه" و رفت')
    assert rows[1].label == "c"


BAD = {
    "line 3: 2 columns where the header has 3; fix the missing": "الف\tب\n",
    "line 3: 4 columns where the header has 3; fix the extra": "الف\tب\te\tx\n",
    "line 3: a quote is opened and not closed": '"الف\tب\te\n' + GOOD + 'x"\tب\te\n',
    "line 3: .*quote inside a field": '"الف" ب\tب\te\n',
    "line 3: unknown label 'E' .*; did you mean 'e'": "الف\tب\tE\n",
    "line 3: the label is empty": "الف\tب\t\n",
    "line 3: the premise is empty": "  \tب\te\n",
    "line 3: the hypothesis is empty": "الف\t\te\n",
    "line 3: the premise is empty;": "\t\t\n",
    "line 3: contains a NUL": "ا\0لف\tب\te\n",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_rows(tmp_path: Path, words: str) -> None:
    write(tmp_path, HEADER + GOOD + BAD[words] + GOOD)
    with pytest.raises(InputError, match=r"Train-word\.csv: " + words) as caught:
        farstail.list_corpus([tmp_path], RAW)
    assert "\n" not in str(caught.value)


def test_an_open_quote_in_the_last_row(tmp_path: Path) -> None:
    write(tmp_path, HEADER + GOOD + '"الف\tب\te')
    with pytest.raises(InputError, match="line 3: a quote is opened and not closed"):
        farstail.list_corpus([tmp_path], RAW)


@pytest.mark.parametrize(
    ("encoding", "words"),
    [("cp1256", r"line 2: byte 1 \(0xd3\) is not UTF-8"), ("utf-16", "encoded as UTF-16")],
)
def test_wrong_encoding(tmp_path: Path, encoding: str, words: str) -> None:
    write(tmp_path, (HEADER + "سيب\tسيب\te\n").encode(encoding))
    with pytest.raises(InputError, match=r"Train-word\.csv: " + words):
        farstail.list_corpus([tmp_path], RAW)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("premise\thypotesis\tlabel", "'hypotesis' is unknown; did you mean 'hypothesis'"),
        ("premise\thypothesis", "no column 'label'"),
        ("premise,hypothesis,label", "is unknown"),
        ("premise\tlabel\tlabel", "'label' occurs twice"),
    ],
)
def test_bad_header(tmp_path: Path, header: str, words: str) -> None:
    write(tmp_path, header + "\n" + GOOD)
    with pytest.raises(InputError, match=rf"Train-word\.csv: line 1: .*{words}"):
        farstail.list_corpus([tmp_path], RAW)


def test_hard_is_zero_or_one(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "Test-word.csv"
    path.write_text(path.read_text().replace("\t0\t1", "\t0\tyes"))
    with pytest.raises(InputError, match=r"Test-word\.csv: line 2: hard\(overlap\) is 'yes'"):
        farstail.list_corpus([tmp_path], RAW)


def test_header_without_rows(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Train-word\.csv: has no rows"):
        farstail.list_corpus([write(tmp_path, HEADER)], RAW)
