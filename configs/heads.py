"""Commands that stand in the comment at the head of a recipe or grid, for messages about what is missing."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

from configs.load import FOLDER, shipped_recipes


def command_that_makes(folder: str, file: Path | None) -> str:
    """The `sokhan` command, in the head of a YAML file, that writes ``folder``; empty: none does."""
    if file is None:
        return ""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    wanted = re.compile(rf"#\s+(sokhan .*--out {re.escape(folder)})(\s|$)")
    for line in takewhile(lambda line: line.startswith("#"), lines):
        if found := wanted.match(line):
            return found[1]
    return ""


def shipped_file(recipe: str) -> Path | None:
    """The file of a shipped recipe by the last part of its name, as runs are named; None: there is none."""
    found = [name for name in shipped_recipes() if name.rpartition("/")[2] == recipe]
    return (FOLDER / found[0]).with_suffix(".yaml") if found else None
