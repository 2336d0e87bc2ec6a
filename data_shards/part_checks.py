"""Whether a part of a corpus, packed by itself, is the one that is wanted, and whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from configs.errors import InputError
from data_shards.corpora.corpus import Corpus
from data_shards.index import ShardIndex, digest_of, open_index
from data_shards.join_columns import column_names
from data_shards.pack import Layout, Progress
from data_shards.writer import sha256_of


def identity(layout: Layout, part: int, parts: int) -> dict[str, Any]:
    """What a part's index keeps as its settings. As JSON gives it back, to be compared."""
    identity = {"part": part, "parts": parts, "keys": layout.keys, "packing": layout.facts}
    return json.loads(json.dumps(identity))  # type: ignore[no-any-return]


def check_identity(index: ShardIndex, corpus: Corpus, layout: Layout, part: int, parts: int) -> None:
    """Raise InputError unless a part is the one wanted: parts of different settings, or of a corpus
    that has changed meanwhile, would make a corpus that nobody has packed."""
    manifest, wanted = index.manifest, identity(layout, part, parts)
    packed = manifest.settings
    was, now = packed.get("packing"), wanted["packing"]
    if manifest.corpus != corpus.name or not isinstance(was, dict):
        problem = f"it is of corpus {manifest.corpus}, not {corpus.name}"
    elif was != now:
        key = next(key for key in sorted({*was, *now}) if was.get(key) != now.get(key))
        problem = f"it was packed with {key} {was.get(key)!r}, which is {now.get(key)!r} now"
    elif packed.get("keys") != wanted["keys"]:
        problem = "the corpus had other samples then"
    elif packed != wanted:
        problem = f"it is part {packed.get('part')} of {packed.get('parts')}, not part {part} of {parts}"
    else:
        return
    raise InputError(f"{index.root}: {problem}; remove {index.root.parent} to pack all parts anew")


def check_contents(parts: Sequence[ShardIndex], threads: int, progress: Progress | None) -> None:
    """Raise InputError naming the first part whose shards or columns are not what its index says."""
    for part in parts:
        try:
            columns = {name: part.column(name) for name in column_names(part)}
        except InputError as error:
            raise damaged(part.root, _cause(part.root, error)) from None
        if digest_of(columns) != part.manifest.digest:
            raise damaged(part.root, "its columns do not have their SHA-256")
    shards = [(part, shard) for part in parts for shard in part.manifest.shards]
    pool = ThreadPoolExecutor(threads)
    try:
        sums = pool.map(lambda pair: sha256_of(pair[0].root / pair[1].name), shards)
        for done, ((part, shard), found) in enumerate(zip(shards, sums, strict=True), 1):
            if found != shard.sha256:
                raise damaged(part.root, f"{shard.name} does not have its SHA-256")
            if progress is not None:
                progress(done, len(shards))
    finally:
        pool.shutdown(cancel_futures=True)


def open_part(path: Path) -> ShardIndex:
    """The index of a part that must be there. Raises InputError that says how to mend it."""
    try:
        return open_index(path)
    except InputError as error:
        raise damaged(path, _cause(path, error)) from None


def damaged(path: Path, what: str) -> InputError:
    """What to tell of a damaged part."""
    number = int(path.name.rpartition("-")[2])
    return InputError(f"{path}: damaged ({what}); remove that folder and pack part {number} again")


def _cause(path: Path, error: InputError) -> str:
    """An index's complaint without its advice, which is for whole corpora."""
    return (str(error).rpartition(";")[0] or str(error)).removeprefix(f"{path}: ")
