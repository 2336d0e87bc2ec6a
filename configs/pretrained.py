"""Which weights a run started from: paths stay, what they hold may not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

PRETRAINED = "pretrained.json"
"""In a run directory that started from a local folder: the folder and its digest."""
_CARD = "README.md"


def folder_digest(folder: Path) -> str:
    """16 hex digits over names and bytes of a model folder's files, its card left out. Raises OSError."""
    sha = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name != _CARD:
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            sha.update(f"{path.name}\0{content}\n".encode())
    return sha.hexdigest()[:16]


def read_pretrained(run: Path) -> tuple[Path, str] | None:
    """The folder that a run started from, and its digest then; None if it is not known."""
    try:
        document = json.loads((run / PRETRAINED).read_text(encoding="utf-8"))
        return Path(document["folder"]), str(document["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
