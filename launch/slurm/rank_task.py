"""What a job's processes are at first: submitit's, which then become a rank, or a whole local start.

Pickled by submitit, so only plain values are kept; everything else is read from the submission.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from configs.lifetime import end_with_parent
from configs.rank_status import COMMAND, JOB, STATUS
from launch.slurm.batch import ATTEMPT
from launch.slurm.submission import Attempt, Submission


@dataclass(frozen=True)
class RankTask:
    """One rank of one member, started by srun."""

    submission: str
    member: int

    def __call__(self) -> NoReturn:
        """Become ``python -m trainers``: the scheduler's signals then reach the rank itself, and srun
        sees its exit code."""
        from submitit.helpers import TorchDistributedEnvironment

        from launch.slurm.guard import guard_script

        submission = Submission(Path(self.submission))
        attempt = Attempt(Path(os.environ[ATTEMPT]))
        os.environ["MASTER_PORT"] = str(attempt.start["port"])
        # DeepSpeed picks the GPU by LOCAL_RANK, so all of a node's must be visible.
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        member = submission.members[self.member]
        guard_script(submission, member, attempt)
        # slurmstepd may be killed, and SLURM then knows nothing of its tasks any more.
        end_with_parent(os.getppid())
        os.environ.update(
            {
                STATUS: str(attempt.folder),
                JOB: submission.start_id(member),
                COMMAND: member.command or submission.settings["command"],
            }
        )
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        os.environ.setdefault("DS_ACCELERATOR", "cuda" if submission.settings["gpus"] else "cpu")
        _become("trainers", "--config", str(member.recipe_file), *attempt.start["flags"])


@dataclass(frozen=True)
class LocalTask:
    """All ranks of one member on this machine, started by submitit's local executor."""

    submission: str
    member: int

    def __call__(self) -> NoReturn:
        """Become ``python -m launch.local_job``."""
        _become("launch.local_job", self.submission, str(self.member))


def _become(module: str, *arguments: str) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-u", "-m", module, *arguments])
