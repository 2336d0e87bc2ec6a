"""Plain text for pre-training: paragraphs of files and the training pairs of packed shards."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from configs.errors import InputError
from data_shards.corpora.prose import list_corpus
from data_shards.index import ShardIndex, open_index
from data_shards.pack import PackSettings, pack
from data_shards.protocols import heldout_split
from data_shards.reader import ShardReader
from data_shards.splits import load_split, save_split
from data_shards.text import TextSteps
from launch.cli import main

PLAIN = TextSteps(False, False, False)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    texts = {"news.txt": "یک خبر است\n\n  \nدو خبر\n", "sport.txt": "﻿سه ورزش  \nچهار\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return [tmp_path / name for name in texts]


def packed(out: Path, corpus: object, processes: int = 1) -> ShardIndex:
    pack(corpus, out, PackSettings(processes=processes))  # type: ignore[arg-type]
    return open_index(out)


def texts(index: ShardIndex) -> dict[str, tuple[str, str]]:
    reader = ShardReader(index.root)
    pairs = {key: reader.item(row).text for row, key in enumerate(index.keys())}
    return {key: (pair.premise, pair.hypothesis) for key, pair in pairs.items() if pair}


def test_a_paragraph_a_line(files: list[Path], tmp_path: Path) -> None:
    index = packed(tmp_path / "out", list_corpus(files, steps=PLAIN))
    assert index.manifest.kind == "prose" and index.manifest.labels == ("text",)
    assert texts(index) == {
        "news-000001": ("یک خبر است", ""),
        "news-000004": ("دو خبر", ""),
        "sport-000001": ("سه ورزش", ""),
        "sport-000002": ("چهار", ""),
    }


def test_lines_that_show_nothing_are_left_out(tmp_path: Path) -> None:
    lines = ["خوب", "\u200c", " \u200c\u00ad\u200d\t", "\u064b", "* * *", "۱"]
    (tmp_path / "page.txt").write_text("\n".join(lines), encoding="utf-8")
    index = packed(tmp_path / "out", list_corpus([tmp_path / "page.txt"], steps=PLAIN))
    assert sorted(texts(index)) == ["page-000001", "page-000005", "page-000006"]


def test_a_line_that_processing_empties_is_named(tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_text("خوب\nـــ\n", encoding="utf-8")  # strokes that fill lines
    corpus = list_corpus([tmp_path / "page.txt"], steps=TextSteps(True, False, False))
    with pytest.raises(InputError, match=r"page\.txt: line 2: hazm's steps leave nothing of 'ـــ'"):
        packed(tmp_path / "out", corpus)
    assert not (tmp_path / "out").exists()


def test_pairs_of_the_published_training_part(files: list[Path], text_shards: Path, tmp_path: Path) -> None:
    """Whatever other splits lie beside it."""
    shards = tmp_path / "shards"
    shutil.copytree(text_shards, shards)
    source = open_index(shards)
    official = load_split(source, "official")
    save_split(source, replace(official, name="mine", codes=official.codes[::-1].copy()))
    corpus = list_corpus(files, pairs=shards, steps=PLAIN)
    assert corpus.settings["pairs"]["split"] == "official"
    assert corpus.items.rows.tolist() == official.rows("train").tolist()
    for kind in ("json", "npy"):
        (shards / "splits" / f"official.{kind}").unlink()
    with pytest.raises(InputError, match="has no split 'official'; there are mine"):
        list_corpus(files, pairs=shards, steps=PLAIN)


def test_pairs_of_the_training_part_alone(files: list[Path], text_shards: Path, tmp_path: Path) -> None:
    index = packed(tmp_path / "out", list_corpus(files, pairs=text_shards, steps=PLAIN), 2)
    source = open_index(text_shards)
    train = {f"pair-{source.key(int(row))}" for row in load_split(source).rows("train")}
    found = texts(index)
    assert {key for key in found if key.startswith("pair-")} == train
    original = texts(source)
    assert all(found[key] == original[key.removeprefix("pair-")] for key in train)
    assert index.manifest.synthetic, "a part of it is generated"


def test_what_is_wrong_is_named(files: list[Path], speech_shards: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes("خوب\n".encode() + b"\xff\xfe bad\n")
    with pytest.raises(InputError, match=r"bad\.txt: line 2: byte 1 \(0xff\) is not UTF-8"):
        list_corpus([tmp_path / "bad.txt"])
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(InputError, match=r"empty\.txt: has no text"):
        list_corpus([tmp_path / "empty.txt"])
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "news.txt"
    twin.write_text("متن")
    with pytest.raises(InputError, match="another file is called 'news' too"):
        list_corpus([*files, twin])
    with pytest.raises(InputError, match="holds audio, not pairs of texts"):
        list_corpus(files, pairs=speech_shards)


def test_held_out_parts(tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("\n".join(f"جمله {n}" for n in range(950)))
    index = packed(tmp_path / "out", list_corpus([tmp_path / "many.txt"], steps=PLAIN))
    split, again, other = (heldout_split(index, seed) for seed in (0, 0, 1))
    sizes = [len(split.rows(part)) for part in split.names]
    assert sizes == [932, 9, 9]
    assert (split.codes == again.codes).all() and (split.codes != other.codes).any()


def test_command(files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert main(["pack", "text", *map(str, files), "--name", "mine", "--out", out]) == 0
    said = capsys.readouterr().out
    assert "mine: 4 prose samples" in said and "split heldout: train 2" in said
    assert main(["train", "demo/bert_full", "--data.shards", out]) == 2
    assert "holds prose, but recipe 'bert_full' (task nli) reads text" in capsys.readouterr().err
