"""Fixtures that several packages' tests share: small packed corpora and reusable ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ranks import RankPool

REPOSITORY = Path(__file__).resolve().parents[1]
SLURM = Path(__file__).parent / "slurm"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What `make test` may run side by side: files, but of those that share a cluster one at a time. They
    mostly wait, and take longest, so they start first."""
    items.sort(key=lambda item: SLURM not in item.path.parents)
    for item in items:
        group = SLURM if SLURM in item.path.parents else item.path
        item.add_marker(pytest.mark.xdist_group(str(group)))


@pytest.fixture(scope="session")
def speech_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 short generated clips with splits ``speaker`` and ``reference``."""
    from data_shards.corpora.synthetic_speech import synthetic_shemo
    from data_shards.index import open_index
    from data_shards.pack import PackSettings, pack
    from data_shards.protocols import reference_split, speaker_splits
    from data_shards.splits import save_split

    out = tmp_path_factory.mktemp("speech") / "shards"
    pack(synthetic_shemo(96, seed=1, seconds_scale=0.2), out, PackSettings(processes=1))
    index = open_index(out)
    for split in [*speaker_splits(index), reference_split(index)]:
        save_split(index, split)
    return out


@pytest.fixture(scope="session")
def text_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """180 generated pairs, without hazm's steps, with the split ``official``."""
    from data_shards.corpora.synthetic_text import synthetic_farstail
    from data_shards.index import open_index
    from data_shards.pack import PackSettings, pack
    from data_shards.protocols import official_split
    from data_shards.splits import save_split
    from data_shards.text import TextSteps

    out = tmp_path_factory.mktemp("text") / "shards"
    corpus = synthetic_farstail(180, seed=1, steps=TextSteps(False, False, False))
    pack(corpus, out, PackSettings(processes=1))
    index = open_index(out)
    save_split(index, official_split(index))
    return out


@pytest.fixture(scope="session")
def ranks() -> Iterator[Callable[[int], RankPool]]:
    """``ranks(2)`` is a pool of two ranks, started at its first use."""
    pools: dict[int, RankPool] = {}

    def pool(size: int) -> RankPool:
        if size not in pools:
            pools[size] = RankPool(size)
        return pools[size]

    yield pool
    for opened in pools.values():
        opened.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real corpora beside the checkout; tests that need them are skipped where there are none."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real corpora at {folder}")
    return folder
