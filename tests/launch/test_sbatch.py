"""What sbatch is started with: the user's environment, but for what would change our scripts."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from pathlib import Path

import pytest

from configs.slurm import SlurmConfig
from launch.command_job import CommandJob
from launch.slurm.batch import rank_python, script, training_parameters
from launch.slurm.sbatch import send_jobs, try_script

DUMP = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
AGAINST = {
    "SBATCH_NO_REQUEUE": "1",
    "SBATCH_TIMELIMIT": "5",
    "SBATCH_SIGNAL": "B:KILL@9",
    "SBATCH_OPEN_MODE": "truncate",
    "SBATCH_EXPORT": "NONE",
    "SBATCH_JOB_NAME": "mine",
    "SBATCH_ARRAY_INX": "0-99",
    "SBATCH_WAIT": "1",
    "SBATCH_GPUS": "1",
    "SLURM_JOB_ID": "12",
}
"""Against what any script says."""
BESIDE = {
    "SBATCH_PARTITION": "mine",
    "SBATCH_ACCOUNT": "mine",
    "SBATCH_MEM_PER_CPU": "1G",
    "SLURM_CONF": "/etc/slurm/slurm.conf",
    "WANDB_API_KEY": "k",
}
"""Of these a script may be silent."""


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for sbatch writes its environment here."""
    file = tmp_path / "seen.json"
    words = shlex.join([sys.executable, "-c", DUMP, str(file)])
    for name, lines in {"sbatch": f"{words}\necho Submitted batch job 7", "srun": ""}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name, value in {**AGAINST, **BESIDE}.items():
        monkeypatch.setenv(name, value)
    return file


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize(
    ("said", "dropped"),
    [
        ({}, set()),
        ({"partition": "gpu", "memory": "64G"}, {"SBATCH_PARTITION", "SBATCH_MEM_PER_CPU"}),
    ],
)
def test_no_variable_of_sbatch_wins_over_a_script(
    said: dict[str, str], dropped: set[str], sent: bool, seen: Path, tmp_path: Path
) -> None:
    slurm = dataclasses.replace(SlurmConfig(), **said)  # type: ignore[arg-type]
    parameters = training_parameters(slurm, tmp_path, "x")
    if sent:
        send_jobs(tmp_path, [CommandJob((), "/")], slurm, parameters)
    else:
        try_script(script(parameters, tmp_path, rank_python(slurm), 1))
    environment = json.loads(seen.read_text())
    assert not AGAINST.keys() & environment.keys()
    assert BESIDE.keys() - environment.keys() == dropped


@pytest.mark.parametrize(
    ("lines", "accepted", "words"),
    [
        ("echo sbatch: Job 7 to start at noon >&2", True, "sbatch: Job 7 to start at noon"),
        ("", True, "sbatch would take it"),
        (
            "echo allocation failure: Invalid account >&2; exit 1",
            False,
            "allocation failure: Invalid account",
        ),
        ("exit 3", False, "sbatch refuses it without a word (exit code 3)"),
        (
            "echo sbatch: error: Unable to contact slurm controller >&2; exit 1",
            True,
            "not tested: SLURM does not answer (Unable to contact slurm controller)",
        ),
        ("exec sleep 60", True, "not tested: SLURM does not answer (sbatch took over 1 s)"),
    ],
)
def test_what_a_dry_run_says_of_sbatch(
    lines: str, accepted: bool, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sbatch").write_text(f"#!/bin/sh\n{lines}\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("launch.slurm.sbatch.PATIENCE", 1.0)
    assert try_script("#!/bin/sh\n") == (accepted, words)
