"""Jobs through submitit: real ones with its local executor (a real SLURM is a test of its own)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.cli import main
from tests.launch.test_local import arguments


def test_a_job_of_two_local_tasks(
    text_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--slurm.tasks_per_node", "2", "--slurm.gpus_per_task", "0"]
    command = ["submit", "demo/bert_full", "--cluster", "local", "--wait", *size]
    code = main([*command, *arguments(text_shards, tmp_path)])
    shown = capsys.readouterr()
    logs = "".join(p.read_text() for p in (tmp_path / "bert_full").glob("run.jobs/*.err"))
    assert code == 0, shown.err + logs[-3000:]
    assert "is done" in shown.out and "run directory:" in shown.out
    run = tmp_path / "bert_full" / "run"
    assert json.loads((run / "environment.json").read_text())["ranks"] == 2
    assert (run / "summary.json").is_file()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--slurm.partition", 'gpu"\nrm -rf x'], "not a partition's name"),
        (["--slurm.nodes", "0"], "--slurm.nodes is 0"),
        (["--slurm.nodes", "3"], "4 / 3 = 1.33"),
    ],
)
def test_wrong_sizes(
    flags: list[str], message: str, text_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["submit", "demo/bert_full", "--cluster", "local", *flags]
    assert main([*command, "--data.shards", str(text_shards)]) == 2
    assert message in capsys.readouterr().err
