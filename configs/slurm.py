"""What a job asks of a SLURM cluster: typed settings in human units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


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
    failures: int = 10
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
