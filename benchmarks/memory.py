"""How much memory packing and reading take as a corpus grows.

    python -m benchmarks.memory [--quick] [--folder FOLDER]

Packing: the largest resident memory of the command and of its largest packing process. Reading:
what one process gains from opening the index and reading batches in random order, told apart into
memory of its own and pages of mapped files, which all processes of a machine share and the kernel
may take back. Every figure comes from fresh processes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from benchmarks.processes import memory, run

SIZES = {"speech": (200, 800), "text": (100_000, 1_000_000)}
QUICK = {"speech": (48, 96), "text": (4_000, 16_000)}
BATCHES = 200
ITEMS = 16


@dataclass(frozen=True)
class Packing:
    """Peak resident bytes of packing one corpus."""

    kind: str
    samples: int
    command: int
    own: int
    """Of the command, without mapped files."""
    worker: int
    """Of the largest packing process."""
    seconds: float


@dataclass(frozen=True)
class Reading:
    """What one reading process gains, in bytes."""

    kind: str
    samples: int
    own: int
    mapped: int
    plan: int
    """Size of the epoch's plan, which the training process holds and reading ones do not."""


T = TypeVar("T", Packing, Reading)


def measure_packing(kind: str, samples: int, folder: Path) -> Packing:
    """Pack with two processes, in a process of its own."""
    result = run("benchmarks.memory", "--pack", kind, str(samples), str(folder))
    worker = max(result.children, default=0)
    return Packing(kind, samples, result.peak, result.own, worker, result.seconds)


def measure_reading(kind: str, samples: int, folder: Path) -> Reading:
    """Read batches of a packed corpus in a process of its own."""
    result = run("benchmarks.memory", "--read", kind, str(samples), str(folder))
    return Reading(kind, samples, **json.loads(result.output))


def _pack(kind: str, samples: int, folder: Path) -> None:
    from benchmarks.corpora import packed

    packed(kind, samples, folder, processes=2)


def _read(kind: str, samples: int, folder: Path) -> None:
    import numpy as np
    import soundfile  # noqa: F401  libraries are loaded before the measurement starts
    import torch.utils.data  # noqa: F401

    from benchmarks.corpora import collate, packed
    from data_shards.index import open_index
    from data_shards.plan import Batching, Entries, plan_epoch
    from data_shards.reader import MicroBatches, RankRequests, open_loader

    out = packed(kind, samples, folder)
    index = open_index(out)
    # A reading process is given requests: the plan is made here, and counted by itself.
    entries = Entries(np.arange(len(index)), np.zeros(len(index), np.int32))
    batching = Batching(1, items=ITEMS)
    lengths, shards = np.asarray(index.length), np.asarray(index.shard)
    plan = plan_epoch(entries, lengths, shards, seed=0, epoch=1, batching=batching)
    plan_bytes = sum(a.nbytes for a in (plan.rows, plan.copies, plan.offsets, plan.counted))
    del index, entries, lengths, shards
    before = memory()
    dataset, requests = MicroBatches(out, collate, None), RankRequests(plan, 1, 0, 1)
    most, batches = before, 0
    while batches < BATCHES:  # a small corpus is read again, so that all read as much
        for _batch in islice(open_loader(dataset, requests, 0, False), BATCHES - batches):
            batches += 1
            now = memory()
            most = {name: max(value, now.get(name, 0)) for name, value in most.items()}
    own, mapped = (max(0, most[name] - before[name]) for name in ("RssAnon", "RssFile"))
    print(json.dumps({"own": own, "mapped": mapped, "plan": plan_bytes}))


def table(packing: list[Packing], reading: list[Reading]) -> str:
    """Both measurements, with the growth from the smaller to the larger corpus of a kind."""
    mb = 1e6
    lines = ["packing    samples  command MB  own MB  worker MB  seconds"]
    lines += [
        f"{p.kind:8} {p.samples:9,} {p.command / mb:11.0f} {p.own / mb:7.0f}"
        f" {p.worker / mb:10.0f} {p.seconds:8.1f}"
        for p in packing
    ]
    lines += [growth("command", p, q, q.own - p.own) for p, q in _pairs(packing)]
    lines += ["", "reading    samples      own MB  mapped MB  plan MB"]
    lines += [
        f"{r.kind:8} {r.samples:9,} {r.own / mb:11.1f} {r.mapped / mb:10.1f} {r.plan / mb:8.1f}"
        for r in reading
    ]
    lines += [growth("reading process", p, q, q.own - p.own) for p, q in _pairs(reading)]
    return "\n".join(lines)


def growth(what: str, small: Packing | Reading, large: Packing | Reading, gained: int) -> str:
    """One line on what a larger corpus costs."""
    more = large.samples - small.samples
    return (
        f"  {large.kind}: {large.samples / small.samples:.0f} x the samples: {what} "
        f"{gained / 1e6:+.1f} MB, {gained / more:.0f} bytes for each one more"
    )


def _pairs(rows: list[T]) -> list[tuple[T, T]]:
    return [(a, b) for a, b in zip(rows, rows[1:], strict=False) if a.kind == b.kind]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small corpora, for a check")
    parser.add_argument("--folder", type=Path, help="keep the packed corpora there")
    for name in ("--pack", "--read"):
        parser.add_argument(name, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for job, work in ((options.pack, _pack), (options.read, _read)):
        if job:
            work(job[0], int(job[1]), Path(job[2]))
            return
    sizes = QUICK if options.quick else SIZES
    cases = [(kind, samples) for kind, each in sizes.items() for samples in each]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        packing, reading = [], []
        for kind, samples in cases:
            print(f"{kind}: {samples:,} samples", file=sys.stderr, flush=True)
            packing.append(measure_packing(kind, samples, folder))
            reading.append(measure_reading(kind, samples, folder))
        print(table(packing, reading))


if __name__ == "__main__":
    main()
