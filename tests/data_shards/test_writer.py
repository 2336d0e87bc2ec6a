"""Shards are plain WebDataset tars, always the same bytes, and packing holds little of them."""

from __future__ import annotations

import platform
import subprocess
import tarfile
import tracemalloc
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.errors import InputError
from data_shards.columns import Coded, GrowingColumns
from data_shards.index import Manifest, open_index
from data_shards.sample import EncodedSample, Sample, encode_sample
from data_shards.writer import choose_samples_per_shard, staging, write_shards
from tests.data_shards.tiny import fake

CLIPS = 11


def clips() -> list[EncodedSample]:
    """Clips of different lengths, keys not in alphabetical order, one with a Persian key."""
    rng = np.random.Generator(np.random.PCG64(0))
    keys = ["گفتار-۱", *(f"clip-{(n * 7) % CLIPS:02d}" for n in range(1, CLIPS))]
    return [
        encode_sample(
            Sample(key, "xy"[n % 2], f"s{n % 3}", audio=rng.uniform(-1, 1, 50 * n + 1).astype("f4"))
        )
        for n, key in enumerate(keys)
    ]


def write(
    samples: list[EncodedSample] | Iterator[EncodedSample],
    out: Path,
    size: int = 4,
    notes: dict[str, int] | None = None,
) -> Manifest:
    out.mkdir(exist_ok=True)
    return write_shards(
        samples,
        out,
        corpus="c",
        kind="audio",
        synthetic=True,
        samples_per_shard=size,
        settings={"a": 1},
        notes=notes,
    )


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # its own
def test_webdataset_reads_the_same_bytes(tmp_path: Path) -> None:
    import webdataset

    samples = clips()
    manifest = write(samples, tmp_path / "out")
    urls = [str(tmp_path / "out" / shard.name) for shard in manifest.shards]
    # Bytes as they are: webdataset's automatic decoders would run code for some extensions.
    read = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False))
    assert [one["__key__"] for one in read] == [sample.key for sample in samples]
    for one, sample in zip(read, samples, strict=True):
        assert {name: one[name] for name in sample.members} == sample.members
        assert {name for name in one if not name.startswith("_")} == set(sample.members)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # its own
def test_webdataset_decodes_with_explicit_decoders(tmp_path: Path) -> None:
    import webdataset

    from data_shards.sample import decode_audio

    samples = clips()
    manifest = write(samples, tmp_path / "out")
    urls = [str(tmp_path / "out" / shard.name) for shard in manifest.shards]
    dataset = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)
    decoded = dataset.decode(webdataset.handle_extension("wav", decode_audio)).to_tuple("wav")
    lengths = [len(audio) for (audio,) in decoded]
    assert lengths == [sample.length for sample in samples]


def test_plain_tar_reads_it(tmp_path: Path) -> None:
    samples = clips()
    manifest = write(samples, tmp_path / "out")
    assert [shard.samples for shard in manifest.shards] == [4, 4, 3]
    first = tmp_path / "out" / manifest.shards[0].name
    listed = subprocess.run(["tar", "tf", first], capture_output=True, check=True).stdout
    assert sorted(listed.decode().count(s.key) for s in samples[1:4]) == [2, 2, 2]
    assert len(listed.splitlines()) == 8
    member = f"{samples[1].key}.wav"
    out = subprocess.run(["tar", "xOf", first, member], capture_output=True, check=True).stdout
    assert out == samples[1].members["wav"]
    with tarfile.open(first) as tar:
        for info in tar:
            assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")


def test_the_index_points_at_the_payloads(tmp_path: Path) -> None:
    samples = clips()
    write(samples, tmp_path / "out")
    index = open_index(tmp_path / "out")
    assert index.keys() == [sample.key for sample in samples] and len(index) == CLIPS
    for row, sample in enumerate(samples):
        data = index.shard_path(int(index.shard[row])).read_bytes()
        start = int(index.offset[row])
        payload = data[start : start + int(index.size[row])]
        assert payload == sample.members["wav"] and index.crc32[row] == zlib.crc32(payload)
        assert index.length[row] == sample.length and index.key(row) == sample.key
        assert index.manifest.labels[index.label[row]] == sample.label
        assert index.manifest.speakers[index.speaker[row]] == sample.speaker


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    assert write(clips(), tmp_path / "a") == write(iter(clips()), tmp_path / "b")
    names = sorted(str(p.relative_to(tmp_path / "a")) for p in (tmp_path / "a").rglob("*.*"))
    assert len(names) == 3 + 1 + 9
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_categories_are_sorted_whatever_order_they_come_in(tmp_path: Path) -> None:
    samples = [
        fake("k1", "n", "z"),
        fake("k2", "a", "", gender="m"),
        fake("k3", "n", "b", gender="f", place="here"),
        fake("k4", "c", "z", gender="m", place="at home"),
    ]
    manifest = write(samples, tmp_path / "out")
    assert manifest.labels == ("a", "c", "n") and manifest.speakers == ("b", "z")
    assert manifest.groups == {"gender": ("", "f", "m"), "place": ("", "at home", "here")}
    index = open_index(tmp_path / "out")
    assert index.label.tolist() == [2, 0, 2, 1] and index.speaker.tolist() == [1, -1, 0, 1]
    assert index.group("gender").tolist() == [0, 2, 1, 2]
    assert index.group("place").tolist() == [0, 0, 2, 1]
    dtypes = [index.label.dtype, index.speaker.dtype, index.group("place").dtype]
    assert dtypes == [np.int16, np.int32, np.int16]


