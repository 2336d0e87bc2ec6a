"""What the comment at the head of a recipe or grid says: what it is for, and the commands before it."""

from __future__ import annotations

import re
import textwrap
from itertools import takewhile
from pathlib import Path

from configs.load import FOLDER, shipped_recipes

_LONGEST = 110
"""Characters of a sentence in a list."""


def first_sentence(file: Path) -> str:
    """Of the comment at the head of a YAML file: what it is for, without what stands in brackets, and
    cut where it is very long."""
    lines = takewhile(lambda line: line.startswith("# "), file.read_text(encoding="utf-8").splitlines())
    text = re.sub(r" \([^)]*\)", "", " ".join(line.removeprefix("# ") for line in lines))
    return textwrap.shorten(re.split(r"\.(?: |$)", text)[0], _LONGEST, placeholder=" ...")


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
