"""Encoding samples in a pool of processes: ordered, bounded, and clean when something fails."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any

from configs.errors import InputError
from data_shards.sample import AudioFormat, EncodedSample, Sample, encode_sample

Load = Callable[[Any], Sample]
Key = Callable[[Any], str]


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
    load: Load,
    key: Key,
    items: Iterator[Any],
    audio_format: AudioFormat,
    processes: int,
    chunk: int,
) -> Iterator[EncodedSample]:
    """Encode ``items`` in order, ``chunk`` at a time, with at most two chunks a process in flight.

    Raises the first InputError in the order of ``items``, and InputError where a process died.
    Closing the generator ends the processes.
    """
    workers: list[_Worker] = []
    dealt = taken = 0
    try:
        while True:
            while dealt < taken + 2 * processes and (batch := list(islice(items, chunk))):
                if len(workers) < processes:
                    with _interrupts_held():
                        workers.append(_start_worker(load, key, audio_format))
                with _death_told():
                    workers[dealt % processes].pipe.send(batch)
                dealt += 1
            if taken == dealt:
                return
            with _death_told():
                encoded, problem = workers[taken % processes].pipe.recv()
            if problem is not None:
                raise problem
            taken += 1
            yield from encoded
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join()
            worker.pipe.close()


@dataclass(frozen=True)
class _Worker:
    """A packing process and our end of its own pipe.

    Nothing is shared between workers: where they write into one queue, as those of
    ProcessPoolExecutor do, one that is killed in the middle of an answer has the reader wait for the
    rest for ever. Here the kernel closes the pipe's other end with its process.
    """

    process: BaseProcess
    pipe: Connection


def _start_worker(load: Load, key: Key, audio_format: AudioFormat) -> _Worker:
    # spawn: the packing process may have threads (torch, tqdm), which forks do not survive
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (theirs, load, key, audio_format)
    process = context.Process(target=_work, args=arguments, daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


@contextmanager
def _death_told() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError):
        raise InputError(
            "a packing process was killed, most likely for lack of memory; pack with fewer processes"
        ) from None


def _work(pipe: Connection, load: Load, key: Key, audio_format: AudioFormat) -> None:
    """What a packing process does until it is ended or the one that packs is gone."""
    # One thread each: the processes are the parallelism. Read by OpenMP when torch is imported.
    os.environ["OMP_NUM_THREADS"] = "1"
    for number in (signal.SIGINT, signal.SIGTERM):  # may reach all processes; the parent decides
        signal.signal(number, signal.SIG_IGN)
    batches: SimpleQueue[list[Any]] = SimpleQueue()
    answer: tuple[list[EncodedSample], Exception | None]
    threading.Thread(target=_receive, args=(pipe, batches), daemon=True).start()
    while True:
        batch = batches.get()
        try:
            answer = [encode_one(load, key, item, audio_format) for item in batch], None
        except InputError as error:
            answer = [], error
        except Exception as error:
            error.add_note(traceback.format_exc())  # a traceback does not travel, its text does
            answer = [], error
        with contextlib.suppress(OSError):  # the parent is gone: the other thread ends this process
            pipe.send(answer)


def _receive(pipe: Connection, batches: SimpleQueue[list[Any]]) -> None:
    """Take batches in whatever else happens: the parent may send one while an answer, too large for
    the pipe, waits for it to read. At the parent's end, however it comes, this process ends."""
    try:
        while True:
            batches.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(1)


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
