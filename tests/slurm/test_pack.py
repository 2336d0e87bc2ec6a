"""A corpus packed by a job array is the folder that this machine packs, whatever happens to the jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.data_shards.clips import write_tones
from tests.data_shards.test_pack_parts import same
from tests.slurm.cluster import Cluster

PATIENCE = 240.0
"""Bound of a wait; how long it takes is not what is tested."""
LONG = ["synthetic-shemo", "--samples", "500", "--seconds-scale", "0.5", "--allow-empty-class"]
"""A part of it takes seconds, so that something can happen to it."""


@pytest.fixture
def tones(tmp_path: Path) -> list[str]:
    """A short corpus, named from where the command is typed."""
    rows = [
        f"{path.relative_to(tmp_path)},{'ab'[n % 2]},speaker {n % 5}"
        for n, path in enumerate(write_tones(tmp_path / "wavs", 40))
    ]
    (tmp_path / "tones.csv").write_text("\n".join(["path,label,speaker", *rows]) + "\n")
    return ["manifest", "tones.csv", "--allow-empty-class"]


@pytest.fixture(scope="module")
def long_whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this machine makes of LONG."""
    folder = tmp_path_factory.mktemp("long")
    pack_whole(folder, LONG)
    return folder / "whole"


def start(
    folder: Path, corpus: list[str], *more: str, cluster: Cluster | None = None
) -> subprocess.Popen[str]:
    """A packing command, typed in ``folder``."""
    environment = cluster.environment if cluster else dict(os.environ)
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen(
        [sys.executable, "-m", "launch", "pack", *corpus, *more],
        cwd=folder,
        env={**environment, "PYTHONPATH": root},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def pack_whole(folder: Path, corpus: list[str]) -> None:
    """Pack into ``folder/whole`` on this machine."""
    command = start(folder, corpus, "--out", "whole")
    _, errors = command.communicate(timeout=PATIENCE)
    assert command.returncode == 0, errors


def start_jobs(
    folder: Path, corpus: list[str], parts: int, cluster: Cluster, *more: str
) -> subprocess.Popen[str]:
    """Pack into ``folder/out`` as jobs, and wait for them."""
    size = ["--slurm.partition", "low", "--slurm.cpus_per_task", "4", "--slurm.time", "10m"]
    how = ["--out", "out", "--slurm", str(parts), "--wait", *size, *more]
    return start(folder, corpus, *how, cluster=cluster)


def submissions(folder: Path) -> list[Path]:
    """Where scripts and logs are, oldest first."""
    found = (folder / "out.parts" / "slurm").glob("*/submission.json")
    return [path.parent for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)]


def logs(folder: Path) -> str:
    """All that the jobs said."""
    found = sorted((folder / "out.parts" / "slurm").glob("*/*_log.err"))
    return "\n".join(path.read_text(errors="replace") for path in found)


