"""Checks of what reaches a batch script: names and values are refused, not quoted, where they could mean
something to a shell, to srun or to sbatch."""

from __future__ import annotations

import re

from configs.errors import InputError
from configs.slurm import SlurmConfig

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_SHAPES = {
    "partition": rf"{_NAME}(,{_NAME})*",
    "account": r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}",  # some clusters have project@partition
    "qos": _NAME,
    "reservation": rf"{_NAME}(,{_NAME})*",
    "constraint": r"[A-Za-z0-9(\[][A-Za-z0-9._&|*(),\[\]-]{0,255}",
    "nodelist": r"[A-Za-z0-9][A-Za-z0-9._,\[\]-]{0,1023}",
    "exclude": r"[A-Za-z0-9][A-Za-z0-9._,\[\]-]{0,1023}",
    "cpu_bind": r"((quiet|verbose),)?[a-z][a-z_]{0,31}(:[0-9a-fx,]{1,256})?",
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
_WRITTEN_OUT = re.compile(
    r"\bhf_[A-Za-z0-9]{16}"
    r"|\bwandb\s+login\s+(-\S+\s+)*[A-Za-z0-9]"
    r"""|--?(token|api-key|password)[\s=]+["']?[^\s"'$`]"""
    r"|\bbearer\s+[A-Za-z0-9]"
    r"|://[^\s/:@$`]+:[^\s/@$`]+@",  # user and password in an address
    re.IGNORECASE,
)
"""A secret without a name that tells."""
# What else srun and apptainer find among their options, they take for the command that is to run.
_OPTIONS = {
    "pyxis": r"--(no-)?container-[a-z-]+(=.*)?",
    "apptainer": r"-[A-Za-z-].*",
}


def duration(key: str, text: str) -> int:
    """Seconds of ``90m``, ``12h``, ``2d``, ``45s``, ``HH:MM:SS`` or ``D-HH:MM:SS``."""
    if match := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    if match := re.fullmatch(r"(?:(\d{1,4})-)?(\d{1,4}):(\d\d):(\d\d)", text):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    raise InputError(f"key {key!r} is {text!r}; write a time as 90m, 12h, 2d or 12:00:00")


def check_slurm(config: SlurmConfig) -> None:
    """Raise InputError naming the first setting that cannot work or must not reach a script."""
    for key, least in {"nodes": 1, "tasks_per_node": 1, "cpus_per_task": 1, "failures": 0}.items():
        if getattr(config, key) < least:
            raise InputError(f"--slurm.{key} is {getattr(config, key)}; it must be at least {least}")
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
        is_text = isinstance(name, str)  # YAML has other keys, too
        if not is_text or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", name, re.ASCII):
            raise InputError(f"--slurm.environment: {name!r} is no variable's name")
        if name in ("PYTHONPATH", "PYTHONSAFEPATH") or name.startswith("SOKHAN_"):
            raise InputError(f"--slurm.environment: {name} is set by sokhan itself")
        _refuse_secret("environment", name)
        _refuse_written_out("environment", value)
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
            _refuse_written_out(key, line)
            if not line.strip() or not line.isprintable():
                raise InputError(f"--slurm.{key} holds {line!r}; write one line without control marks")
    for option in config.container_options:
        if not re.fullmatch(_OPTIONS[config.container_runtime], option):
            raise InputError(
                f"--slurm.container_options holds {option!r}, which is no option of "
                f"{config.container_runtime}; write each as one word, --option=value"
            )


def _refuse_secret(key: str, name: str) -> None:
    if _SECRET.search(name) and name not in _NO_SECRETS:
        raise InputError(_of_secrets(key, f"{name} looks like a secret"))


def _refuse_written_out(key: str, text: str) -> None:
    if _WRITTEN_OUT.search(text):
        raise InputError(_of_secrets(key, "a line or value holds what looks like a secret"))


def _of_secrets(key: str, what: str) -> str:
    return (
        f"--slurm.{key}: {what}, which must not stand in a batch script; export it before "
        "`sokhan submit`: jobs inherit the environment"
    )
