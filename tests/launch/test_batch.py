"""Batch scripts as text: nothing is submitted, so no scheduler is needed."""

from __future__ import annotations

import difflib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from configs.slurm import SlurmConfig
from launch.cli import main
from launch.slurm.batch import script, training_parameters

Show = Callable[..., str]
STORED = Path(__file__).with_name("eight_by_eight.sh")
FOLDER = "/scratch/my_project/runs"
SITE = {
    "slurm": {
        "partition": "gpu,gpu_long",
        "account": "my_project",
        "qos": "high",
        "time": "1-12:00:00",
        "notice": "5m",
        "reservation": "week_47",
        "constraint": "a100|h100",
        "exclude": "n[3-4]",
        "exclusive": True,
        "cpus_per_task": 12,
        "cpu_bind": "cores",
        "memory": "960G",
        "gpu_type": "a100",
        "mail_user": "first.last@example.org",
        "mail_type": "FAIL,REQUEUE",
        "setup": ["module load cuda", "ulimit -n 65536"],
        "environment": {"NCCL_SOCKET_IFNAME": "ib0", "NOTE": 'it\'s "two words" of $HOME; `all`'},
    },
    "recipe": {"output": {"folder": FOLDER}},
}
SIZE = ["--slurm.nodes", "8", "--slurm.tasks_per_node", "8"]


