"""A damaged checkpoint is named and not used, whoever damaged it; nothing that was planted runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.damage import (
    DAMAGES,
    NEWEST,
    OLDER,
    make_run,
    try_damages,
)
from tests.ranks import RankPool

Ranks = Callable[[int], RankPool]
COUNT = 500


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run whose best weights are the newest checkpoint's, one whose are the older one's."""
    folder = tmp_path_factory.mktemp("runs")
    return {best: make_run(folder / best, best) for best in (OLDER, NEWEST)}


def test_500_random_damages(ranks: Ranks, bases: dict[str, Path], tmp_path: Path) -> None:
    outcomes = []
    for first in range(0, COUNT, 50):
        numbers = range(first, first + 50)
        outcomes += ranks(1).run(try_damages, bases, tmp_path / "work", numbers)[0]
    wrong = [outcome for outcome in outcomes if outcome.problem]
    assert not wrong, f"{len(wrong)} of {len(outcomes)}, the first: {wrong[0]}"
    results = Counter(outcome.result for outcome in outcomes)
    print(f"{results['refused']} refused, {results['previous']} went on from the one before")
    assert results["refused"] + results["previous"] == COUNT
    assert min(results.values()) > COUNT // 4
    assert len({outcome.damage.split()[0] for outcome in outcomes}) == len(DAMAGES)