def until(condition: Callable[[], bool], folder: Path) -> None:
    """Wait for something."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, logs(folder)
        time.sleep(0.05)


def test_an_array_packs_the_same_bytes(cluster: Cluster, tones: list[str], tmp_path: Path) -> None:
    pack_whole(tmp_path, tones)
    command = start_jobs(tmp_path, tones, 3, cluster, "--at_most", "2")
    out, errors = command.communicate(timeout=PATIENCE)
    assert command.returncode == 0, errors + logs(tmp_path)
    assert same(tmp_path / "whole", tmp_path / "out") == ""
    (folder,) = submissions(tmp_path)
    sent = json.loads((folder / "submission.json").read_text())
    assert f"job {sent['merge']} is done" in out
    assert f"squeue -j {sent['job']},{sent['merge']}\n" in out
    assert "#SBATCH --array=0-2%2" in (folder / f"{sent['job']}_submission.sh").read_text()
    assert "gpu" not in (folder / f"{sent['job']}_submission.sh").read_text()
    assert [path.name for path in (tmp_path / "out.parts").iterdir()] == ["slurm"]


def test_a_failed_part_is_named_and_alone_packed_again(
    cluster: Cluster, tones: list[str], tmp_path: Path
) -> None:
    pack_whole(tmp_path, tones)
    clip = tmp_path / "wavs" / "clip-007.wav"
    whole = clip.read_bytes()
    clip.write_bytes(whole[:-10])
    command = start_jobs(tmp_path, tones, 3, cluster)
    _, errors = command.communicate(timeout=PATIENCE)
    told = errors.splitlines()
    assert command.returncode == 1 and told[-1] == "the same command again packs what is missing"
    assert [line for line in told if line.startswith("error: ")] == told[-2:-1]
    assert "wavs/clip-007.wav: truncated" in told[-2] and not (tmp_path / "out").exists()
    kept = sorted((tmp_path / "out.parts").glob("part-000?"))
    assert len(kept) == 2
    clip.write_bytes(whole)
    command = start_jobs(tmp_path, tones, 3, cluster)
    _, errors = command.communicate(timeout=PATIENCE)
    assert command.returncode == 0, errors + logs(tmp_path)
    sent = json.loads((submissions(tmp_path)[-1] / "submission.json").read_text())
    assert list(sent["parts"].values()) == [sent["job"]]
    assert same(tmp_path / "whole", tmp_path / "out") == ""


def test_preempted_parts_are_packed_when_they_come_back(
    cluster: Cluster, long_whole: Path, tmp_path: Path
) -> None:
    command = start_jobs(tmp_path, LONG, 2, cluster)
    until((tmp_path / "out.parts" / "part-0002.packing").is_dir, tmp_path)
    cluster.preempt()
    until(lambda: "DUE TO PREEMPTION" in logs(tmp_path), tmp_path)
    out, errors = command.communicate(timeout=PATIENCE)
    assert command.returncode == 0, errors + logs(tmp_path)
    assert same(long_whole, tmp_path / "out") == ""


def test_a_killed_part_is_told_and_packed_again(cluster: Cluster, long_whole: Path, tmp_path: Path) -> None:
    command = start_jobs(tmp_path, LONG, 2, cluster)
    until((tmp_path / "out.parts" / "part-0002.packing").is_dir, tmp_path)
    packing_process(tmp_path, 2).kill()
    _, errors = command.communicate(timeout=PATIENCE)
    assert command.returncode == 1 and "error: part 2 (job " in errors and "Killed" in errors
    assert [path.name for path in (tmp_path / "out.parts").glob("part-000?")] == ["part-0001"]
    again = start_jobs(tmp_path, LONG, 2, cluster)
    _, errors = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, errors + logs(tmp_path)
    assert same(long_whole, tmp_path / "out") == ""


def packing_process(folder: Path, part: int) -> psutil.Process:
    """The task that packs a part: the one that holds the part's lock."""
    lock = folder / "out.parts" / f"part-{part:04d}.lock"
    status = lock.stat()
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    held = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    (pid,) = [int(words[4]) for words in held if words[5] == inode]
    return psutil.Process(pid)


def test_what_sbatch_refuses_is_one_line_and_leaves_nothing(
    cluster: Cluster, tones: list[str], tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    command = start_jobs(tmp_path, tones, 2, cluster, "--slurm.partition", "nowhere")
    out, errors = command.communicate(timeout=PATIENCE)
    assert command.returncode == 2 and out == ""
    assert errors.startswith("error: sbatch refused the job: ") and errors.count("\n") == 1
    assert "partition" in errors and sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["x\ntouch HIT\n", "x'; touch HIT; '", "$(touch HIT)", "%j", "`x`"])
def test_names_that_a_batch_script_would_misread_are_refused(
    cluster: Cluster, tones: list[str], tmp_path: Path, name: str
) -> None:
    before = sorted(tmp_path.iterdir())
    how = ["--out", name, "--slurm", "2", "--slurm.partition", "low"]
    command = start(tmp_path, tones, *how, cluster=cluster)
    _, errors = command.communicate(timeout=PATIENCE)
    assert command.returncode == 2 and errors.startswith("error: ") and errors.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
