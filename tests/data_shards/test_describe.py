"""Tables, warnings and plots of a packed corpus; Persian text is shaped for drawing."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from data_shards.describe import inspect, split_counts, text_table
from data_shards.drawing import add_legend, new_figure, shaped, to_png, to_svg
from data_shards.index import ShardIndex, open_index
from data_shards.sample import Sample, TextPair, encode_sample
from data_shards.splits import Split
from data_shards.writer import write_shards

LABELS = ("خشم", "غم")
SPEAKERS = ("F01", "F02", "M01")


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> ShardIndex:
    """30 clips of 0.1 to 3 s, ten a speaker, two in three of them the first label."""
    out = tmp_path_factory.mktemp("audio")
    samples = (
        Sample(
            f"s{n:02d}",
            LABELS[n % 3 == 0],
            SPEAKERS[n // 10],
            audio=np.zeros(1600 * (n + 1), np.float32),
            groups={"gender": "female" if n < 20 else "male"},
        )
        for n in range(30)
    )
    write_shards(
        map(encode_sample, samples),
        out,
        corpus="گفتار",
        kind="audio",
        synthetic=True,
        samples_per_shard=10,
        settings={},
    )
    return open_index(out)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> ShardIndex:
    """12 pairs of 3 to 14 words."""
    out = tmp_path_factory.mktemp("text")
    samples = (
        Sample(f"t{n}", "ecn"[n % 3], text=TextPair("یک دو", "سه " * (n + 1), "یک", "سه")) for n in range(12)
    )
    write_shards(
        map(encode_sample, samples),
        out,
        corpus="pairs",
        kind="text",
        synthetic=False,
        samples_per_shard=6,
        settings={},
    )
    return open_index(out)


def split_of(codes: list[int], name: str = "mine") -> Split:
    return Split(name, np.array(codes, np.int8), "by hand", notes={"drawn by lot": 2})


def row(table: str, *start: str) -> list[str]:
    """Cells of the one line that starts with the given cells."""
    rows = [line.split() for line in table.splitlines()]
    (found,) = [cells for cells in rows if tuple(cells[: len(start)]) == start]
    return found[len(start) :]


def test_counts_by_label_gender_and_speaker(audio: ShardIndex) -> None:
    split = split_of([0] * 10 + [1] * 10 + [2] * 8 + [-1] * 2)
    printed = inspect(audio, [split])
    assert "گفتار (SYNTHETIC): 30 audio samples, 0.01 hours, 3 speakers, 3 shards" in printed
    assert "drawn by lot: 2" in printed and "2 samples are in no part" in printed
    # Every third clip, starting with the first, has the second label.
    assert split_counts(audio, split) == {
        "train": {"خشم": 6, "غم": 4},
        "validation": {"خشم": 7, "غم": 3},
        "test": {"خشم": 5, "غم": 3},
    }
    assert row(printed, "train", "6") == ["4", "10", "1"]
    assert row(printed, "test", "male") == ["5", "3", "8"]
    assert row(printed, "train", "F01") == ["6", "4", "10", "5.5"]
    assert row(printed, "validation", "F02") == ["7", "3", "10", "15.5"]
    assert row(printed, "train", "0.10")[1:3] == ["0.55", "0.78"]
    assert "warning" not in printed


def test_shared_speakers_and_absent_classes_are_warned_of(audio: ShardIndex) -> None:
    codes = np.arange(30) % 3
    codes[:9][codes[:9] == 2] = -1
    printed = inspect(audio, [split_of(codes.tolist(), "mixed")])
    assert "train and validation share 3 speakers, who speak 100% of validation" in printed
    assert "train and test share 2 speakers, who speak 100% of test" in printed
    # With these codes each class lies in parts of its own.
    assert "mixed: train has no sample of خشم" in printed
    assert "mixed: test has no sample of غم" in printed
    partly = split_of([0] * 15 + [2] * 10 + [-1] * 5)
    assert "share 1 speakers, who speak 50% of test" in inspect(audio, [partly])
    assert "validation is empty" in inspect(audio, [partly])


def test_text_lengths_are_words(text: ShardIndex) -> None:
    printed = inspect(text, [split_of([0] * 6 + [1] * 3 + [2] * 3)])
    assert "pairs: 12 text samples, 102 words, 2 shards" in printed
    assert row(printed, "words") == ["min", "p25", "median", "p75", "p95", "p99", "max", "mean"]
    assert row(printed, "test", "12")[1] == "13" and row(printed, "test", "12")[5] == "14"
    assert "speaker" not in printed.replace("speakers", "")


def test_plots_and_csv(audio: ShardIndex, text: ShardIndex, tmp_path: Path) -> None:
    from PIL import Image

    split = split_of([0] * 10 + [1] * 10 + [2] * 10)
    printed = inspect(audio, [split], tmp_path / "a")
    inspect(text, [split_of([0] * 6 + [1] * 6)], tmp_path / "t")
    for name in (
        "a/labels-mine.png",
        "a/lengths-mine.png",
        "t/labels-mine.png",
        "t/lengths-mine.png",
    ):
        pixels = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        colours = np.unique(pixels.reshape(-1, 3), axis=0)
        assert min(pixels.shape[:2]) > 300 and len(colours) > 20
    assert str(tmp_path / "a" / "labels-mine.png") in printed
    assert not (tmp_path / "t" / "speakers-mine.csv").exists()
    with (tmp_path / "a" / "speakers-mine.csv").open(encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["part", "speaker", *LABELS, "all", "seconds"]
    assert rows[1] == ["train", "F01", "6", "4", "10", "5.5"]


def test_no_split(audio: ShardIndex) -> None:
    assert "no splits yet" in inspect(audio, [])


def test_tables_are_aligned() -> None:
    assert text_table(["a", "long"], [["word", 1], ["b", 22]]) == "a     long\nword     1\nb       22"


def test_persian_text_is_joined_and_put_in_drawing_order() -> None:
    import matplotlib

    assert shaped("plain text (1)") == "plain text (1)"
    if tuple(map(int, matplotlib.__version__.split(".")[:2])) >= (3, 11):
        assert shaped("غم") == "غم"
        return
    # ghain initial + meem final, last letter first
    assert shaped("غم") == "\ufee2\ufecf"
    # the non-joiner keeps yeh in its final form, and vanishes
    assert shaped("بی\u200cغم") == "\ufee2\ufecf\ufbfd\ufe91"
    # brackets are mirrored, digits keep their order
    assert shaped("غم (غم) ۱۲") == "۱۲ (\ufee2\ufecf) \ufee2\ufecf"


def test_every_persian_letter_has_a_glyph() -> None:
    letters = "ءآابپتثجچحخدذرزژسشصضطظعغفقکگلمنوهیئؤأ۰۱۲۳۴۵۶۷۸۹،؛؟«»"
    words = [f"ب{c}ب {c}ب ب{c} {c}" for c in letters] + ["الله لا می\u200cخواهم"]
    figure, (axes,) = new_figure(6, 6)
    for n, word in enumerate(words):
        axes.text(0, n / len(words), shaped(word))
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a missing glyph
        to_png(figure)


def test_svg_stands_alone_and_is_reproducible() -> None:
    from xml.etree import ElementTree

    def drawn(name: str) -> str:
        figure, (axes,) = new_figure(3, 2)
        axes.plot([0, 1], [1, 0], label="x")
        add_legend(axes)
        return to_svg(figure, name)

    first, second = drawn("one"), drawn("two")
    assert first == drawn("one")
    ids = [
        {e.get("id") for e in ElementTree.parse(io.StringIO(svg)).iter() if e.get("id")}
        for svg in (first, second)
    ]
    assert ids[0] and not ids[0] & ids[1]
    assert "currentColor" in first and "<text" not in first and "date" not in first
