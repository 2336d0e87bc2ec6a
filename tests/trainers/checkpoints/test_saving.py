"""A save that is under way when training ends by an error."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import trainers.checkpoints.saving
from configs.schema import CheckpointConfig
from tests.faults.damage import facts_of
from tests.ranks import RankPool
from trainers.checkpoints.checkpoint import CHECKPOINTS, Checkpoint, commit
from trainers.checkpoints.saving import Flags, Saver
from trainers.checkpoints.sharding import WEIGHTS, Piece
from trainers.ranks.world import World

FIRST, NEXT = "step-10-evaluated", "step-20-evaluated"


def save_and_fail(world: World, run: Path, after: int) -> list[str]:
    """A whole checkpoint; then training fails in the given phase of another one's save. Returns what
    lies there, each checkpoint found whole."""

    def late(*arguments: Any) -> None:
        time.sleep(0.5)
        commit(*arguments)

    # With room for one only, the older one is deleted as soon as the newer one has its name.
    saver = Saver(run, world, CheckpointConfig(keep=1), "test")
    piece = Piece(WEIGHTS, "w", (300,), 0, torch.randn(300))
    saver.start(FIRST, 10, [piece], facts_of(FIRST, FIRST), time.monotonic())
    saver.wait()
    trainers.checkpoints.saving.commit = late
    try:
        saver.start(NEXT, 20, [piece], facts_of(NEXT, NEXT), time.monotonic())
        while after and not saver.flags().written:
            time.sleep(0.01)
        saver.advance(Flags(written=float(after)))
        saver.abandon()
    finally:
        trainers.checkpoints.saving.commit = commit
    for path in (run / CHECKPOINTS).glob("step-*"):
        Checkpoint(path).verify()
    return sorted(path.name for path in (run / CHECKPOINTS).iterdir())


def test_a_save_under_way_is_not_cut_in_two(ranks: Callable[[int], RankPool], tmp_path: Path) -> None:
    """The thread that gives a checkpoint its name is let finish; what has no name yet goes."""
    assert ranks(1).run(save_and_fail, tmp_path / "writing", 0) == [[FIRST]]
    assert ranks(1).run(save_and_fail, tmp_path / "committing", 1) == [[NEXT]]
