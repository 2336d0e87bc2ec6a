"""Parts packed one by one and joined are the folder that one process packs, byte for byte."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from configs.errors import InputError
from data_shards.corpora import manifest
from data_shards.corpora.corpus import Corpus
from data_shards.corpora.synthetic_text import synthetic_farstail
from data_shards.index import open_index
from data_shards.pack import PackInterrupted, PackSettings, pack
from data_shards.pack_parts import (
    PackedPart,
    merge_parts,
    pack_part,
    part_path,
    parts_folder,
    shards_of,
)
from data_shards.sample import Sample, TextPair
from data_shards.text import TextSteps
from tests.data_shards.clips import write_tones

ROOT = Path(__file__).resolve().parents[2]
CLIPS = 40
SETTINGS = PackSettings(processes=1)


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of clips, resampled on the way, some without speaker, gender or place."""
    folder = tmp_path_factory.mktemp("tones")
    rows = [
        f"{path.relative_to(folder)},{'cab'[n % 3]},{'' if n % 5 == 0 else n % 7},"
        f"{'f' if n == 9 else ''},{'' if n % 2 else f'room {n}'}"
        for n, path in enumerate(write_tones(folder / "wavs", CLIPS, 22_050))
    ]
    header = "path,label,speaker,gender,group:place"
    (folder / "tones.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder / "tones.csv"


def pairs(count: int = 120) -> Corpus:
    """A text corpus with notes of its own."""
    corpus = synthetic_farstail(count, seed=1, steps=TextSteps(False, False, False))
    return replace(corpus, notes={"made up": count})


def packed(corpus: Corpus, settings: PackSettings, parts: int, out: Path) -> None:
    """Pack all parts, the last one first, and join them."""
    for part in range(parts, 0, -1):
        pack_part(corpus, settings, part, parts, parts_folder(out))
    merge_parts(corpus, settings, parts_folder(out), out)


def same(one: Path, other: Path) -> str:
    """What `diff` says of two folders; nothing where they are the same."""
    answer = subprocess.run(["diff", "-r", str(one), str(other)], capture_output=True, text=True, check=False)
    return answer.stdout + answer.stderr


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 31])
@pytest.mark.parametrize("kind", ["wav", "flac", "text"])
def test_any_number_of_parts_gives_the_same_bytes(tones: Path, tmp_path: Path, kind: str, parts: int) -> None:
    corpus = pairs() if kind == "text" else manifest.list_corpus(tones)
    settings = replace(SETTINGS, audio_format="flac" if kind == "flac" else "wav")
    whole = pack(corpus, tmp_path / "whole", settings)
    packed(corpus, settings, parts, tmp_path / "joined")
    assert same(tmp_path / "whole", tmp_path / "joined") == ""
    assert open_index(tmp_path / "joined").manifest == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["joined", "whole"]
    assert len(whole.shards) == (30 if kind == "text" else 10)


def _pair(row: tuple[str, str, str, dict[str, str]]) -> Sample:
    key, label, speaker, groups = row
    notes = ("shouted",) if label == "z" else ()
    text = TextPair("a", "b", "a", "b")
    return Sample(key, label, speaker, text=text, groups=groups, notes=notes)


def _key(row: tuple[str, str, str, dict[str, str]]) -> str:
    return row[0]


def rows(count: int, row: Callable[[int], tuple[str, str, dict[str, str]]]) -> Corpus:
    """A corpus of rows that say all that the index keeps."""
    items = [(f"key-{n}", *row(n)) for n in range(count)]
    return Corpus("rows", "text", False, items, _pair, _key, settings={"steps": ("x", 1)})


CATEGORIES: dict[str, Callable[[int], tuple[str, str, dict[str, str]]]] = {
    "seen by one part only": lambda n: ("z" if n == 4 else f"l{n % 3}", f"s{n}", {"at": f"p{n}"}),
    "groups of single samples": lambda n: ("a", "", {f"g{n}": "x"} if n % 4 == 0 else {}),
    "empty values": lambda n: ("" if n == 7 else "a", "" if n % 2 else "s", {"at": ""}),
    "nothing": lambda n: ("a", "", {}),
}


