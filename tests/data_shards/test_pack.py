"""Packing gives the same bytes however it is run, and leaves nothing behind when it fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from configs.errors import InputError
from data_shards.corpora import farstail, manifest
from data_shards.corpora.corpus import Corpus
from data_shards.index import open_index
from data_shards.pack import PackSettings, pack, shard_order, summarise
from data_shards.sample import Sample, decode_audio
from data_shards.text import TextSteps
from tests.data_shards.clips import SHARED, write_tones
from tests.data_shards.slow_corpus import key_of

ROOT = Path(__file__).resolve().parents[2]
CLIPS = 70


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 16 kHz clips with three labels."""
    return write_manifest(tmp_path_factory.mktemp("tones"), 16_000)


@pytest.fixture(scope="module")
def slow_tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same at a rate that needs resampling."""
    return write_manifest(tmp_path_factory.mktemp("slow"), 22_050)


def write_manifest(folder: Path, rate: int) -> Path:
    paths = write_tones(folder / "wavs", CLIPS, rate)
    rows = [f"wavs/{path.name},{'abc'[n % 3]},{n % 7}" for n, path in enumerate(paths)]
    (folder / "tones.csv").write_text("\n".join(["path,label,speaker", *rows]) + "\n")
    return folder / "tones.csv"


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_any_number_of_processes_gives_the_same_bytes(slow_tones: Path, tmp_path: Path) -> None:
    corpus = manifest.list_corpus(slow_tones)
    calls: list[tuple[int, int]] = []
    first = pack(corpus, tmp_path / "one", PackSettings(processes=1), lambda *call: calls.append(call))
    second = pack(corpus, tmp_path / "two", PackSettings(processes=2))
    assert first == second and contents(tmp_path / "one") == contents(tmp_path / "two")
    assert calls == [(n, CLIPS) for n in range(1, CLIPS + 1)]
    assert str(slow_tones.parent).encode() not in b"".join(contents(tmp_path / "one").values())


def test_what_is_packed(slow_tones: Path, tmp_path: Path) -> None:
    corpus = manifest.list_corpus(slow_tones)
    out = tmp_path / "out"
    result = pack(replace(corpus, notes={"heard twice": 2}), out, PackSettings(processes=1))
    index = open_index(out)
    assert index.manifest == result
    assert result.notes == {"heard twice": 2, "resampled from 22050 Hz": CLIPS}
    assert sorted(index.keys()) == [f"wavs-clip-{n:03d}" for n in range(CLIPS)]
    assert index.keys() == [corpus.key(corpus.items[n]) for n in shard_order(corpus)]
    for row in (0, CLIPS - 1):
        with index.shard_path(index.shard[row]).open("rb") as stream:
            stream.seek(index.offset[row])
            audio = decode_audio(stream.read(index.size[row]))
        assert len(audio) == index.length[row] > 700
    summary = summarise(out, seconds=2.0)
    assert f"tones: {CLIPS} audio samples (0.00 h) in {len(result.shards)} shards" in summary
    assert "(35 samples/s)" in summary and "labels: a 24, b 23, c 23" in summary
    assert "note: heard twice: 2" in summary and "speakers: 7" in summary
    assert f"note: resampled from 22050 Hz: {CLIPS}" in summary


def test_settings(tones: Path, tmp_path: Path) -> None:
    corpus = manifest.list_corpus(tones)
    settings = PackSettings(audio_format="flac", processes=1, samples_per_shard=30)
    result = pack(corpus, tmp_path / "flac", settings)
    assert [shard.samples for shard in result.shards] == [30, 30, 10] and result.payload == "flac"
    with tarfile.open(tmp_path / "flac" / result.shards[0].name) as tar:
        assert {name.rpartition(".")[2] for name in tar.getnames()} == {"flac", "json"}
    with pytest.raises(InputError, match="exists already"):
        pack(corpus, tmp_path / "flac", settings)
    pack(corpus, tmp_path / "flac", replace(settings, audio_format="wav", overwrite=True))
    assert open_index(tmp_path / "flac").manifest.payload == "wav"
    for bad in (PackSettings(processes=0), PackSettings(samples_per_shard=0)):
        with pytest.raises(InputError, match="must be at least 1"):
            pack(corpus, tmp_path / "bad", bad)


def test_neighbours_are_mixed(tones: Path) -> None:
    corpus = manifest.list_corpus(tones)
    order = shard_order(corpus)
    assert sorted(order) == list(range(CLIPS))
    assert sum(abs(a - b) == 1 for a, b in zip(order, order[1:], strict=False)) < CLIPS / 10


def test_bad_corpora(tmp_path: Path) -> None:
    def corpus(keys: list[str]) -> Corpus:
        return Corpus("x", "text", False, keys, _never, _itself, settings={})

    for keys, words in (
        ([], "corpus x: no samples"),
        (["a", "b", "a"], "'a' occurs twice"),
        (["a.b"], "sample key 'a.b'"),
    ):
        with pytest.raises(InputError, match=words):
            pack(corpus(keys), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def _never(key: str) -> Sample:
    raise AssertionError("keys are checked before any work")


def _itself(key: str) -> str:
    return key


@pytest.mark.parametrize("processes", [1, 2])
def test_the_first_bad_sample_is_told_and_nothing_is_left(
    tones: Path, tmp_path: Path, processes: int
) -> None:
    corpus = manifest.list_corpus(tones)
    order = shard_order(corpus)
    wavs = [tones.parent / "wavs" / f"clip-{order[n]:03d}.wav" for n in (40, 60)]
    whole = [wav.read_bytes() for wav in wavs]
    old = pack(corpus, tmp_path / "out", PackSettings(processes=1))
    for wav, data in zip(wavs, whole, strict=True):
        wav.write_bytes(data[:-10])
    try:
        with pytest.raises(InputError) as caught:
            pack(corpus, tmp_path / "out", PackSettings(processes=processes, overwrite=True))
    finally:
        for wav, data in zip(wavs, whole, strict=True):
            wav.write_bytes(data)
    assert str(caught.value).startswith(f"{wavs[0]}: truncated") and "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert open_index(tmp_path / "out").manifest == old


def start(out: Path, deadly: int = -1) -> subprocess.Popen[str]:
    """A packing command of its own, in its own process group."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.data_shards.slow_corpus", str(out), str(deadly)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def to_main(process: subprocess.Popen[str], number: int) -> None:
    process.send_signal(number)


