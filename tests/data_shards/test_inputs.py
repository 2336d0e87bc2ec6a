"""What a model is applied to: which files are taken, in which order, and as packing reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from configs.errors import InputError
from data_shards.corpora.inputs import list_clips, list_inputs
from data_shards.corpora.manifest import list_corpus
from data_shards.corpora.synthetic_text import synthetic_farstail
from data_shards.pack import PackSettings, pack
from data_shards.reader import ShardReader
from data_shards.sample import AUDIO_FORMATS, AudioFormat, as_packed
from data_shards.text import TextSteps, described_in, steps_of
from tests.data_shards.clips import encoded, tone

RAW = TextSteps(False, False, False)


def clip(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(tone()))
    return path


def test_folders_are_listed_by_name_and_files_once(tmp_path: Path) -> None:
    for name in ("b/z.wav", "b/a.FLAC", "a.wav", "b/._a.wav", ".git/x.wav", "__MACOSX/x.wav"):
        clip(tmp_path / name)
    (tmp_path / "b" / "notes.txt").write_text("no clip")
    (tmp_path / "b" / "folder.wav").mkdir()
    odd = clip(tmp_path / "odd.sph")
    corpus = list_clips([odd, tmp_path / "b" / "z.wav", tmp_path])
    keys = [str(Path(corpus.key(item)).relative_to(tmp_path)) for item in corpus.items]
    assert keys == ["odd.sph", "b/z.wav", "a.wav", "b/a.FLAC"]
    sample = corpus.load(corpus.items[0])
    assert sample.key == str(odd) and sample.label == "" and sample.audio is not None


@pytest.mark.parametrize("audio_format", AUDIO_FORMATS)
def test_as_packed_is_what_shards_give(audio_format: AudioFormat, tmp_path: Path) -> None:
    sound = 2.2 * tone(0.2, 44_100)  # beyond full scale, and resampled
    (tmp_path / "a.wav").write_bytes(encoded(sound, 44_100, subtype="FLOAT"))
    (tmp_path / "m.csv").write_text("path,label\na.wav,x\n")
    corpus = list_corpus(tmp_path / "m.csv")
    pack(corpus, tmp_path / "shards", PackSettings(audio_format=audio_format))
    stored = ShardReader(tmp_path / "shards").item(0).audio
    audio = list_clips([tmp_path / "a.wav"])
    ours = as_packed(audio.load(audio.items[0]).audio)  # type: ignore[arg-type]
    assert stored is not None and np.array_equal(ours, stored) and ours.dtype == stored.dtype


def test_labels_may_be_missing_from_a_manifest(tmp_path: Path) -> None:
    table = tmp_path / "m.csv"
    table.write_text("premise,hypothesis\nالف,ب\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 1: no column 'label'"):
        list_corpus(table)
    corpus = list_inputs([table], "text", RAW, ("e", "n"))
    assert corpus.load(corpus.items[0]).label == ""
    rows = tmp_path / "m.jsonl"
    first, second = (
        '{"premise": "a", "hypothesis": "b"}',
        '{"premise": "a", "hypothesis": "b", "label": "e"}',
    )
    rows.write_text(f"{first}\n{second}\n")
    with pytest.raises(InputError, match="line 2: has a label, the first row has none"):
        list_inputs([rows], "text", RAW, ("e", "n"))
    rows.write_text(f"{second}\n{first}\n")
    with pytest.raises(InputError, match="line 2: no column 'label'"):
        list_inputs([rows], "text", RAW, ("e", "n"))


def test_the_wrong_kind_is_told_before_its_missing_files(tmp_path: Path) -> None:
    table = tmp_path / "m.tsv"
    table.write_text("path\nnone.wav\n")
    with pytest.raises(InputError, match="a manifest of audio, but the model reads pairs of texts"):
        list_inputs([table], "text", RAW, ("e", "n"))
    with pytest.raises(InputError, match="line 2: audio file .*none.wav not found"):
        list_inputs([table], "audio", RAW, ("e", "n"))
    with pytest.raises(InputError, match="none.csv: cannot be read"):
        list_inputs([tmp_path / "none.csv"], "text", RAW, ("e", "n"))


def test_steps_are_read_back_from_the_settings_of_shards(tmp_path: Path) -> None:
    steps = TextSteps(True, False, True)
    (tmp_path / "m.csv").write_text("premise,hypothesis,label\na,b,e\n")
    for corpus in (list_corpus(tmp_path / "m.csv", steps=steps), synthetic_farstail(120, 0, steps)):
        described = described_in(corpus.settings)
        assert described is not None and steps_of(described) == steps
    assert described_in({"source": "shemo"}) is None
    with pytest.raises(KeyError):
        steps_of({"normalise": True})
