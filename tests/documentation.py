"""What the documentation's tests read and write: blocks of code, commands, the table of fields.

    python -m tests.documentation

writes the fields of ``configs/schema.py`` into ``docs/recipes.md`` and those of ``configs/slurm.py``
into ``docs/slurm.md``; a test tells when that is due.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import shlex
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs import analysis, models, schema, slurm

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("**/*.md")
)
_START = "<!-- fields: written by `python -m tests.documentation` -->\n"
_END = "<!-- end of fields -->\n"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    """Of the opening fence, from 1."""
    language: str
    text: str
    not_run: bool
    """Marked ``<!-- not run: reason -->``."""
    cluster: bool
    """Marked ``<!-- cluster -->``: run on the test cluster, by tests/slurm."""

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.page.name}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The words of each command of a shell block."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    found: list[Block] = []
    opened: tuple[int, str] | None = None
    body: list[str] = []
    before = ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if opened is None and line.startswith("```"):
            opened, body = (number, line[3:].strip()), []
        elif opened is not None and line == "```":
            not_run = re.fullmatch(r"<!-- not run: \S.* -->", before) is not None
            text = "\n".join(body) + "\n"
            found.append(Block(page, *opened, text, not_run, before == "<!-- cluster -->"))
            opened, before = None, ""
        elif opened is not None:
            body.append(line)
        elif line.strip():
            before = line.strip()
    assert opened is None, f"{page.name}: a block is not closed"
    return found


def prose(page: Path) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def cluster_table() -> str:
    """Markdown: what can be asked of a cluster."""
    return _table("Settings", "slurm", slurm.SlurmConfig, _docstrings(slurm))


def recipe_tables() -> str:
    """Markdown: a heading and a table for each section of a recipe, in the schema's words."""
    documents = {**_docstrings(schema), **_docstrings(models), **_docstrings(analysis)}
    shared = [f.name for f in dataclasses.fields(schema.Recipe)]
    parts = [_table("every recipe", "", schema.Recipe, documents)]
    for owner, only in (
        (schema.Recipe, shared),
        (schema.EmotionRecipe, ["model", "analysis"]),
        (schema.NliRecipe, ["model", "analysis"]),
        (schema.MlmRecipe, ["model"]),
    ):
        for key, section in _sections(owner, only):
            task = "" if owner is schema.Recipe else f"task: {owner().task}"
            parts.append(_table(f"{key}{f' ({task})' if task else ''}", key, section, documents))
    return "\n".join(parts)


def _sections(owner: Any, only: list[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    hints = typing.get_type_hints(owner)
    for f in dataclasses.fields(owner):
        if dataclasses.is_dataclass(hints[f.name]) and (prefix or f.name in only):
            key = prefix + f.name
            yield key, hints[f.name]
            yield from _sections(hints[f.name], only, f"{key}.")


def _table(title: str, key: str, section: Any, documents: dict[str, dict[str, str]]) -> str:
    hints, texts = typing.get_type_hints(section), documents[section.__name__]
    rows = [f"### {title}", "", _plain(texts[""]), ""]
    rows += ["| key | values | default | meaning |", "| --- | --- | --- | --- |"]
    if not key:
        rows.append("| `task` | emotion, nli, mlm | - | What is trained; decides which `model` is meant. |")
    for f in dataclasses.fields(section):
        if dataclasses.is_dataclass(hints[f.name]):
            continue
        name = f"{key}.{f.name}" if key else f.name
        default = "empty" if f.default is dataclasses.MISSING else _default(f.default)
        cells = [f"`{name}`", _values(hints[f.name]), default, _plain(texts[f.name])]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*rows, ""])


_WORDS = {int: "whole number", float: "number", str: "text", bool: "true, false"}


def _values(kind: Any) -> str:
    """A type in words."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return ", ".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if i is type(None) else _values(i) for i in inner)
    if origin is tuple:
        return f"list of {_values(inner[0])}s"
    if origin is dict:
        if inner[1] is str:
            return "mapping of name to text"
        return "mapping of layer to list of heads"
    return _WORDS[kind]


def _default(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if value == ():
        return "empty"
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value) if value != "" else "empty"


def _plain(text: str) -> str:
    """A docstring as one line of a Markdown table."""
    return " ".join(text.split()).replace("<", "\\<").replace("|", "\\|")


def _docstrings(module: types.ModuleType) -> dict[str, dict[str, str]]:
    """Class -> field -> its docstring; "" for the class's own."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    found: dict[str, dict[str, str]] = {}
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        texts = found.setdefault(node.name, {"": ast.get_docstring(node) or ""})
        for one, after in zip(node.body, node.body[1:], strict=False):
            if isinstance(one, ast.AnnAssign) and isinstance(after, ast.Expr):
                assert isinstance(one.target, ast.Name) and isinstance(after.value, ast.Constant)
                texts[one.target.id] = str(after.value.value)
    return found


FIELDS: dict[Path, Callable[[], str]] = {
    ROOT / "docs" / "recipes.md": recipe_tables,
    ROOT / "docs" / "slurm.md": cluster_table,
}
"""Pages with tables of fields, and what makes these."""


def with_fields(page: Path) -> str:
    """A page's text with the tables as they should be."""
    text = page.read_text(encoding="utf-8")
    assert text.count(_START) == text.count(_END) == 1, f"{page.name}: the marks are gone"
    head, tail = text.partition(_START)[0], text.partition(_END)[2]
    return f"{head}{_START}\n{FIELDS[page]()}\n{_END}{tail}"


if __name__ == "__main__":
    for field_page in FIELDS:
        field_page.write_text(with_fields(field_page), encoding="utf-8")
