"""What a job asks of a SLURM cluster: typed settings in human units, and a cluster's standing ones.

Later wins: defaults of ``SlurmConfig``, the site file, ``--slurm.FIELD VALUE``. Whatever reaches a
batch script is checked here first: names and values are refused, not quoted, where they could mean
something to a shell or to sbatch.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from configs.errors import InputError
from configs.load import FOLDER, check_keys, flatten, is_site, nearest, one_line, read_yaml

SITE = "SOKHAN_SITE"
"""Environment variable with the usual site: a shipped name or a file."""


@dataclass(frozen=True)
class SlurmConfig:
    """What a job asks for. Empty: not said, so that the cluster's own default holds."""

    nodes: int = 1
    """Machines."""
    tasks_per_node: int = 1
    """Ranks of one machine, one a GPU."""
    time: str = "1h"
    """The job is ended after this long: 90m, 12h, 2d, 12:00:00 or 1-12:00:00."""
    notice: str = "2m"
    """So long before its end the job is told to save, to be requeued and go on; 0s: not told."""
    partition: str = ""
    """Partition, or several separated by commas."""
    account: str = ""
    """Whom the time is charged to."""
    qos: str = ""
    """Quality of service."""
    reservation: str = ""
    """A reservation's name."""
    constraint: str = ""
    """Features that nodes must have, such as `a100` or `a100|h100`."""
    nodelist: str = ""
    """Nodes to run on, such as `n[1-4]`."""
    exclude: str = ""
    """Nodes to keep off."""
    exclusive: bool = False
    """Share the nodes with no other job."""
    cpus_per_task: int = 4
    """Cores of a rank: its reading processes need some too."""
    cpu_bind: str = ""
    """What srun binds a rank to: none, cores, sockets, ldoms, ..."""
    memory: str = ""
    """Memory of a node, such as 64G; 0: all of it."""
    gpus_per_task: int = 1
    """GPUs of a rank, 1 or 0; 0: nodes without."""
    gpu_type: str = ""
    """Type of GPU, as the cluster names it: `a100`."""
    gpu_request: Literal["gpus_per_node", "gres", "gpus_per_task"] = "gpus_per_node"
    """Which of SLURM's ways to ask for GPUs the cluster understands."""
    mail_user: str = ""
    """Where mail about the job goes."""
    mail_type: str = ""
    """When: NONE, BEGIN, END, FAIL, REQUEUE, ALL, ... separated by commas."""
    failures: int = 3
    """So many times a job goes on by itself after a rank was killed, hung or lost its node."""
    setup: tuple[str, ...] = ()
    """Shell lines that run on the first node before the ranks start, such as `module load cuda`."""
    environment: dict[str, str] = field(default_factory=dict)
    """Environment variables of the ranks. No secrets: they would stand in the batch script."""
    container_runtime: Literal["none", "pyxis", "apptainer"] = "none"
    """How ranks are put into a container: srun's --container-image, or `apptainer exec`."""
    container: str = ""
    """The container's image."""
    container_options: tuple[str, ...] = ()
    """More options of the runtime, such as `--container-mounts=/data` or `--nv`."""
    container_python: str = "python3"
    """Python in the container, with sokhan's requirements."""

    @property
    def ranks(self) -> int:
        """Ranks of the whole job."""
        return self.nodes * self.tasks_per_node


@dataclass(frozen=True)
class Site:
    """A cluster's standing settings, with what was said on the command line."""

    name: str
    slurm: SlurmConfig
    recipe: tuple[str, ...] = ()
    """Overrides of recipes' (site) fields, as command-line words."""


