"""Pack a corpus slowly in a process of its own, to be interrupted or to lose a worker.

Usage: python -m tests.data_shards.slow_corpus OUT DEADLY, where DEADLY is the item whose worker is
killed (-1: none). Prints "packing" when the first sample is done.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from configs.errors import InputError
from data_shards.corpora.corpus import Corpus
from data_shards.pack import PackInterrupted, PackSettings, pack
from data_shards.sample import Sample, TextPair


def load(number: int, deadly: int) -> Sample:
    """A pair after a few milliseconds."""
    if number == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.005)
    return Sample(key_of(number), "e", text=TextPair("a", "b", "a", "b"))


def key_of(number: int) -> str:
    """The key of an item."""
    return f"row-{number:05d}"


def main(out: Path, deadly: int) -> None:
    """Pack, printing one line on errors as a command would."""
    corpus = Corpus("slow", "text", False, range(5000), partial(load, deadly=deadly), key_of, settings={})

    def progress(done: int, total: int) -> None:
        if done == 1:
            print("packing", flush=True)

    try:
        pack(corpus, out, PackSettings(processes=2, overwrite=True), progress)
    except (InputError, PackInterrupted) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
