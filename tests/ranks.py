"""Ranks that are started once and reused: importing torch and DeepSpeed costs more than most tests.

``RankPool(n).run(function, *arguments)`` runs a module-level function on every rank with the
``World`` as its first argument and returns all results in rank order.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

PATIENCE = 240
"""Seconds after which a job that hangs is given up."""


class RankPool:
    """``size`` processes in one process group."""

    def __init__(self, size: int) -> None:
        self.size = size
        context = multiprocessing.get_context("spawn")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._pipes: list[Connection] = []
        self._processes = []
        for rank in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, size, port, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Results in rank order; the first failure's traceback is raised."""
        for pipe in self._pipes:
            pipe.send((function, arguments))
        answers = []
        for rank, pipe in enumerate(self._pipes):
            if not pipe.poll(PATIENCE):
                self.close()
                raise TimeoutError(f"rank {rank} of {self.size} did not answer")
            try:
                answers.append(pipe.recv())
            except EOFError:
                self.close()
                raise RuntimeError(f"rank {rank} of {self.size} died") from None
        problems = [problem for problem, _ in answers if problem]
        if problems:
            raise RuntimeError(problems[0])
        return [result for _, result in answers]

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(2)
            if process.is_alive():
                process.kill()
                process.join()


def _serve(rank: int, size: int, port: int, pipe: Connection) -> None:
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(size),
        LOCAL_RANK=str(rank),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        DS_ACCELERATOR="cpu",
        WANDB_MODE="offline",
        OMP_NUM_THREADS="1",
        TOKENIZERS_PARALLELISM="false",
        TORCH_CPP_LOG_LEVEL="ERROR",
    )
    import torch

    from trainers.ranks.world import join_world

    torch.set_num_threads(1)
    world = join_world()
    while True:
        try:
            function, arguments = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)  # the tests are over; no exit handlers of libraries
        try:
            answer = (None, function(world, *arguments))
        except BaseException:
            answer = (traceback.format_exc(), None)
        pipe.send(answer)
