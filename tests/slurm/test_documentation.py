"""The commands of docs/slurm.md, as they are typed, on a cluster whose nodes have (pretended) GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.documentation import ROOT, blocks
from tests.slurm.cluster import Cluster
from tests.slurm.needs import need

PAGE = ROOT / "docs" / "slurm.md"
PATIENCE = 600.0


def test_commands_run(tmp_path: Path) -> None:
    need()
    with Cluster(gpus=4) as cluster:
        environment = {**cluster.environment, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        environment.pop("SOKHAN_SITE", None)
        shown = {}
        for block in blocks(PAGE):
            if not block.cluster:
                continue
            for line in block.text.splitlines():
                done = subprocess.run(
                    ["bash", "-c", line],
                    cwd=tmp_path,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                    check=False,
                )
                assert done.returncode == 0, f"{block.where}: {line}\n{done.stdout}{done.stderr}"
                shown[line] = done.stdout
                if line.startswith("export "):
                    name, _, value = line.removeprefix("export ").partition("=")
                    environment[name] = value
    runs = tmp_path / "runs" / "bert_full"
    # `logs -f` of the first has returned when it had ended; `--wait` of the other, too.
    assert (runs / "first" / "summary.json").is_file()
    assert (runs / "here" / "summary.json").is_file()
    assert not (runs / "big").exists() and not (runs / "sited").exists()
    scripts = [text for line, text in shown.items() if line.endswith("--dry-run")]
    assert len(scripts) == 2 and all("\nsrun " in text for text in scripts)
    assert "#SBATCH --partition=low" in scripts[1]  # from the site file
