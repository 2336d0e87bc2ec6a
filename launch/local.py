"""Train on this machine: check what can be checked, start the ranks, see that all have finished.

Exit codes: 0 every rank has trained and left its marker; 1 training failed; 2 the input is wrong; 75
(EX_TEMPFAIL) stopped by a signal after saving: start again to go on; 128+n when signal n has ended
everything at once. launch/supervise.py sees the ranks through.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.access import group_id
from configs.beginning import Beginning
from configs.check import check_kind, check_ranks
from configs.errors import InputError
from configs.heads import command_that_makes, shipped_file
from configs.load import AnyRecipe, free_run_folder, left_to_train, load_recipe, run_folder
from configs.rank_status import COMMAND, FAILED, TRAINED
from launch.slurm.code import ROOT, importing_from
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


def load_unfinished(names: Sequence[str], overrides: Sequence[str], beginning: Beginning) -> list[AnyRecipe]:
    """The recipes that are left to train; of the others it is told that they have finished."""
    given = [load_recipe(name, overrides) for name in names]
    recipes = left_to_train(given, beginning.overwrite)
    for recipe in given:
        if recipe not in recipes:
            print(f"{recipe.recipe}: finished already, {run_folder(recipe)}", flush=True)
    return recipes


def check(recipe: AnyRecipe, ranks: int, gpus: int, beginning: Beginning, grid: Path | None = None) -> None:
    """Raise InputError for what a training would stumble over in its first second.

    ``gpus`` are those of the machine that is to train; 0: none, or not known. ``grid``: the file of
    the grid that the training belongs to.
    """
    if ranks < 1:
        raise InputError(f"--ranks {ranks}: use at least 1")
    from data_shards.index import MANIFEST, open_index
    from data_shards.splits import load_split

    check_ranks(recipe, ranks)
    group_id(recipe.output.group)
    if gpus and ranks > gpus:
        raise InputError(f"--ranks {ranks}: this machine has {gpus} GPU(s); use at most as many ranks")
    there = (Path(recipe.data.shards) / MANIFEST).is_file()
    index = open_index(recipe.data.shards, "" if there else _packing(recipe, grid))
    check_kind(recipe, index.manifest.kind)
    load_split(index, recipe.data.split)
    free_run_folder(recipe, beginning.overwrite)


def _packing(recipe: AnyRecipe, grid: Path | None) -> str:
    """The command that makes a recipe's shards, if the head of its grid or of its file names one."""
    folder = recipe.data.shards
    return command_that_makes(folder, grid) or command_that_makes(folder, shipped_file(recipe.recipe))


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
    launcher += ["--master_addr=127.0.0.1", f"--master_port={_free_port()}", "--no_local_rank"]
    return [*launcher, "--module", "trainers", *arguments]


def _check_markers(recipes: Sequence[AnyRecipe], ranks: int) -> int:
    for recipe in recipes:
        folder = run_folder(recipe) / "ranks"
        missing = [rank for rank in range(ranks) if not (folder / f"{rank}.done").is_file()]
        if missing:
            print(f"error: {recipe.recipe}: rank(s) {missing} did not finish", file=sys.stderr)
            return FAILED
    return TRAINED


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