def load_cluster(site: str | None = None, overrides: Sequence[str] = ()) -> Site:
    """Read a site file (``None``: the one that SOKHAN_SITE names, if any) and ``--slurm.*`` words.

    Raises InputError, one line, for whatever is wrong in either.
    """
    name = site or os.environ.get(SITE, "")
    document: dict[str, Any] = {}
    where = ""
    if name:
        path = find_site(name)
        where, document = str(path), read_yaml(path)
        for key in document:
            if key not in ("slurm", "recipe"):
                raise InputError(f"{path}: unknown key {key!r}; a site has 'slurm' and 'recipe'")
    slurm = document.get("slurm") or {}
    if not isinstance(slurm, dict):
        raise InputError(f"{where}: key 'slurm' is a section of keys, not {slurm!r}")
    check_keys(where, slurm, SlurmConfig)
    config = _parse(where, slurm, overrides)
    check_slurm(config)
    return Site(name, config, _recipe_words(where, document.get("recipe") or {}))


def find_site(name: str) -> Path:
    """Path of a site file: a file, or one shipped in ``configs/site``."""
    for path in (Path(name).expanduser(), FOLDER / "site" / f"{name}.yaml"):
        if path.is_file():
            return path
    shipped = sorted(path.stem for path in (FOLDER / "site").glob("*.yaml"))
    raise InputError(
        f"{name}: no such site file; `sokhan doctor --write FILE` makes one, and these come with "
        f"sokhan: {', '.join(shipped)}"
    )


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """``--slurm.*`` words with their values, and the others."""
    slurm: list[str] = []
    others: list[str] = []
    target = others
    for word in words:
        if word.startswith("--"):
            target = slurm if word.startswith("--slurm.") else others
        target.append(word)
    return slurm, others


def duration(key: str, text: str) -> int:
    """Seconds of ``90m``, ``12h``, ``2d``, ``45s``, ``HH:MM:SS`` or ``D-HH:MM:SS``."""
    if match := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    if match := re.fullmatch(r"(?:(\d{1,4})-)?(\d{1,4}):(\d\d):(\d\d)", text):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    raise InputError(f"key {key!r} is {text!r}; write a time as 90m, 12h, 2d or 12:00:00")


_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_SHAPES = {
    "partition": rf"{_NAME}(,{_NAME})*",
    "account": _NAME,
    "qos": _NAME,
    "reservation": rf"{_NAME}(,{_NAME})*",
    "constraint": r"[A-Za-z0-9(\[][A-Za-z0-9._&|*(),\[\]-]{0,255}",
    "nodelist": r"[A-Za-z0-9][A-Za-z0-9._,\[\]-]{0,1023}",
    "exclude": r"[A-Za-z0-9][A-Za-z0-9._,\[\]-]{0,1023}",
    "cpu_bind": r"[a-z][a-z_]{0,31}(:[0-9a-fx,]{1,256})?",
    "memory": r"\d{1,9}[KMGT]?",
    "gpu_type": _NAME,
    "mail_user": r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}(@[A-Za-z0-9][A-Za-z0-9.-]{0,127})?",
    "mail_type": r"[A-Z_0-9]{1,32}(,[A-Z_0-9]{1,32})*",
    "container": r"[A-Za-z0-9/][A-Za-z0-9._/:@#+-]{0,511}",
    "container_python": r"[A-Za-z0-9/][A-Za-z0-9._/-]{0,255}",
}
_SECRET = re.compile(r"key|token|secret|passw|passphrase|credential", re.IGNORECASE)
_NO_SECRETS = ("TOKENIZERS_PARALLELISM", "NCCL_IB_PKEY")
_ASSIGNED = re.compile(r"""(\w+)=["']?[^\s"'$`]""")
"""A variable given a value that is written out, not read from somewhere."""
# What else srun and apptainer find among their options, they take for the command that is to run.
_OPTIONS = {
    "pyxis": r"--(no-)?container-[a-z-]+(=.*)?",
    "apptainer": r"-[A-Za-z-].*",
}