@pytest.fixture
def shown(
    text_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Show:
    """Gives the script that `sokhan submit --dry-run` prints, with this machine's paths taken out."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    site = tmp_path / "site.yaml"
    site.write_text(yaml.safe_dump(SITE))

    def show(*words: str) -> str:
        command = ["submit", "demo/bert_full", "--data.shards", str(text_shards), "--dry-run"]
        plan = ["--batching.items", "64", "--batching.micro_batches", "64", "--output.name", "big"]
        assert main([*command, *plan, "--site", str(site), *words]) == 0
        assert [path.name for path in tmp_path.iterdir()] == ["site.yaml"]
        return capsys.readouterr().out.replace(shlex.quote(sys.executable), "/venv/bin/python")

    return show


def changed(before: str, after: str) -> tuple[list[str], list[str]]:
    """Lines that went and lines that came."""
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    return [s[2:] for s in lines if s[0] == "-"], [s[2:] for s in lines if s[0] == "+"]


def test_eight_nodes_with_eight_gpus(shown: Show) -> None:
    assert shown(*SIZE) == STORED.read_text()
    assert not Path(FOLDER).exists()
    subprocess.run(["bash", "-n", str(STORED)], check=True, timeout=60)


BY_NODE = "#SBATCH --gpus-per-node=a100:8"
PYXIS = [
    "--slurm.container_runtime",
    "pyxis",
    "--slurm.container",
    "registry.example.org#sokhan:1",
    "--slurm.container_options",
    '["--container-mounts=/scratch:/scratch", "--container-name=a b"]',
]
APPTAINER = [
    "--slurm.container_runtime",
    "apptainer",
    "--slurm.container",
    "/images/sokhan.sif",
    "--slurm.container_options",
    '["--nv", "--bind=/my data"]',
    "--slurm.container_python",
    "/opt/venv/bin/python",
]
RUN = "/venv/bin/python -u -m submitit"
CODE = f"export PYTHONPATH={FOLDER}/bert_full/big/slurm/new/code"
MODULES = CODE + "${PYTHONPATH:+:$PYTHONPATH}"
VARIANTS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "gres": (["--slurm.gpu_request", "gres"], [BY_NODE], ["#SBATCH --gres=gpu:a100:8"]),
    "gpus by task": (
        ["--slurm.gpu_request", "gpus_per_task"],
        [BY_NODE],
        ["#SBATCH --gpus-per-task=a100:1"],
    ),
    "any type": (["--slurm.gpu_type="], [BY_NODE], ["#SBATCH --gpus-per-node=8"]),
    "no GPUs": (["--slurm.gpus_per_task", "0"], [BY_NODE], []),
    "half a node": (
        ["--slurm.tasks_per_node", "4", "--slurm.exclusive", "false", "--slurm.cpu_bind="],
        ["#SBATCH --exclusive", BY_NODE, "#SBATCH --ntasks-per-node=8", "SRUN --cpu-bind=cores"],
        ["#SBATCH --gpus-per-node=a100:4", "#SBATCH --ntasks-per-node=4", "SRUN"],
    ),
    "short": (
        ["--slurm.time", "90s", "--slurm.notice", "0s"],
        ["#SBATCH --signal=USR2@300", "#SBATCH --time=2160"],
        ["#SBATCH --signal=USR2@0", "#SBATCH --time=2"],
    ),
    "pyxis": (
        PYXIS,
        [MODULES, f"SRUN --cpu-bind=cores {RUN}"],
        [
            CODE,
            "SRUN --cpu-bind=cores '--container-image=registry.example.org#sokhan:1' "
            "--container-mounts=/scratch:/scratch '--container-name=a b' python3 -u -m submitit",
        ],
    ),
    "apptainer": (
        APPTAINER,
        [MODULES, f"SRUN --cpu-bind=cores {RUN}"],
        [
            CODE,
            "SRUN --cpu-bind=cores apptainer exec --nv '--bind=/my data' /images/sokhan.sif "
            "/opt/venv/bin/python -u -m submitit",
        ],
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_other_ways_to_ask(name: str, shown: Show) -> None:
    words, gone, come = VARIANTS[name]
    text = shown(*SIZE, *words)
    found_gone, found_come = changed(STORED.read_text(), text)
    assert len(found_gone) == len(gone) and len(found_come) == len(come)
    for found, wanted in [*zip(found_gone, gone, strict=True), *zip(found_come, come, strict=True)]:
        if wanted.startswith("SRUN"):
            assert found.startswith("srun --unbuffered --output ")
            assert wanted.removeprefix("SRUN") in found
        else:
            assert found == wanted
    subprocess.run(["bash", "-n"], input=text, text=True, check=True, timeout=60)


def test_a_member_of_an_array_has_its_own_logs() -> None:
    parameters = training_parameters(SlurmConfig(), Path("/runs/s"), "grid")
    parameters["array_parallelism"] = 2
    lines = script(parameters, Path("/runs/s"), "python3", 6).splitlines()
    assert "#SBATCH --array=0-5%2" in lines
    assert "#SBATCH --output=/runs/s/%A_%a_0_log.out" in lines
    [srun] = [line for line in lines if line.startswith("srun ")]
    assert " --output /runs/s/%A_%a_%t_log.out --error /runs/s/%A_%a_%t_log.err " in srun


def run_script(text: str, folder: Path, srun: Sequence[str], **codes: str) -> tuple[int, list[str]]:
    """Run a script by bash with commands that only note what they are asked; its exit code and notes.

    ``codes``: what the steps around the ranks do, as lines of shell.
    """
    notes = folder / "notes"
    python = folder / "python"
    python.write_text(
        f'#!/bin/bash\necho "$3 $4" >>{notes}\ncase $3 in\n'
        + "".join(f"{step}) {line} ;;\n" for step, line in codes.items())
        + "esac\n"
    )
    srun_file = folder / "srun"
    srun_file.write_text("\n".join(["#!/bin/bash", f"echo srun >>{notes}", *srun, ""]))
    for path in (python, srun_file):
        path.chmod(0o755)
    text = text.replace(shlex.quote(sys.executable), str(python))
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash"],
        input=text,
        text=True,
        capture_output=True,
        timeout=60,
        env=environment,
        check=False,
    )
    return done.returncode, notes.read_text().splitlines()


@pytest.fixture
def text(tmp_path: Path) -> str:
    python = shlex.quote(sys.executable)
    folder = tmp_path / "s"
    return script(training_parameters(SlurmConfig(), folder, "x"), folder, python, 1)


def test_the_end_gets_the_code_of_the_ranks_and_decides(text: str, tmp_path: Path) -> None:
    code, notes = run_script(text, tmp_path, ["exit 75"], begin="echo /attempt", end="exit 1")
    assert code == 1 and notes == ["begin ", "srun", "end 75"]


def test_no_ranks_start_where_the_beginning_fails(text: str, tmp_path: Path) -> None:
    code, notes = run_script(text, tmp_path, ["exit 0"], begin="exit 1", end="exit 0")
    assert (code, notes) == (1, ["begin "])


def test_no_ranks_start_where_all_is_done(text: str, tmp_path: Path) -> None:
    code, notes = run_script(text, tmp_path, ["exit 0"], begin="exit 0", end="exit 1")
    assert (code, notes) == (0, ["begin "])


@pytest.mark.parametrize("name", ["TERM", "USR1", "USR2", "HUP"])
def test_the_shell_outlives_what_signals_the_job(name: str, text: str, tmp_path: Path) -> None:
    """SLURM sends them to the batch script and to the ranks; the ranks' end is still to be judged."""
    srun = [f"kill -{name} $PPID", "exit 75"]
    code, notes = run_script(text, tmp_path, srun, begin="echo /attempt", end="exit 0")
    assert code == 0 and notes == ["begin ", "srun", "end 75"]


@pytest.mark.parametrize("name", ["TERM", "USR1", "USR2", "HUP"])
def test_the_end_outlives_them_too(name: str, text: str, tmp_path: Path) -> None:
    """The job's time may be up just when the ranks have saved and the requeueing has begun."""
    end = f"kill -{name} $$; exit 75"
    code, notes = run_script(text, tmp_path, ["exit 75"], begin="echo /attempt", end=end)
    assert code == 75 and notes == ["begin ", "srun", "end 75"]


def test_ranks_get_the_submitted_code_and_their_attempt(text: str, tmp_path: Path) -> None:
    seen = tmp_path / "seen.json"
    dump = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
    srun = [f"{shlex.quote(sys.executable)} -c {shlex.quote(dump)} {shlex.quote(str(seen))}"]
    code, _ = run_script(text, tmp_path, srun, begin="echo '/an attempt'", end="exit $4")
    assert code == 0
    environment = json.loads(seen.read_text())
    assert environment["PYTHONPATH"] == str(tmp_path / "s" / "code")
    assert environment["PYTHONSAFEPATH"] == "1"
    assert environment["SOKHAN_SUBMISSION"] == str(tmp_path / "s")
    assert environment["SOKHAN_ATTEMPT"] == "/an attempt"
