"""How fast batches are read, against peers in the same run; and what planning an epoch costs.

    python -m benchmarks.reading [--quick] [--folder FOLDER]

One process, data in the page cache: what is compared is the work a reader does for a batch, not a
disk. The peers read the same bytes: the ``webdataset`` package goes through the shards in order,
without shuffling; loose files are opened one by one in random order, as most datasets do. Ours
reads in the random order of a plan, from the shards. All decode and pad alike.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpora import collate, packed, pad
from benchmarks.processes import memory, run
from data_shards.index import open_index
from data_shards.plan import Batching, Entries, EpochPlan, permutation, plan_epoch
from data_shards.reader import MicroBatches, RankRequests, open_loader
from data_shards.sample import decode_audio, decode_text

SIZES = {"speech": 800, "text": 20_000}
QUICK = {"speech": 48, "text": 2_000}
ITEMS = {"speech": 8, "text": 64}
PLANS = (1_000_000, 10_000_000)
Batches = Iterator[int]
"""The number of samples of each batch as it is read."""


def read_ours(root: Path, items: int) -> Batches:
    """Plan, read, check, decode, pad."""
    index = open_index(root)
    entries = Entries(np.arange(len(index)), np.zeros(len(index), np.int32))
    plan = plan_epoch(entries, index.length, index.shard, seed=0, epoch=1, batching=Batching(1, items=items))
    dataset = MicroBatches(root, collate, None)
    for _, count in open_loader(dataset, RankRequests(plan, 1, 0, 1), workers=0, pin=False):
        yield count


def read_webdataset(root: Path, items: int) -> Batches:
    """The ``webdataset`` package, in shard order, with explicit decoders."""
    import webdataset

    manifest = open_index(root).manifest
    urls = [str(root / shard.name) for shard in manifest.shards]
    samples: Any = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)
    batch: list[Any] = []
    for sample in samples:
        facts = json.loads(sample["json"])  # holds the label, which the index tells us
        batch.append(decode_audio(sample["wav"]) if manifest.kind == "audio" else facts)
        if len(batch) == items:
            yield _finish(batch)
            batch = []
    if batch:
        yield _finish(batch)


def read_files(folder: Path, items: int) -> Batches:
    """Loose files in random order; their labels would come from a table."""
    paths = sorted(folder.iterdir())
    order = permutation(len(paths), 0).tolist()
    for start in range(0, len(order), items):
        chosen = [paths[n] for n in order[start : start + items]]
        if chosen[0].suffix == ".wav":
            yield _finish([decode_audio(path.read_bytes()) for path in chosen])
        else:
            yield _finish([vars(decode_text(path.read_bytes())) for path in chosen])


def _finish(batch: list[Any]) -> int:
    if isinstance(batch[0], np.ndarray):
        return len(pad(batch))
    return len([f"{one['premise']} {one['hypothesis']}" for one in batch])


def loose_files(root: Path) -> Path:
    """The payloads of a shard folder as files beside it."""
    folder = root.with_name(f"{root.name}-files")
    if not folder.exists():
        folder.mkdir()
        payload = open_index(root).manifest.payload
        for path in root.glob("*.tar"):
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.name.endswith(payload):
                        content = tar.extractfile(member)
                        assert content is not None
                        (folder / member.name).write_bytes(content.read())
    return folder


def throughput(kind: str, samples: int, folder: Path, rounds: int) -> list[str]:
    """Samples a second and time to the first batch of each reader: medians, readers in turn."""
    root = packed(kind, samples, folder)
    files = loose_files(root)
    items = ITEMS[kind]
    readers: dict[str, Callable[[], Batches]] = {
        "sokhan, random order": lambda: read_ours(root, items),
        "webdataset, in order": lambda: read_webdataset(root, items),
        "loose files, random order": lambda: read_files(files, items),
    }
    rates: dict[str, list[float]] = {name: [] for name in readers}
    firsts: dict[str, list[float]] = {name: [] for name in readers}
    for attempt in range(rounds + 1):
        for name, reader in readers.items():
            start = time.perf_counter()
            batches = reader()
            count = next(batches)
            first = time.perf_counter() - start
            count += sum(batches)
            assert count == samples, f"{name}: read {count} of {samples} samples"
            if attempt:  # the first round fills caches and imports libraries
                rates[name].append(count / (time.perf_counter() - start))
                firsts[name].append(first)
    ours = median(rates["sokhan, random order"])
    lines = [f"{kind}, {samples:,} samples", "  samples/s  range          ratio  first batch ms"]
    for name in readers:
        rate, span = median(rates[name]), f"{min(rates[name]):.0f}-{max(rates[name]):.0f}"
        lines.append(
            f"  {rate:9.0f}  {span:13}  {rate / ours:5.2f}  {median(firsts[name]) * 1e3:9.1f}  {name}"
        )
    return lines


def speech_lengths(count: int) -> NDArray[np.int64]:
    """(count,) lengths in frames of 20 ms, spread like ShEMO's: median 3.1 s, 95 % below 10.8 s."""
    rng = np.random.Generator(np.random.PCG64(0))
    seconds = 3.1 * np.exp(np.log(10.8 / 3.1) / 1.6449 * rng.standard_normal(count))
    return (np.clip(seconds, 0.4, 33.3) * 50).astype(np.int64)


