"""Where ranks meet: a port of the first node that nobody else there takes meanwhile."""

from __future__ import annotations

import socket

_FIRST, _COUNT = 20_000, 12_000
"""Below the ports that Linux hands out to connections."""


def free_port(job: str) -> int:
    """A port that is free on this machine. Jobs (or processes) with neighbouring numbers, which are those
    that start on a node at the same time, look in different places."""
    start = int("".join(filter(str.isdigit, job)) or "0")
    for step in range(_COUNT):
        port = _FIRST + (start + step * 101) % _COUNT
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port from {_FIRST} to {_FIRST + _COUNT}")
