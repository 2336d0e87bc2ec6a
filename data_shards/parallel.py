"""Encoding samples in a pool of processes: ordered, bounded, and clean when something fails."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import wait
from typing import Any

from configs.errors import InputError
from data_shards.sample import AudioFormat, EncodedSample, Sample, encode_sample

Load = Callable[[Any], Sample]
Key = Callable[[Any], str]

_job: tuple[Load, Key, AudioFormat] | None = None
"""What this packing process does; set when it starts."""


def cores() -> int:
    """Cores this process may use, which on a cluster is what the job was given."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def encode_one(load: Load, key: Key, item: Any, audio_format: AudioFormat) -> EncodedSample:
    """Load and encode one sample; other errors than InputError are told with the sample's key."""
    try:
        sample = load(item)
        assert sample.key == key(item), f"loaded as {sample.key!r}"
        return encode_sample(sample, audio_format)
    except InputError:
        raise
    except Exception as error:
        raise RuntimeError(f"sample {key(item)!r}: {type(error).__name__}: {error}") from error


def encode_in_pool(
    load: Load, key: Key, items: Iterator[Any], audio_format: AudioFormat, processes: int,
    chunk: int,
) -> Iterator[EncodedSample]:  # fmt: skip
    """Encode ``items`` in order, ``chunk`` at a time, with at most two chunks a process in flight.

    Raises the first InputError in the order of ``items``, and InputError where a process died.
    Closing the generator ends the processes.
    """
    # spawn: the packing process may have threads (torch, tqdm), which forks do not survive
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), _start, (load, key, audio_format)
    )
    flying: deque[Future[list[EncodedSample]]] = deque()

    def top_up() -> None:
        while len(flying) < 2 * processes and (batch := list(islice(items, chunk))):
            with _interrupts_held():
                flying.append(pool.submit(_encode_chunk, batch))

    try:
        top_up()
        while flying:
            encoded = flying.popleft().result()
            top_up()
            yield from encoded
    except BrokenProcessPool:
        raise InputError(
            "a packing process was killed, most likely for lack of memory; "
            "pack with fewer processes"
        ) from None
    except InputError as error:
        raise InputError(str(error)) from None  # without the pool's traceback
    finally:
        if flying:  # stopped early: do not wait for work that nobody wants
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _start(load: Load, key: Key, audio_format: AudioFormat) -> None:
    """Set up a packing process."""
    global _job
    # One thread each: the processes are the parallelism. Read by OpenMP when torch is imported.
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _job = (load, key, audio_format)


def _leave_with_parent() -> None:
    """End this process with its parent, even if that is killed: the pool's queue would not tell."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _encode_chunk(items: list[Any]) -> list[EncodedSample]:
    assert _job is not None
    load, key, audio_format = _job
    return [encode_one(load, key, item, audio_format) for item in items]


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back while processes start, and deliver them afterwards.

    A handler that raised in between would leave a process half-started, which then prints a
    traceback. The mask is for the new processes, which inherit it; it does not keep the handler
    from running here, as the signal may reach another thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    noted: list[tuple[int, Any]] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {n: signal.signal(n, lambda *signalled: noted.append(signalled)) for n in numbers}
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for signalled, frame in noted[:1]:
            handler = handlers[signal.Signals(signalled)]
            if callable(handler):
                handler(signalled, frame)
            elif handler == signal.SIG_DFL:
                os.kill(os.getpid(), signalled)
