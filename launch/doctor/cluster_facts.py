"""What a SLURM cluster says of itself: its settings that matter to us, and its partitions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from launch.slurm.ask import ask, check_controller
from launch.slurm.scheduler import SchedulerError


@dataclass(frozen=True)
class NodeKind:
    """Nodes of a partition that are alike."""

    count: int
    cpus: int
    memory_mb: int
    gpus: int = 0
    gpu_type: str = ""
    """As the cluster names it; empty: not said."""

    def __str__(self) -> str:
        kind = f" {self.gpu_type}" if self.gpu_type else ""
        gpus = f"{self.gpus}{kind} GPUs" if self.gpus else "no GPU"
        return f"{self.count} x {self.cpus} cores, {self.memory_mb / 1024:.0f} GiB, {gpus}"


@dataclass(frozen=True)
class Partition:
    """One of the cluster's partitions."""

    name: str
    default: bool
    up: bool
    limit: int | None
    """Seconds that a job may take; None: no limit."""
    nodes: tuple[NodeKind, ...]

    @property
    def usual(self) -> NodeKind:
        """The kind to plan with: the most numerous, of those with GPUs if there are any."""
        return max(self.nodes, key=lambda kind: (kind.gpus > 0, kind.count))

    def __str__(self) -> str:
        marks = [word for word, said in (("default", self.default), ("down", not self.up)) if said]
        told = f" ({', '.join(marks)})" if marks else ""
        limit = clock(self.limit) if self.limit else "no time limit"
        return f"{self.name}{told}: {limit}, {'; '.join(map(str, self.nodes))}"


@dataclass(frozen=True)
class ClusterFacts:
    """A cluster's settings."""

    name: str
    version: str
    settings: dict[str, str]
    """All of `scontrol show config`."""
    partitions: tuple[Partition, ...]

    def number(self, key: str) -> int | None:
        """The number that a setting begins with: `30 sec` is 30."""
        found = re.match(r"\d+", self.settings.get(key, ""))
        return int(found[0]) if found else None

    @property
    def accounting(self) -> bool:
        """Whether jobs are remembered by slurmdbd."""
        return self.settings.get("AccountingStorageType", "").endswith("slurmdbd")

    @property
    def default(self) -> Partition | None:
        """The partition of jobs that name none."""
        return next((partition for partition in self.partitions if partition.default), None)


def cluster_facts() -> ClusterFacts:
    """Ask the controller. Raises SchedulerError."""
    check_controller()
    settings = parse_config(ask("scontrol", "show", "config"))
    shown = ask("sinfo", "-h", "-a", "-o", "%P|%a|%l|%D|%c|%m|%G")
    return ClusterFacts(
        settings.get("ClusterName", ""),
        settings.get("SLURM_VERSION", ""),
        settings,
        tuple(parse_partitions(shown)),
    )


def accounting_answers() -> str:
    """Why the accounting does not answer; empty: it does."""
    try:
        ask("sacct", "-X", "-n", "-P", "-o", "JobID", "-j", "1")
    except SchedulerError as error:
        return str(error).removeprefix("SLURM does not answer: ")
    return ""


def parse_config(text: str) -> dict[str, str]:
    """``scontrol show config``."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def parse_partitions(text: str) -> list[Partition]:
    """``sinfo`` in our format: a line for each kind of nodes in a partition, `*` marks the default."""
    found: dict[str, Partition] = {}
    for line in text.splitlines():
        if line.count("|") != 6:
            continue
        label, state, limit, count, cpus, memory, gres = line.split("|")
        name = label.removesuffix("*")
        gpus, gpu_type = gpus_of(gres)
        kind = NodeKind(_number(count), _number(cpus), _number(memory), gpus, gpu_type)
        if name in found:
            one = found[name]
            found[name] = Partition(name, one.default, one.up, one.limit, (*one.nodes, kind))
        else:
            default = label.endswith("*")
            found[name] = Partition(name, default, state == "up", seconds(limit), (kind,))
    return list(found.values())


def gpus_of(gres: str) -> tuple[int, str]:
    """``gpu:a100:8(S:0-1),nvme:1`` -> 8 and a100. Several types: all of them, with no name."""
    found = re.findall(r"(?:^|,)gpu(?::([A-Za-z][^:,(]*))?(?::(\d+))?", gres)
    types = {kind for kind, _ in found}
    count = sum(int(number or 1) for _, number in found)
    return count, types.pop() if len(types) == 1 else ""


def seconds(limit: str) -> int | None:
    """SLURM's ``1-00:00:00``, ``12:00:00``, ``30:00``; None for ``infinite``."""
    days, _, clock_part = limit.rpartition("-")
    parts = clock_part.split(":")
    if not all(part.isdigit() for part in parts) or (days and not days.isdigit()):
        return None
    hours, minutes, rest = ([0, 0, 0] + [int(part) for part in parts])[-3:]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + rest


def clock(total: int) -> str:
    """Seconds as ``12:00:00`` or ``2-00:00:00``."""
    days, rest = divmod(total, 86400)
    text = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{text}" if days else text


def _number(text: str) -> int:
    """sinfo marks a least number with `+`."""
    found = re.match(r"\d+", text)
    return int(found[0]) if found else 0