@pytest.mark.parametrize("name", CATEGORIES)
def test_categories_are_numbered_over_all_parts(name: str, tmp_path: Path) -> None:
    corpus, settings = rows(19, CATEGORIES[name]), replace(SETTINGS, samples_per_shard=2)
    pack(corpus, tmp_path / "whole", settings)
    for parts in (2, 5, 10):
        packed(corpus, settings, parts, tmp_path / f"joined{parts}")
        assert same(tmp_path / "whole", tmp_path / f"joined{parts}") == ""


def test_too_many_categories_are_refused_as_in_one_piece(tmp_path: Path) -> None:
    """Each part alone may have so many."""
    corpus = rows(2**15, lambda n: (f"l{n}", "", {}))
    settings = replace(SETTINGS, samples_per_shard=2**14)
    with pytest.raises(InputError) as whole:
        pack(corpus, tmp_path / "whole", settings)
    with pytest.raises(InputError) as joined:
        packed(corpus, settings, 2, tmp_path / "joined")
    assert str(whole.value) == str(joined.value)
    assert [path.name for path in tmp_path.iterdir()] == ["joined.parts"]


def test_parts_are_even_and_leave_no_shard_out() -> None:
    for shards in (1, 5, 64):
        for parts in (1, 2, 7, 100):
            ranges = [shards_of(part, parts, shards) for part in range(1, parts + 1)]
            assert [shard for one in ranges for shard in one] == list(range(shards))
            assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


def test_a_finished_part_is_kept_and_a_damaged_one_packed_again(tmp_path: Path) -> None:
    corpus, folder = pairs(), parts_folder(tmp_path / "out")
    first = pack_part(corpus, SETTINGS, 2, 3, folder)
    path = part_path(folder, 2)
    shard = path / open_index(path).manifest.shards[0].name
    assert first.anew and (first.samples, first.shards) == (40, 10)
    before = shard.stat()
    assert pack_part(corpus, SETTINGS, 2, 3, folder) == replace(first, anew=False)
    assert shard.stat().st_ino == before.st_ino and shard.stat().st_mtime_ns == before.st_mtime_ns
    whole = shard.read_bytes()
    for damage in DAMAGES.values():
        damage(path)
        assert pack_part(corpus, SETTINGS, 2, 3, folder) == first
        assert shard.read_bytes() == whole


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def first_shard(path: Path) -> Path:
    """A shard of a part."""
    return sorted(path.glob("*.tar"))[0]


DAMAGES: dict[str, Callable[[Path], None]] = {
    "does not have its SHA-256": lambda path: flip(first_shard(path)),
    "missing or not": lambda path: first_shard(path).unlink(),
    "columns do not have their SHA-256": lambda path: flip(path / "index" / "crc32.npy"),
    "cannot read the index column": lambda path: (path / "index" / "label.npy").unlink(),
    "damaged (": lambda path: (path / "index.json").write_text("{"),
}


@pytest.mark.parametrize("words", DAMAGES)
def test_damaged_and_missing_parts_are_refused_by_name(words: str, tmp_path: Path) -> None:
    corpus, out = pairs(), tmp_path / "out"
    old = pack(pairs(138), out, SETTINGS)
    settings, folder = replace(SETTINGS, overwrite=True), parts_folder(out)
    with pytest.raises(InputError, match="holds no packed parts"):
        merge_parts(corpus, settings, folder, out)
    assert not folder.exists()
    for part in (1, 2, 3):
        pack_part(corpus, settings, part, 3, folder)
    DAMAGES[words](part_path(folder, 2))
    with pytest.raises(InputError) as caught:
        merge_parts(corpus, settings, folder, out)
    assert str(caught.value).startswith(f"{part_path(folder, 2)}: damaged (")
    assert words in str(caught.value) and "pack part 2 again" in str(caught.value)
    assert "\n" not in str(caught.value)
    part_path(folder, 2).rename(tmp_path / "away")
    with pytest.raises(InputError, match=r"part-0002: missing; pack part 2/3 first"):
        merge_parts(corpus, settings, folder, out)
    assert open_index(out).manifest == old
    pack_part(corpus, settings, 2, 3, folder)
    merge_parts(corpus, settings, folder, out)
    pack(corpus, tmp_path / "whole", SETTINGS)
    assert same(tmp_path / "whole", out) == ""


