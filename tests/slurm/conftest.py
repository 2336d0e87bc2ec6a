"""Clusters that the tests of this folder share; skipped with the reason where none can run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.needs import need


@pytest.fixture(scope="session")
def _shared_cluster() -> Iterator[Cluster]:
    need()
    with Cluster() as running:
        yield running


@pytest.fixture
def cluster(_shared_cluster: Cluster) -> Iterator[Cluster]:
    """Two nodes of 8 CPUs, linuxproc, no accounting; no jobs at the start nor at the end."""
    yield _shared_cluster
    _shared_cluster.clear()


@pytest.fixture(scope="session")
def _shared_accounting_cluster() -> Iterator[Cluster]:
    need(accounting=True)
    with Cluster(accounting=True) as running:
        yield running


@pytest.fixture
def accounting_cluster(_shared_accounting_cluster: Cluster) -> Iterator[Cluster]:
    """As ``cluster``, with slurmdbd."""
    yield _shared_accounting_cluster
    _shared_accounting_cluster.clear()


@pytest.fixture(scope="session")
def _shared_cgroup_cluster() -> Iterator[Cluster]:
    need(cgroup=True)
    with Cluster(proctrack="cgroup") as running:
        yield running


@pytest.fixture
def cgroup_cluster(_shared_cgroup_cluster: Cluster) -> Iterator[Cluster]:
    """As ``cluster``, with proctrack/cgroup."""
    yield _shared_cgroup_cluster
    _shared_cgroup_cluster.clear()