def check_slurm(config: SlurmConfig) -> None:
    """Raise InputError naming the first setting that cannot work or must not reach a script."""
    for key, least in {"nodes": 1, "tasks_per_node": 1, "cpus_per_task": 1, "failures": 0}.items():
        if getattr(config, key) < least:
            raise InputError(
                f"--slurm.{key} is {getattr(config, key)}; it must be at least {least}"
            )
    if config.gpus_per_task not in (0, 1):
        raise InputError(
            f"--slurm.gpus_per_task is {config.gpus_per_task}; a rank trains on one GPU, or (0) on none"
        )
    for key, shape in _SHAPES.items():
        value = getattr(config, key)
        if value and not re.fullmatch(shape, value, re.ASCII):
            raise InputError(f"--slurm.{key} is {value!r}, which is none that SLURM knows")
    if duration("slurm.time", config.time) < 60:
        raise InputError(f"--slurm.time is {config.time}; it must be at least a minute")
    if duration("slurm.notice", config.notice) >= min(duration("slurm.time", config.time), 65536):
        raise InputError(
            f"--slurm.notice is {config.notice}; it must be shorter than the job ({config.time}) and "
            "than 18 hours"
        )
    if (config.container_runtime == "none") == bool(config.container):
        raise InputError(
            "--slurm.container (an image) and --slurm.container_runtime (pyxis or apptainer) go together"
        )
    if config.container_options and not config.container:
        raise InputError("--slurm.container_options needs a --slurm.container")
    _check_lines(config)
    for name, value in config.environment.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", name, re.ASCII):
            raise InputError(f"--slurm.environment: {name!r} is no variable's name")
        if name in ("PYTHONPATH", "PYTHONSAFEPATH") or name.startswith("SOKHAN_"):
            raise InputError(f"--slurm.environment: {name} is set by sokhan itself")
        _refuse_secret("environment", name)
        if not value.isprintable():
            raise InputError(f"--slurm.environment: {name} is {value!r}; write one printable line")


def _check_lines(config: SlurmConfig) -> None:
    for key, lines in {
        "setup": config.setup,
        "container_options": config.container_options,
    }.items():
        for line in lines:
            for name in _ASSIGNED.findall(line):
                _refuse_secret(key, name)
            if not line.strip() or not line.isprintable():
                raise InputError(
                    f"--slurm.{key} holds {line!r}; write one line without control marks"
                )
    for option in config.container_options:
        if not re.fullmatch(_OPTIONS[config.container_runtime], option):
            raise InputError(
                f"--slurm.container_options holds {option!r}, which is no option of "
                f"{config.container_runtime}; write each as one word, --option=value"
            )


def _refuse_secret(key: str, name: str) -> None:
    if _SECRET.search(name) and name not in _NO_SECRETS:
        raise InputError(
            f"--slurm.{key}: {name} looks like a secret, which must not stand in a batch script; "
            "export it before `sokhan submit`: jobs inherit the environment"
        )


def _parse(where: str, document: dict[str, Any], overrides: Sequence[str]) -> SlurmConfig:
    from jsonargparse import ArgumentParser

    known = {f"slurm.{f.name}" for f in dataclasses.fields(SlurmConfig)}
    for word in overrides:
        key = word[2:].split("=")[0].split("+")[0]
        if word.startswith("--slurm.") and not (
            key in known or key.startswith("slurm.environment.")
        ):
            raise InputError(f"command line: unknown key {key!r}{nearest(key, sorted(known))}")
    parser = ArgumentParser(exit_on_error=False, prog="sokhan submit RECIPE")
    parser.add_class_arguments(SlurmConfig, "slurm")
    try:
        config = parser.parse_object({"slurm": document})
        where = "command line"
        config = parser.parse_args(list(overrides), namespace=config)
        return SlurmConfig(**vars(parser.instantiate(config).slurm))
    except (ArgumentError, TypeError, ValueError) as error:
        raise InputError(f"{where}: {one_line(error)}") from None


def _recipe_words(where: str, document: Any) -> tuple[str, ...]:
    if not isinstance(document, dict):
        raise InputError(f"{where}: key 'recipe' is a section of keys, not {document!r}")
    words: list[str] = []
    for key, value in flatten(document).items():
        if not is_site(key) or key in ("recipe", "data.shards", "output.name"):
            raise InputError(
                f"{where}: key 'recipe.{key}' is no matter of a site; only (site) fields are, such as "
                "output.folder, data.stage or tracking.entity"
            )
        words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    return tuple(words)
