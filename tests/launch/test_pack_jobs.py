"""Packing in parts by command, and as jobs that this machine runs in turn (a real array is a test of
its own, in tests/slurm)."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.cli import main
from launch.commands.pack import split_slurm
from tests.data_shards.clips import write_tones
from tests.data_shards.test_pack_parts import same

CLIPS = 40
PACK = ["pack", "manifest", "tones.csv", "--readers", "1", "--allow-empty-class"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a manifest of clips, and what one process packs of it."""
    rows = [
        f"{path.relative_to(tmp_path)},{'ab'[n % 2]},speaker {n % 5}"
        for n, path in enumerate(write_tones(tmp_path / "wavs", CLIPS))
    ]
    (tmp_path / "tones.csv").write_text("\n".join(["path,label,speaker", *rows]) + "\n")
    monkeypatch.chdir(tmp_path)
    assert main([*PACK, "--out", "whole"]) == 0
    return tmp_path


def test_parts_by_hand(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = [*PACK, "--out", "out"]
    assert main([*pack, "--part", "2/3"]) == 0
    assert "part 2/3: 10 samples in 1 shards" in capsys.readouterr().out
    assert main([*pack, "--merge"]) == 2
    assert "out.parts/part-0001: missing; pack part 1/3 first" in capsys.readouterr().err
    for part in ("1/3", "2/3", "3/3"):
        assert main([*pack, "--part", part]) == 0
    shown = capsys.readouterr().out
    assert "part 2/3: 10 samples in 1 shards, packed before" in shown
    assert main([*pack, "--merge"]) == 0
    assert "split speaker: train" in capsys.readouterr().out
    assert same(folder / "whole", folder / "out") == "" and not (folder / "out.parts").exists()
    assert main([*pack, "--part", "1/3"]) == 2
    assert "out: exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("parts", "how"),
    [
        (3, ["--slurm", "3", "--wait", "--at_most", "1", "--cluster", "local"]),
        (2, ["--slurm=2", "--cluster=local", "--slurm.time=5m", "--processes", "1"]),
        (4, ["--slurm", "9", "--cluster", "local"]),  # no more parts than shards
    ],
)
def test_parts_in_turn_where_there_is_no_slurm(
    parts: int, how: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*PACK, "--out", "out", *how]) == 0
    shown = capsys.readouterr().out
    assert same(folder / "whole", folder / "out") == "" and not (folder / "out.parts").exists()
    packed = [line.partition(":")[0] for line in shown.splitlines() if line.startswith("part ")]
    assert packed == [f"part {part}/{parts}" for part in range(1, parts + 1)]


def test_what_is_asked_of_the_cluster_may_stand_anywhere(folder: Path) -> None:
    command = ["pack", "manifest", "--slurm.time", "5m", "tones.csv", "--slurm.partition=cpu"]
    assert split_slurm(command) == (
        ["--slurm.time", "5m", "--slurm.partition=cpu"],
        ["pack", "manifest", "tones.csv"],
    )
    assert split_slurm(["submit", "x", "--slurm.time", "5m"])[0] == []
    how = [*PACK[3:], "--cluster", "local", "--slurm", "2", "--out", "out"]
    assert main([*command, *how]) == 0
    assert same(folder / "whole", folder / "out") == ""


def test_the_same_command_again_packs_what_is_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = [*PACK, "--out", "out", "--slurm", "4", "--cluster", "local"]
    clip = folder / "wavs" / "clip-007.wav"
    whole = clip.read_bytes()
    clip.write_bytes(whole[:-10])
    assert main(pack) == 2
    shown = capsys.readouterr()
    done = [line for line in shown.out.splitlines() if line.startswith("part ")]
    assert "clip-007.wav: truncated" in shown.err and len(done) < 4
    kept = {p: p.stat().st_ino for p in (folder / "out.parts").glob("part-000?/*.tar")}
    assert len(kept) == len(done) and not (folder / "out").exists()
    clip.write_bytes(whole)
    assert main(pack) == 0
    again = [line for line in capsys.readouterr().out.splitlines() if line.startswith("part ")]
    assert len(again) == 4 - len(done)
    assert same(folder / "whole", folder / "out") == ""
    inodes = {path.stat().st_ino for path in (folder / "out").glob("*.tar")}
    assert set(kept.values()) <= inodes  # neither packed again nor copied


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (["--part", "4/3"], "--part 4/3: write 1/8 to 8/8"),
        (["--part", "0/3"], "--part 0/3: write 1/8 to 8/8"),
        (["--part", "x"], "--part x: write 1/8 to 8/8"),
        (["--merge"], "out.parts: holds no packed parts"),
        (["--slurm", "0"], "--slurm 0: use 1 or more"),
        (["--slurm", "2", "--at_most", "0"], "--at_most 0: use 1 or more"),
        (["--slurm", "2", "--slurm.nodes", "2"], "a part is packed by one task"),
        (["--slurm", "2", "--slurm.tasks_per_node", "2"], "a part is packed by one task"),
        (["--slurm", "2", "--slurm.tim", "2h"], "did you mean 'slurm.time'"),
        (["--slurm", "2", "--slurm.partition", "a\nb"], "--slurm.partition is"),
        (["--slurm", "2", "--site", "nowhere"], "nowhere: no such site file"),
        (["--slurm", "2", "--split", "wrong"], "split protocol 'wrong'"),
        (["--slurm", "2", "--labels", "a"], "label 'b'"),
        (["--slurm.time", "2h"], "add --slurm PARTS"),
        (["--part", "1/2", "--wait"], "add --slurm PARTS"),
        (["--merge", "--at_most", "2"], "add --slurm PARTS"),
        (["--site", "nowhere"], "add --slurm PARTS"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    how: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.iterdir())
    assert main([*PACK, "--out", "out", "--cluster", "local", *how]) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.splitlines()[-1].startswith("error: ")
    assert sorted(folder.iterdir()) == before


def test_an_existing_corpus_is_replaced_when_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = [*PACK, "--out", "out", "--slurm", "2", "--cluster", "local"]
    assert main([*PACK, "--audio-format", "flac", "--out", "out"]) == 0
    assert main(pack) == 2
    assert "out: exists already" in capsys.readouterr().err and not Path("out.parts").exists()
    assert main([*pack, "--overwrite"]) == 0
    assert same(folder / "whole", folder / "out") == ""
