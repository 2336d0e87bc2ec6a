"""Whether a finished run was made from what lies at its paths today: paths stay, what they hold may not."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from configs.pretrained import folder_digest, read_pretrained


def changed_input(run: Path) -> str:
    """What has changed since a finished run read it: "shards", "split", "model.pretrained", or nothing.
    Folders that are gone, and runs that do not say what they read, tell nothing."""
    start = read_pretrained(run)
    if start and _digest(start[0]) not in (None, start[1]):
        return "model.pretrained"
    try:
        read = json.loads((run / "data.json").read_text(encoding="utf-8"))
        root, name = Path(read["shards"]), read["split"]
        shards, split = read["digest"], read["split_digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    now = _digests(root, name)
    if now is None or now == (shards, split):
        return ""
    return "shards" if now[0] != shards else "split"


@lru_cache(maxsize=64)
def _digest(folder: Path) -> str | None:
    """Of a model folder; None where it is not there."""
    try:
        return folder_digest(folder)
    except OSError:
        return None


@lru_cache(maxsize=64)
def _digests(root: Path, split: str) -> tuple[str, str] | None:
    """Of the corpus and of the split's table; None where they are not there."""
    from data_shards.index import MANIFEST
    from data_shards.splits import table_digest

    try:
        digest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError):
        return None
    table = table_digest(root, split)
    return (str(digest), table) if table else None
