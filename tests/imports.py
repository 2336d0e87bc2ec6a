"""Every import of the packages, read from their source."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("configs", "data_shards", "trainers", "launch")


@dataclass(frozen=True)
class Import:
    """One name's import; ``from a import b`` is of ``a.b`` where that is a module of ours."""

    file: Path
    line: int
    module: str
    in_function: bool
    for_types: bool
    """Whether it stands below TYPE_CHECKING, and never runs."""

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.module}"

    @property
    def importer(self) -> str:
        """The module that it stands in."""
        return module_name(self.file)

    @property
    def package(self) -> str:
        """The one that it stands in."""
        return self.file.relative_to(ROOT).parts[0]

    @property
    def top(self) -> str:
        """The package that is imported, or imported from."""
        return self.module.partition(".")[0]


def module_name(file: Path) -> str:
    """trainers/ranks/__init__.py -> trainers.ranks."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def all_imports() -> tuple[Import, ...]:
    """Of all modules of the packages, wherever in them they stand."""
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    return tuple(imports_of({file: file.read_text(encoding="utf-8") for file in files}))


def imports_of(sources: Mapping[Path, str]) -> Iterator[Import]:
    """Of modules that consist of these texts."""
    ours = set(map(module_name, sources))
    for file, text in sources.items():
        tree = ast.parse(text, filename=str(file))
        for where in _walk(tree, ours, in_function=False, for_types=False):
            yield Import(file, *where)


def _walk(
    node: ast.AST, ours: set[str], in_function: bool, for_types: bool
) -> Iterator[tuple[int, str, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield from ((child.lineno, name, in_function, for_types) for name in _names(child, ours))
        function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        types = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        yield from _walk(child, ours, in_function or function, for_types or types)


def _names(node: ast.Import | ast.ImportFrom, ours: set[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert node.level == 0 and node.module, f"relative import in line {node.lineno}"
    inner = [f"{node.module}.{alias.name}" for alias in node.names]
    return list(dict.fromkeys(name if name in ours else node.module for name in inner))
