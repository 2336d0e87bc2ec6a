"""Manifests in three formats, what their columns become, and one error for each kind of fault."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from configs.errors import InputError
from data_shards.corpora import manifest
from data_shards.text import TextSteps
from tests.data_shards.clips import SHARED, write_tones

RAW = TextSteps(False, False, False)
EMODB = SHARED / "emodb"
PAIR = "premise,hypothesis,label\nالف ب,پ,e\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.skipif(not EMODB.is_dir(), reason="the real Emo-DB is not here")
def test_emo_db_with_a_short_script(tmp_path: Path) -> None:
    emotions = {
        "W": "anger",
        "L": "boredom",
        "E": "disgust",
        "A": "fear",
        "F": "happiness",
        "T": "sadness",
        "N": "neutral",
    }
    with (tmp_path / "emodb.csv").open("w") as out:
        print("path,label,speaker", file=out)
        for wav in sorted(EMODB.glob("*.wav")):
            print(wav, emotions[wav.name[5]], wav.name[:2], sep=",", file=out)

    corpus = manifest.list_corpus(tmp_path / "emodb.csv", labels=emotions.values())
    assert len(corpus.items) == 535 and (corpus.name, corpus.kind) == ("emodb", "audio")
    samples = [corpus.load(row) for row in corpus.items[::50]]
    assert samples[0].key == "03a01Fa"
    assert Counter(s.speaker for s in samples)["03"] == 1 and samples[0].label == "happiness"
    for sample in samples:
        assert sample.audio is not None and len(sample.audio) == 32_000
        assert sample.meta == {"original_rate": 22_050}


def test_the_three_formats_say_the_same(tmp_path: Path) -> None:
    write_tones(tmp_path / "wavs", 2)
    rows = [
        {
            "path": "wavs/clip-000.wav",
            "label": "glad",
            "speaker": "ann",
            "split": "dev",
            "gender": "f",
            "group:room": "a",
            "take": "1",
        },
        {
            "path": "wavs/clip-001.wav",
            "label": "sad",
            "speaker": "",
            "split": "test",
            "gender": "m",
            "group:room": "b",
            "take": '2, "last"',
        },
    ]

    def table(delimiter: str) -> str:
        cells = [list(rows[0]), *(list(row.values()) for row in rows)]
        quoted = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in cells]
        return "\n".join(delimiter.join(row) for row in quoted) + "\n"

    found = []
    for path in (
        write(tmp_path / "m.csv", table(",")),
        write(tmp_path / "m.tsv", table("\t")),
        write(tmp_path / "tabs.csv", table("\t")),
        write(tmp_path / "m.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n"),
    ):
        corpus = manifest.list_corpus(path)
        samples = [corpus.load(row) for row in corpus.items]
        assert [s.key for s in samples] == [corpus.key(row) for row in corpus.items]
        found.append([(s.key, s.label, s.speaker, s.groups, s.meta, s.notes) for s in samples])
    assert found[0] == found[1] == found[2] == found[3]
    key, label, speaker, groups, meta, notes = found[0][1]
    assert (key, label, speaker, notes) == ("wavs-clip-001", "sad", "", ())
    assert groups == {"source_split": "test", "gender": "m", "room": "b"}
    assert meta == {"take": '2, "last"', "original_rate": 16_000}
    assert found[0][0][3]["source_split"] == "validation"


def test_text(tmp_path: Path) -> None:
    path = write(tmp_path / "دو جفت.csv", PAIR + "\nپ,ت,n\n")
    corpus = manifest.list_corpus(path, steps=RAW)
    assert (corpus.kind, corpus.name) == ("text", "corpus")
    first, second = (corpus.load(row) for row in corpus.items)
    assert (first.key, second.key) == ("row-00001", "row-00002")
    assert second.text is not None and second.text.hypothesis == "ت" and second.label == "n"
    assert manifest.list_corpus(path, name="pairs", steps=RAW).name == "pairs"
    with pytest.raises(InputError, match="corpus name 'a b'"):
        manifest.list_corpus(path, name="a b")


def test_default_keys(tmp_path: Path) -> None:
    outside = write_tones(tmp_path / "elsewhere", 1)[0]
    here = tmp_path / "here"
    inside = write_tones(here / "a b", 1)[0]
    inside.rename(inside.with_name("x.y z.wav"))
    rows = f"path,label\n./a b/x.y z.wav,l\n{outside},l\n"
    corpus = manifest.list_corpus(write(here / "m.csv", rows))
    assert [corpus.key(row) for row in corpus.items] == ["a_b-x_y_z", "clip-000"]


def test_numbers_are_fine_as_labels_in_json(tmp_path: Path) -> None:
    row = {"premise": "a", "hypothesis": "b", "label": 0, "key": 7, "score": 0.5, "speaker": None}
    corpus = manifest.list_corpus(write(tmp_path / "m.jsonl", json.dumps(row)), steps=RAW)
    sample = corpus.load(corpus.items[0])
    assert (sample.label, sample.key, sample.speaker) == ("0", "7", "")
    assert sample.meta == {"score": 0.5}


BAD_CSV = {
    "line 1: (column 'hypotesis' is unknown|no column 'hypothesis'; 'hypotesis' looks like)": (
        "premise,hypotesis,label\na,b,e\n"
    ),
    "line 1: no column path .*nor premise.*; 'pth' is unknown; did you mean 'path'": "pth,label\nx.wav,e\n",
    "line 1: no column 'label'": "premise,hypothesis\na,b\n",
    "line 1: column 'speeker' is unknown; did you mean 'speaker'": (
        "premise,hypothesis,label,speeker\na,b,e,x\n"
    ),
    "line 1: column 'label' occurs twice": "premise,hypothesis,label,label\na,b,e,e\n",
    "line 1: columns path and premise": "premise,hypothesis,label,path\na,b,e,x\n",
    "line 1: a column must not be called 'original_rate'": "path,label,original_rate\nx,e,1\n",
    "line 1: column 'group:a/b'": "premise,hypothesis,label,group:a/b\na,b,e,x\n",
    "line 3: 2 columns where the header has 3": PAIR + "a,b\n",
    "line 3: 4 columns where the header has 3": PAIR + "a,b,e,\n",
    "line 3: a quote is opened": PAIR + '"a,b,e\nc,d,n\n',
    "line 3: premise is empty": PAIR + " ,b,e\n",
    "line 3: label is empty": PAIR + "a,b,\n",
    "line 3: unknown label 'entail' .*; did you mean 'entailment'": PAIR.replace(",e", ",n") + "a,b,entail\n",
    "lines 2 and 4 have the same key 'k'": "premise,hypothesis,label,key\na,b,n,k\na,b,n,l\na,b,n,k\n",
    "line 2: sample key 'a.b'": "premise,hypothesis,label,key\na,b,n,a.b\n",
    "line 2: split is 'tests'; .*; did you mean 'test'": "premise,hypothesis,label,split\na,b,n,tests\n",
    "line 2: split is ''": "premise,hypothesis,label,split\na,b,n,\n",
    "line 2: audio file .*gone.wav not found": "path,label\ngone.wav,n\n",
    "has no rows": "premise,hypothesis,label\n",
    "the manifest is empty": "",
}


@pytest.mark.parametrize("words", BAD_CSV)
def test_bad_csv(tmp_path: Path, words: str) -> None:
    path = write(tmp_path / "m.csv", BAD_CSV[words])
    with pytest.raises(InputError, match=rf"m\.csv: ({words})") as caught:
        manifest.list_corpus(path, labels={"e", "n", "entailment"})
    assert "\n" not in str(caught.value)


GOOD_JSON = '{"premise": "a", "hypothesis": "b", "label": "e"}\n'
BAD_JSON = {
    "line 2: not a JSON object": GOOD_JSON + "{'premise': 'a'}\n",
    "line 2: not a JSON object like": GOOD_JSON + "[1, 2]\n",
    "line 2: no column 'label'; 'lable' looks like it": GOOD_JSON + GOOD_JSON.replace("label", "lable"),
    "line 2: label is true; it must be a string": GOOD_JSON + GOOD_JSON.replace('"e"', "true"),
    "line 2: label is empty": GOOD_JSON + GOOD_JSON.replace('"e"', "null"),
    "line 2: a row of audio in a manifest of text": GOOD_JSON + '{"path": "x", "label": "e"}\n',
    "line 1: .*NaN is not JSON": GOOD_JSON.replace('"e"', '"e", "x": NaN'),
}


@pytest.mark.parametrize("words", BAD_JSON)
def test_bad_jsonl(tmp_path: Path, words: str) -> None:
    with pytest.raises(InputError, match=rf"m\.jsonl: {words}") as caught:
        manifest.list_corpus(write(tmp_path / "m.jsonl", BAD_JSON[words]))
    assert "\n" not in str(caught.value)


def test_wrong_encoding_and_suffix(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(PAIR.encode() + "پ,سيب,e\n".encode("cp1256"))
    with pytest.raises(InputError, match=r"m\.csv: line 3: byte 1 \(0x81\) is not UTF-8"):
        manifest.list_corpus(tmp_path / "m.csv")
    with pytest.raises(InputError, match=r"m\.xlsx: a manifest's name must end in"):
        manifest.list_corpus(tmp_path / "m.xlsx")
    with pytest.raises(InputError, match=r"none\.csv: cannot be read"):
        manifest.list_corpus(tmp_path / "none.csv")
