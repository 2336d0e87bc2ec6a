"""Copying shards to every node's own disk, all ranks together."""

from __future__ import annotations

from pathlib import Path

from data_shards.index import ShardIndex
from data_shards.staging import stage_shards
from trainers.ranks.beside import beside
from trainers.ranks.world import World


def stage(index: ShardIndex, folder: str, world: World) -> Path:
    """This node's copy of the shards. A collective call; raises as ``beside`` does."""
    return beside(world, lambda stop: stage_shards(index, folder, stop), "the shards were still being copied")