def test_parts_of_something_else_are_refused(tones: Path, tmp_path: Path) -> None:
    corpus, folder = manifest.list_corpus(tones), tmp_path / "parts"
    out = tmp_path / "out"
    for part in (1, 2):
        pack_part(corpus, SETTINGS, part, 2, folder)
    renamed = replace(corpus, items=[replace(row, key=f"{row.key}x") for row in corpus.items])
    others = [
        (
            corpus,
            replace(SETTINGS, audio_format="flac"),
            "packed with audio_format 'wav', which is",
        ),
        (corpus, replace(SETTINGS, readers=1), "packed with samples_per_shard 4, which is 10 now"),
        (renamed, SETTINGS, "the corpus had other samples then"),
        (replace(corpus, name="other"), SETTINGS, "it is of corpus tones, not other"),
    ]
    for other, settings, words in others:
        with pytest.raises(InputError, match=words):
            pack_part(other, settings, 1, 2, folder)
        with pytest.raises(InputError, match=words):
            merge_parts(other, settings, folder, out)
    with pytest.raises(InputError, match="it is part 1 of 2, not part 1 of 3; remove"):
        pack_part(corpus, SETTINGS, 1, 3, folder)
    with pytest.raises(InputError, match="part 3 of 2: parts are counted from 1"):
        pack_part(corpus, SETTINGS, 3, 2, folder)
    pack_part(corpus, SETTINGS, 3, 3, folder)
    part_path(folder, 2).rename(tmp_path / "away")
    part_path(folder, 3).rename(part_path(folder, 2))
    with pytest.raises(InputError, match="part-0002: it is part 3 of 3, not part 2 of 2"):
        merge_parts(corpus, SETTINGS, folder, out)
    assert not out.exists()


def test_an_existing_corpus_is_not_touched(tmp_path: Path) -> None:
    corpus, out = pairs(), tmp_path / "out"
    out.mkdir()
    for part in (1, 2):
        pack_part(corpus, SETTINGS, part, 2, parts_folder(out))
    with pytest.raises(InputError, match="exists already"):
        merge_parts(corpus, SETTINGS, parts_folder(out), out)
    assert list(out.iterdir()) == [] and len(list(parts_folder(out).glob("part-000?"))) == 2


def test_a_killed_part_is_packed_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(out)
    process.kill()
    process.communicate()
    left = parts_folder(out) / "part-0002.packing"
    assert left.is_dir() and not part_path(parts_folder(out), 2).exists()
    packed(pairs(), SETTINGS, 3, out)
    pack(pairs(), tmp_path / "whole", SETTINGS)
    assert same(tmp_path / "whole", out) == "" and not parts_folder(out).exists()


def test_a_stopped_part_leaves_nothing(tmp_path: Path) -> None:
    process = start(tmp_path / "out")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    folder = parts_folder(tmp_path / "out")
    said = f"interrupted by SIGTERM; nothing was written to {part_path(folder, 2)}"
    assert process.returncode == 2 and errors == f"error: {said}\n"
    assert [path.name for path in folder.iterdir()] == ["part-0002.lock"]


def test_two_processes_pack_a_part_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second waits for the first, which may be what is left of a job that was started anew."""
    out = tmp_path / "out"
    process = start(out)
    results: list[PackedPart] = []
    second = threading.Thread(
        target=lambda: results.append(pack_part(pairs(), SETTINGS, 2, 3, parts_folder(out)))
    )
    second.start()
    said = ""
    while "waiting for another process that packs" not in said:
        assert second.is_alive() and process.poll() is None
        time.sleep(0.01)
        said += capsys.readouterr().err
    process.communicate("go on\n")
    second.join()
    assert process.returncode == 0 and [one.anew for one in results] == [False]


def start(out: Path) -> subprocess.Popen[str]:
    """Pack the second of three parts of ``pairs`` in a process of its own, up to its first sample;
    it goes on when it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.data_shards.test_pack_parts", str(out)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline() == "packing\n"
    return process


def main(out: Path) -> None:
    """What ``start`` starts."""

    def progress(done: int, total: int) -> None:
        if done == 1:
            print("packing", flush=True)
            sys.stdin.readline()

    try:
        pack_part(pairs(), SETTINGS, 2, 3, parts_folder(out), progress)
    except PackInterrupted as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