def padding(plan: EpochPlan, lengths: NDArray[np.int64]) -> float:
    """Share of padding in all batches of a plan."""
    ends = zip(plan.offsets.tolist(), plan.offsets[1:].tolist(), strict=False)
    pieces = [lengths[plan.rows[a:b]] for a, b in ends]
    return 1 - sum(int(p.sum()) for p in pieces) / sum(int(p.max()) * len(p) for p in pieces)


def padding_table() -> list[str]:
    """Random batches against buckets of about the same size, on lengths like ShEMO's."""
    lengths = speech_lengths(3000)
    entries, shards = Entries(np.arange(3000), np.zeros(3000, np.int32)), np.zeros(3000, np.int32)
    lines = ["padding on 3,000 clips with lengths like ShEMO's", "  clips  random  buckets"]
    for items in (8, 16, 32):
        budget = int(items * lengths.mean())
        shares = [
            padding(plan_epoch(entries, lengths, shards, seed=0, epoch=1, batching=cut), lengths)
            for cut in (Batching(1, items=items), Batching(1, budget=budget))
        ]
        lines.append(f"  {items:5}  {shares[0]:6.1%}  {shares[1]:7.1%}")
    return lines


def planning(kind: str, entries: int) -> str:
    """One line: time and memory of planning an epoch, in a process of its own."""
    result = run("benchmarks.reading", "--plan", kind, str(entries))
    facts = json.loads(result.output)
    return (
        f"  {entries:11,}  {kind:7}  {facts['seconds']:7.2f}  {entries / facts['seconds']:11,.0f}"
        f"  {facts['bytes'] / entries:11.1f}  {facts['work'] / entries:10.0f}"
    )


def _plan(kind: str, count: int) -> None:
    entries = Entries(np.arange(count), np.zeros(count, np.int32))
    lengths, shards = speech_lengths(count), (np.arange(count) // 1000).astype(np.int32)
    cut = Batching(8, items=256) if kind == "fixed" else Batching(8, budget=32 * 250)
    before, start = memory()["VmRSS"], time.perf_counter()
    plan = plan_epoch(entries, lengths, shards, seed=0, epoch=1, batching=cut)
    seconds = time.perf_counter() - start
    size = sum(a.nbytes for a in (plan.rows, plan.copies, plan.offsets, plan.counted))
    work = max(0, memory()["VmHWM"] - before)
    print(json.dumps({"seconds": seconds, "bytes": size, "work": work}))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small corpora, for a check")
    parser.add_argument("--folder", type=Path, help="keep the packed corpora there")
    parser.add_argument("--plan", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plan:
        _plan(options.plan[0], int(options.plan[1]))
        return
    sizes = QUICK if options.quick else SIZES
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        for kind, samples in sizes.items():
            print(f"packing {samples:,} samples of {kind}", file=sys.stderr, flush=True)
            print("\n".join(throughput(kind, samples, folder, 2 if options.quick else 7)), "\n")
    print("\n".join(padding_table()), "\n")
    print("planning an epoch\n      entries  batches  seconds    entries/s  bytes/entry  while made")
    for entries in (20_000,) if options.quick else PLANS:
        for kind in ("fixed", "buckets"):
            print(planning(kind, entries), flush=True)


if __name__ == "__main__":
    main()
