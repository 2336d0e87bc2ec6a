"""Train on this machine: check what can be checked, start the ranks, see that all have finished.

Exit codes: 0 every rank has trained and left its marker; 1 training failed; 2 the input is wrong; 75
(EX_TEMPFAIL) stopped by a signal after saving: start again to go on; 128+n when signal n has ended
everything at once. launch/supervise.py sees the ranks through.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.beginning import Beginning
from configs.errors import InputError
from configs.load import AnyRecipe, run_folder
from configs.ports import free_port
from configs.rank_status import COMMAND, FAILED, TRAINED
from launch.checks import check, load_unfinished
from launch.code_snapshot import ROOT, importing_from
from launch.slurm.waiting import refuse_if_live
from launch.supervise import run_ranks

_GPUS = Path("/proc/driver/nvidia/gpus")


def count_gpus() -> int:
    """NVIDIA GPUs that this process may use, without importing torch."""
    visible = _visible_gpus()
    if visible is not None:
        return len(visible)
    return len(list(_GPUS.iterdir())) if _GPUS.is_dir() else 0


def _visible_gpus() -> list[str] | None:
    """Names in CUDA_VISIBLE_DEVICES; None: all of the machine's."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return None
    return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]


def train(
    names: Sequence[str],
    overrides: Sequence[str],
    *,
    ranks: int,
    beginning: Beginning,
    command: str,
    words: Path | None = None,
) -> int:
    """Train recipes one after the other on ``ranks`` processes; returns the exit code (see above).

    ``words``: a folder that keeps what the ranks say of their end.
    Everything that can be checked without torch is checked here, before any process starts.
    """
    recipes = load_unfinished(names, overrides, beginning)
    for recipe in recipes:
        check(recipe, ranks, count_gpus(), beginning)
        if words is None:  # else this is that job; and its lock would refuse us in the end
            refuse_if_live(run_folder(recipe), certain=False)
    arguments = ["--config", *names, *beginning.flags(), *overrides]
    environment = {**os.environ, **importing_from(ROOT), COMMAND: command}
    # Their start messages are about compilers and devices that are not used.
    environment.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    environment.setdefault("DS_ACCELERATOR", "cuda" if count_gpus() else "cpu")
    timeout = 60 * max((recipe.engine.timeout_minutes for recipe in recipes), default=float("inf"))
    code = run_ranks(rank_command(ranks, arguments), environment, ranks, words, timeout)
    return _check_markers(recipes, ranks) if code == TRAINED else code


def rank_command(ranks: int, arguments: Sequence[str]) -> list[str]:
    """The command that starts the ranks: one plain process, or DeepSpeed's launcher of this node
    (what its ``deepspeed`` command runs, which would import torch once more)."""
    if ranks == 1:
        return [sys.executable, "-m", "trainers", *arguments]
    # The launcher makes of these numbers what each rank sees as CUDA_VISIBLE_DEVICES.
    gpus = (_visible_gpus() or [str(n) for n in range(ranks)])[:ranks]
    if not all(gpu.isdigit() for gpu in gpus):
        raise InputError(f"CUDA_VISIBLE_DEVICES: name GPUs by number, not {', '.join(gpus)}")
    machine = {"localhost": [int(gpu) for gpu in gpus]}
    world = base64.urlsafe_b64encode(json.dumps(machine).encode()).decode()
    launcher = [
        sys.executable,
        "-m",
        "deepspeed.launcher.launch",
        f"--world_info={world}",
        "--log_level=critical",
    ]
    launcher += ["--master_addr=127.0.0.1", f"--master_port={free_port(str(os.getpid()))}", "--no_local_rank"]
    return [*launcher, "--module", "trainers", *arguments]


def _check_markers(recipes: Sequence[AnyRecipe], ranks: int) -> int:
    for recipe in recipes:
        folder = run_folder(recipe) / "ranks"
        missing = [rank for rank in range(ranks) if not (folder / f"{rank}.done").is_file()]
        if missing:
            print(f"error: {recipe.recipe}: rank(s) {missing} did not finish", file=sys.stderr)
            return FAILED
    return TRAINED