def to_group(process: subprocess.Popen[str], number: int) -> None:
    os.killpg(process.pid, number)


@pytest.mark.parametrize(
    ("number", "send"),
    [(signal.SIGINT, to_group), (signal.SIGTERM, to_main), (signal.SIGTERM, to_group)],
)
def test_signals_leave_nothing_and_say_one_line(
    tmp_path: Path, number: signal.Signals, send: Callable[[subprocess.Popen[str], int], None]
) -> None:
    process = start(tmp_path / "out")
    assert process.stdout is not None and process.stdout.readline() == "packing\n"
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    send(process, number)
    _, errors = process.communicate()
    assert process.returncode == 2
    assert errors.splitlines() == [
        f"error: interrupted by {number.name}; nothing was written to {tmp_path / 'out'}"
    ]
    assert list(tmp_path.iterdir()) == []
    assert not psutil.wait_procs(children, timeout=30)[1]


def test_workers_leave_when_the_command_is_killed(tmp_path: Path) -> None:
    process = start(tmp_path / "out")
    assert process.stdout is not None and process.stdout.readline() == "packing\n"
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(children, timeout=30)[1]


def test_a_killed_worker_is_one_clear_line(tmp_path: Path) -> None:
    process = start(tmp_path / "out", deadly=300)
    _, errors = process.communicate()
    assert process.returncode == 2 and key_of(300) not in errors
    assert errors.startswith("error: a packing process was killed, most likely for lack of memory")
    assert len(errors.splitlines()) == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "farstail").is_dir(), reason="the real FarsTail is not here")
def test_real_farstail_with_all_text_steps(tmp_path: Path) -> None:
    result = pack(farstail.list_corpus([SHARED / "farstail"], TextSteps()), tmp_path / "out")
    assert (result.samples, result.labels) == (10367, ("c", "e", "n"))
    assert result.groups["source_split"] == ("test", "train", "validation")
    assert len(result.shards) >= 64
