"""Ports at which the ranks of jobs meet."""

from __future__ import annotations

import socket

from configs.ports import free_port


def test_neighbouring_jobs_meet_in_different_places() -> None:
    ports = [free_port(str(job)) for job in range(4000, 4100)]
    assert len(set(ports)) == len(ports)
    assert all(20_000 <= port < 32_000 for port in ports)
    assert free_port("4000") == ports[0]


def test_a_port_that_is_taken_is_passed_over() -> None:
    wanted = free_port("123456")
    with socket.socket() as taken:
        taken.bind(("", wanted))
        other = free_port("123456")
    assert other != wanted
    assert free_port("123456") == wanted
