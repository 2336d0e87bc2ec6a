"""Digests of some plans, computed once: every NumPy version and processor must give them.

``python tests/data_shards/plan_digests.py`` checks them without pytest or any other package;
``--print`` prints what they are now.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from data_shards.plan import Batching, Entries, plan_epoch, plan_evaluation, select_entries

DIGESTS: dict[str, str] = {
    "fixed": "629da047fda131cd3af31813831227b23f3eb01edf4e4f57c708a2b68f4b273b",
    "buckets": "82eaca943f173fa9c96eec077f1628fa1fa1fe3478d5a10a699e868c1057cfad",
    "fixed lanes": "6aa3fff689024bb9da242b90e7367c47698decc3fc2e5df5bf68939e44e46c2f",
    "bucket lanes": "b09fb980f482824dcfb747c7ce0047bf4f34b03607c7f546a0e2f112a4ccb6c2",
    "evaluation": "a765dc988bc4adf65bcd53b1009787ad9a66797f6ac13f2a5d0e0eee21aaf501",
}

CASES: dict[str, Batching] = {
    "fixed": Batching(4, items=30),
    "buckets": Batching(4, budget=3000),
    "fixed lanes": Batching(4, items=30, window=300),
    "bucket lanes": Batching(3, budget=3000, window=300),
}


def compute(name: str) -> str:
    """The digest of one case, on lengths full of ties."""
    n = 1500
    lengths = 20 + (np.arange(n, dtype=np.int64) * 7919 % 401) // 4
    labels = (np.arange(n) % 11 > 6).astype(np.int64) + (np.arange(n) % 13 == 0)
    if name == "evaluation":
        entries = Entries(np.arange(n, dtype=np.int64), np.zeros(n, np.int32))
        return plan_evaluation(entries, lengths, items=7, micro_batches=4).digest()
    entries = select_entries(np.arange(n, dtype=np.int64), labels, "reference", seed=5)
    shards = np.arange(n) // 40
    return plan_epoch(entries, lengths, shards, seed=7, epoch=2, batching=CASES[name]).digest()


def main() -> int:
    """Exit code 1 if any digest differs."""
    if "--print" in sys.argv:
        for name in [*CASES, "evaluation"]:
            print(f'    "{name}": "{compute(name)}",')
        return 0
    wrong = [name for name, digest in DIGESTS.items() if compute(name) != digest]
    print(f"NumPy {np.__version__}: {len(DIGESTS) - len(wrong)} passed, {len(wrong)} failed")
    for name in wrong:
        print(f"plan {name!r} differs from its stored digest")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
