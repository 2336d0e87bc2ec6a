"""A process that reads through reading processes, a batch for each line it is sent:
``python -m tests.data_shards.reads SHARDS COLLATE``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_shards.index import open_index
from data_shards.plan import EpochPlan
from data_shards.reader import Item, MicroBatches, RankRequests, Request, open_loader


def step_of(request: Request, items: Sequence[Item]) -> int:
    """The step is all that is told."""
    return request.step


def stuck(request: Request, items: Sequence[Item]) -> int:
    """Like a read from a file system that does not answer."""
    os.write(1, b"stuck\n")
    time.sleep(3600)
    return 0


def main() -> None:
    """One row a step; "close" gives the loader up, and the process leaves as ranks do; at the end of
    its input the process ends like any other, with the loader open."""
    root, collate = Path(sys.argv[1]), {"step_of": step_of, "stuck": stuck}[sys.argv[2]]
    n = len(open_index(root))
    offsets = np.arange(n + 1, dtype=np.int64)
    plan = EpochPlan(np.arange(n), np.zeros(n, np.int32), offsets, np.ones(n, np.bool_), 1)
    dataset = MicroBatches(root, collate, None)
    batches = open_loader(dataset, RankRequests(plan, 1, 0, 1), 2, pin=False)
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "close":
            del batches
            print("closed", flush=True)
            os._exit(0)
        print(next(batches), flush=True)


if __name__ == "__main__":
    # Not as __main__: a reading process must find the collating functions by name.
    from tests.data_shards import reads

    reads.main()
