"""ShEMO's names, archives and transcripts, on generated clips with the real transcripts."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest

from configs.errors import InputError
from data_shards.corpora import shemo
from tests.data_shards.clips import SHARED, encoded, tone

TRANSCRIPTS = SHARED / "shemo" / "transcript.zip"
WAV = encoded(tone(0.1, 44_100), 44_100)
NAMES = ["F08W01", "F03S02", "M47N21", "M04A05", "F21H03", "M02F99"]
"""The last one is not in the transcripts."""


def folder_of(path: Path, names: list[str]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name in names:
        (path / f"{name}.wav").write_bytes(WAV)
    return path


def archive_of(path: Path, names: list[str], inside: str = "female/") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(f"{inside}{name}.wav", WAV)
            archive.writestr(f"__MACOSX/{inside}._{name}.wav", b"\0\5\x16\7")
        archive.writestr(f"{inside}._{names[0]}.wav", b"\0\5\x16\7")
        archive.writestr(f"{inside}.DS_Store", b"x")
    return path


def test_names_say_label_speaker_and_gender(tmp_path: Path) -> None:
    corpus = shemo.list_corpus([folder_of(tmp_path / "a" / "deep", NAMES).parent])
    samples = {s.key: s for s in (corpus.load(clip) for clip in corpus.items)}
    assert sorted(samples) == sorted(NAMES) == sorted(map(corpus.key, corpus.items))
    want = {
        "F08W01": ("surprise", "F08", "female"),
        "F03S02": ("sadness", "F03", "female"),
        "M47N21": ("neutral", "M47", "male"),
        "M04A05": ("anger", "M04", "male"),
        "F21H03": ("happiness", "F21", "female"),
        "M02F99": ("fear", "M02", "male"),
    }
    assert {k: (s.label, s.speaker, s.groups["gender"]) for k, s in samples.items()} == want
    audio = samples["F03S02"].audio
    assert audio is not None and audio.shape == (1600,)
    assert samples["F03S02"].notes == ("resampled from 44100 Hz",)
    assert samples["F03S02"].meta == {"original_rate": 44_100}
    assert not corpus.synthetic and corpus.kind == "audio" and corpus.notes == {}


def test_archives_are_read_in_place_like_folders(tmp_path: Path) -> None:
    women, men = [n for n in NAMES if n[0] == "F"], [n for n in NAMES if n[0] == "M"]
    archives = [
        archive_of(tmp_path / "female.zip", women),
        archive_of(tmp_path / "male.zip", men, "x/y/male/"),
    ]
    before = sorted(tmp_path.rglob("*"))
    for sources in (archives, [tmp_path]):
        corpus = shemo.list_corpus(sources)
        # What a packing worker gets has gone through pickle.
        items, load = pickle.loads(pickle.dumps((corpus.items, corpus.load)))
        assert sorted(load(item).key for item in items) == sorted(NAMES)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(not TRANSCRIPTS.is_file(), reason="the real transcripts are not here")
def test_real_transcripts(tmp_path: Path) -> None:
    corpus = shemo.list_corpus([folder_of(tmp_path / "wav", NAMES)], TRANSCRIPTS)
    assert corpus.notes == {"clips without a transcript": 1, "transcripts without a clip": 2995}
    samples = {clip.key: corpus.load(clip) for clip in corpus.items}
    assert samples["F21H03"].meta["transcript_phonetic"] == "bekondi"
    for key in NAMES[:-1]:
        text = samples[key].meta["transcript"]
        assert text and text == text.strip() and "\ufeff" not in text
    assert "transcript" not in samples["M02F99"].meta


def test_transcripts_from_a_folder(tmp_path: Path) -> None:
    texts = tmp_path / "final text"
    texts.mkdir()
    (texts / "F03S02.ort").write_bytes("\ufeffسلام\r".encode())
    corpus = shemo.list_corpus([folder_of(tmp_path / "wav", ["F03S02"])], tmp_path)
    assert corpus.load(corpus.items[0]).meta["transcript"] == "سلام"
    (texts / "F03S02.ort").write_bytes("سلام".encode("cp1256"))
    with pytest.raises(InputError, match=r"F03S02\.ort: byte 1 is not UTF-8"):
        shemo.list_corpus([tmp_path / "wav"], tmp_path)
    with pytest.raises(InputError, match="wav: no transcripts"):
        shemo.list_corpus([tmp_path / "wav"], tmp_path / "wav")


@pytest.mark.parametrize("name", ["X03S02", "F3S02", "F03Q02", "F03S", "F03S02b", "noise"])
def test_a_name_that_does_not_parse(tmp_path: Path, name: str) -> None:
    folder_of(tmp_path, ["F03S02", name])
    with pytest.raises(InputError, match=rf"{name}\.wav: not a ShEMO name"):
        shemo.list_corpus([tmp_path])


def test_a_clip_given_twice(tmp_path: Path) -> None:
    folder_of(tmp_path / "female", ["F03S02"])
    archive_of(tmp_path / "female.zip", ["F03S02"])
    with pytest.raises(InputError, match=r"zip:female/F03S02\.wav: .*F03S02 is there twice"):
        shemo.list_corpus([tmp_path / "female", tmp_path / "female.zip"])


def test_sources_that_hold_no_clips(tmp_path: Path) -> None:
    pointer = tmp_path / "male.zip"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(InputError, match=r"male\.zip: a Git LFS pointer"):
        shemo.list_corpus([pointer])
    whole = archive_of(tmp_path / "female.zip", ["F03S02"]).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.zip: not a complete zip"):
        shemo.list_corpus([tmp_path / "cut.zip"])
    with pytest.raises(InputError, match="none: not found"):
        shemo.list_corpus([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no .wav files"):
        shemo.list_corpus([tmp_path / "empty"])


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "female.zip", ["F03S02"])
    data = bytearray(path.read_bytes())
    data[200] ^= 0xFF
    path.write_bytes(data)
    corpus = shemo.list_corpus([path])
    with pytest.raises(InputError, match=r"female\.zip:female/F03S02\.wav: cannot be read"):
        corpus.load(corpus.items[0])


def test_a_truncated_clip_is_named(tmp_path: Path) -> None:
    (tmp_path / "F03S02.wav").write_bytes(WAV[:-100])
    corpus = shemo.list_corpus([tmp_path])
    with pytest.raises(InputError, match=r"F03S02\.wav: truncated"):
        corpus.load(corpus.items[0])
