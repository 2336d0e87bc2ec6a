"""Collating functions that reading processes can import."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any

from data_shards.reader import Item, Request


def as_it_is(request: Request, items: Sequence[Item]) -> tuple[Any, ...]:
    """All there is to know of a micro-batch, in plain values."""
    where = (request.epoch, request.step, request.micro_batch, request.counted)
    facts = [
        (item.row, item.label, item.text, None if item.audio is None else item.audio.tobytes())
        for item in items
    ]
    return (*where, facts)


def deadly(request: Request, items: Sequence[Item]) -> tuple[int, int]:
    """Like a process that the kernel kills for lack of memory, in the third step."""
    if request.step == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return request.step, len(items)
