"""`sokhan doctor --write`: a first site file for a cluster, from what it says of itself."""

from __future__ import annotations

from pathlib import Path

from configs.cluster import Site, load_cluster
from configs.errors import InputError
from configs.schema import OutputConfig
from launch.doctor.cluster_facts import ClusterFacts, NodeKind, Partition, clock

_LONGEST = 86400
"""Seconds asked for where a partition has no limit."""


def runs_folder(site: Site) -> Path:
    """Where runs lie that name no folder of their own."""
    said = dict(zip(site.recipe[::2], site.recipe[1::2], strict=True))
    return Path(said.get("--output.folder", OutputConfig().folder))


def write_site(facts: ClusterFacts, path: Path) -> None:
    """Write the file, and read it back as `--site` would. Raises InputError if it is there already."""
    if path.exists():
        raise InputError(f"{path}: is there already; name another file, or remove it")
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(site_text(facts), encoding="utf-8")
        load_cluster(str(partial))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def site_text(facts: ClusterFacts) -> str:
    """The file: settings that hold for the default partition, and as comments what else there is."""
    partition = facts.default or (facts.partitions[0] if facts.partitions else None)
    lines = [
        f"# Cluster {facts.name}, SLURM {facts.version}: a first site file by `sokhan doctor --write`.",
        "# Look it over; then `--site FILE`, or SOKHAN_SITE=FILE in the environment, names it.",
        "# Every field of it can be set for one job too: --slurm.time 4h.",
        "#",
        "# Partitions:",
        *(f"#   {one}" for one in facts.partitions),
        "#",
        *(f"# {line}" for line in remarks(facts)),
        "slurm:",
    ]
    if partition and partition.nodes:
        lines += _settings(facts, partition, partition.usual)
    lines += [
        "  # account: my_project",
        "  # setup: [module load cuda]            # lines before the ranks start, such as modules",
        "  # environment: {NCCL_SOCKET_IFNAME: ib0}",
        "",
        "# Fields of recipes that are this cluster's matter:",
        "# recipe:",
        "#   output: {folder: /scratch/me/runs}",
    ]
    return "\n".join(lines) + "\n"


def remarks(facts: ClusterFacts) -> list[str]:
    """What a training of ours has to know of the cluster's ways, one line each."""
    kill_wait = facts.number("KillWait")
    preempt = facts.settings.get("PreemptMode", "")
    lines = [
        f"KillWait {kill_wait} s: so long a preempted or cancelled job may save before it is killed"
        + ("; larger models may need more" if (kill_wait or 0) < 30 else ""),
        f"PreemptMode {preempt}: " + _preemption(preempt),
    ]
    if facts.settings.get("JobRequeue") == "0":
        lines.append("JobRequeue 0: jobs come back only if they ask to, which sokhan's do")
    if size := facts.number("MaxArraySize"):
        lines.append(f"MaxArraySize {size}: a sweep may have {size - 1} trainings")
    if not facts.accounting:
        lines.append("no accounting (slurmdbd): of ended jobs only their folders tell")
    return lines


def _settings(facts: ClusterFacts, partition: Partition, kind: NodeKind) -> list[str]:
    limit = min(partition.limit or _LONGEST, 36_500 * 86400)
    why = "the partition's limit" if partition.limit else "the partition has no limit"
    lines = [f"  partition: {partition.name}", f'  time: "{clock(limit)}"  # {why}']
    if limit <= 240:
        lines.append('  notice: "30s"')
    if kind.gpus:
        lines += [
            f"  # tasks_per_node: {kind.gpus}  # all GPUs of a node",
            f"  cpus_per_task: {max(1, kind.cpus // kind.gpus)}"
            f"  # {kind.cpus} cores, {kind.gpus} GPUs a node",
            "  gpus_per_task: 1",
        ]
        if kind.gpu_type:
            lines.append(f"  gpu_type: {kind.gpu_type}")
        if "cons_tres" not in facts.settings.get("SelectType", ""):
            lines.append("  gpu_request: gres  # only select/cons_tres knows --gpus-per-node")
    else:
        lines += [
            f"  cpus_per_task: {max(1, min(4, kind.cpus))}  # {kind.cpus} cores a node",
            "  gpus_per_task: 0  # nodes without",
        ]
    return lines


def _preemption(mode: str) -> str:
    if "REQUEUE" in mode:
        return "preempted jobs save, come back and go on"
    if "CANCEL" in mode:
        return "preempted jobs save and end; `sokhan submit` again goes on"
    if "SUSPEND" in mode or "GANG" in mode:
        return "preempted jobs are halted, and keep their memory"
    return "jobs are not preempted"