def test_an_empty_value_is_one_only_where_it_occurs(tmp_path: Path) -> None:
    manifest = write([fake("a", "x", gender="f"), fake("b", "x", gender="m")], tmp_path / "out")
    assert manifest.groups == {"gender": ("f", "m")} and manifest.speakers == ()


def test_notes_of_the_corpus_and_of_samples_are_counted_together(tmp_path: Path) -> None:
    samples = [replace(fake(f"k{n}"), notes=("resampled",) * (n % 2)) for n in range(5)]
    manifest = write(samples, tmp_path / "out", notes={"without transcript": 0, "resampled": 10})
    assert manifest.notes == {"resampled": 12, "without transcript": 0}
    assert manifest.settings == {"a": 1} and open_index(tmp_path / "out").manifest == manifest


@pytest.mark.parametrize("twin", [1, 9])
def test_a_key_that_occurs_twice_is_named(tmp_path: Path, twin: int) -> None:
    samples = [fake(f"k{n}") for n in range(12)]
    samples[twin] = fake("k0")
    with pytest.raises(InputError, match="sample key 'k0' occurs twice"):
        write(samples, tmp_path / "out")
    assert not (tmp_path / "out" / "index.json").exists()


def test_keys_with_the_same_hash_are_still_different() -> None:
    columns = GrowingColumns()
    for key in ("a", "b"):
        columns.add(0, fake(key))
    columns.place([0, 0])
    columns.key_hashes[1] = columns.key_hashes[0]
    assert columns.finish()[0]["key-bytes"].tobytes() == b"ab"


def test_bad_corpora(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="corpus c: no samples found"):
        write([], tmp_path / "empty")
    with pytest.raises(InputError, match="sample 'long': larger than 2 GiB"):
        write([replace(fake("long"), length=2**31)], tmp_path / "long")


def test_too_many_categories_to_be_some() -> None:
    column = Coded()
    for n in range(2**15):
        column.add(f"label{n}")
    with pytest.raises(InputError, match="column label: 32768 different values"):
        column.finish("label", np.int16, empty=True)
    values, codes = column.finish("speaker", np.int32, empty=False)
    assert [values[code] for code in codes[:3]] == ["label0", "label1", "label2"]


def test_no_sample_is_held_once_it_is_written(tmp_path: Path) -> None:
    written: list[weakref.ref[EncodedSample]] = []
    alive: list[int] = []

    def samples() -> Iterator[EncodedSample]:
        for n in range(50):
            alive.append(sum(reference() is not None for reference in written))
            sample = fake(f"k{n}")
            written.append(weakref.ref(sample))
            yield sample

    write(samples(), tmp_path / "out", size=20)
    assert max(alive) <= 2


def test_the_growing_index_takes_less_than_100_bytes_a_sample() -> None:
    count = 20_000
    columns = GrowingColumns()
    columns.add(0, fake("first", "x", "s0", gender="f"))
    columns.place([0])
    tracemalloc.start()
    try:
        for n in range(1, count):
            sample = fake(f"speaker{n % 500:03d}-{n:08d}", "xyz"[n % 3], f"s{n % 500}", gender="f")
            columns.add(n // 1000, sample)
            columns.place([n])
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        columns.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 19 bytes of key, 54 of the rest, and what arrays keep in reserve; finishing sorts 64-bit
    # hashes and makes the coded columns.
    assert held / count < 100 and peak / count < 130


def test_a_finished_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staging(out, overwrite=False) as partial:
        first = write(clips(), partial)
    with pytest.raises(InputError, match="exists already"), staging(out, overwrite=False):
        raise AssertionError("not reached")
    with pytest.raises(ZeroDivisionError), staging(out, overwrite=True) as partial:
        write(clips()[:3], partial)
        raise ZeroDivisionError
    assert open_index(out).manifest == first
    with staging(out, overwrite=True) as partial:
        second = write(clips()[:3], partial)
    assert open_index(out).manifest == second != first
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_shards_that_a_killed_packing_had_set_aside_are_put_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with staging(out, overwrite=False) as partial:
        first = write(clips(), partial)
    ended = subprocess.Popen(["true"])
    ended.wait()
    old = tmp_path / f".out.{platform.node()}@{ended.pid}.0123abcd.replaced"
    out.rename(old)
    with pytest.raises(InputError, match="exists already"), staging(out, overwrite=False):
        raise AssertionError("not reached")
    told = capsys.readouterr().err
    assert told == f"{out}: put back from {old.name}, a packing was killed in replacing it\n"
    assert open_index(out).manifest == first

    old.mkdir()  # killed after the second rename
    with staging(out, overwrite=True) as partial:
        write(clips()[:3], partial)
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and not capsys.readouterr().err


def test_what_is_no_corpus_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not a packed corpus"), staging(tmp_path / "out", True):
        raise AssertionError("not reached")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_shards_are_many_enough_for_all_readers() -> None:
    assert choose_samples_per_shard(3000, 16) == 46
    assert -(-3000 // choose_samples_per_shard(3000, 16)) >= 4 * 16
    assert choose_samples_per_shard(20, 16) == 4 and choose_samples_per_shard(10**7, 16) == 1000
