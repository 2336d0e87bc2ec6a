"""Who may import whom: imports go one way, between the packages and between the parts of each."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import pytest

from tests.imports import PACKAGES, ROOT, Import, all_imports, imports_of, module_name

# What a package may import of ours when it is imported, and what its functions may import besides.
AT_IMPORT = {
    "configs": {"configs"},
    "data_shards": {"configs", "data_shards"},
    "trainers": {"configs", "data_shards", "trainers"},
    "launch": {"configs", "launch"},
}
IN_FUNCTIONS = {"launch": {"data_shards", "trainers"}}
# Slow to import: `sokhan --help` must not wait for them.
HEAVY = {"torch", "torchaudio", "transformers", "deepspeed", "hazm", "soundfile", "matplotlib"}
HEAVY |= {"sklearn", "scipy", "wandb", "submitit", "webdataset", "tokenizers"}
FOLDERS = sorted(module_name(file) for package in PACKAGES for file in (ROOT / package).rglob("__init__.py"))
# Imports that close a circle and may, with the reason.
BACKWARDS = {
    # Some jobs, and the demo's steps, are `sokhan` commands: they come in where a typed one does.
    ("launch.command_job", "launch.cli"),
}

Graph = Mapping[str, Mapping[str, Sequence[Import]]]
"""Part of a folder -> another part that it imports -> where."""


def test_imports_go_one_way() -> None:
    wrong = []
    for found in all_imports():
        if found.top not in PACKAGES or found.for_types:
            continue
        allowed = AT_IMPORT[found.package]
        if found.in_function:
            allowed = allowed | IN_FUNCTIONS.get(found.package, set())
        if found.top not in allowed:
            wrong.append(str(found))
    assert not wrong


@pytest.mark.parametrize("folder", FOLDERS)
def test_parts_of_a_folder_import_each_other_in_no_circle(folder: str) -> None:
    """Its parts are its modules, and its folders as wholes. Imports inside functions and for types alone
    count as well: a reader has to follow them, too."""
    forwards = [found for found in all_imports() if (found.importer, found.module) not in BACKWARDS]
    graph = parts_graph(folder, forwards)
    circle = find_circle(graph)
    steps = zip(circle, circle[1:], strict=False)
    lines = [str(found) for one, other in steps for found in graph[one][other]]
    assert not circle, "\n".join([" -> ".join(circle), *lines])


def test_what_may_import_backwards_does() -> None:
    assert {(found.importer, found.module) for found in all_imports()} >= BACKWARDS


def test_a_circle_is_found_and_named_by_its_imports() -> None:
    """Through a folder, a function and TYPE_CHECKING; what hangs off the circle is not told."""
    lines = {
        "trainers/run.py": "from trainers.tasks import nli",
        "trainers/tasks/nli.py": "def f():\n    from trainers.data import g",
        "trainers/data.py": "if TYPE_CHECKING:\n    import trainers.tasks.mlm\nimport trainers.ranks",
        "trainers/tasks/mlm.py": "",
        "trainers/ranks/__init__.py": "",
    }
    graph = parts_graph("trainers", imports_of({ROOT / name: text for name, text in lines.items()}))
    assert find_circle(graph) in (
        ["trainers.tasks", "trainers.data", "trainers.tasks"],
        ["trainers.data", "trainers.tasks", "trainers.data"],
    )
    where = graph["trainers.tasks"]["trainers.data"]
    assert list(map(str, where)) == ["trainers/tasks/nli.py:2 imports trainers.data"]
    assert not find_circle(parts_graph("trainers.tasks", where))


def parts_graph(folder: str, imports: Iterable[Import]) -> Graph:
    """Which part of a folder imports which other one."""
    graph: dict[str, dict[str, list[Import]]] = defaultdict(lambda: defaultdict(list))
    for found in imports:
        importer, imported = (_part_of(folder, name) for name in (found.importer, found.module))
        if importer and imported and importer != imported:
            graph[importer][imported].append(found)
    return graph


def find_circle(graph: Graph) -> list[str]:
    """A shortest circle, its first part named again at its end; empty: there is none."""
    circles = [way for part in sorted(graph) if (way := _way(graph, part, part))]
    return min(circles, key=len, default=[])


def _way(graph: Graph, start: str, end: str) -> list[str]:
    """The shortest way of one step or more; empty: none."""
    ways, seen = [[start]], set[str]()
    for way in ways:  # grows while it is gone through
        for part in graph.get(way[-1], ()):
            if part == end:
                return [*way, part]
            if part not in seen:
                seen.add(part)
                ways.append([*way, part])
    return []


def _part_of(folder: str, module: str) -> str | None:
    """("trainers", "trainers.ranks.world") -> "trainers.ranks"; None: of another folder."""
    if not module.startswith(f"{folder}."):
        return None
    return f"{folder}.{module.removeprefix(f'{folder}.').partition('.')[0]}"


def test_only_the_engine_imports_deepspeed() -> None:
    files = {str(i.file.relative_to(ROOT)) for i in all_imports() if i.top == "deepspeed"}
    assert files == {"trainers/engine.py"}


def test_heavy_modules_are_imported_inside_functions() -> None:
    light = [i for i in all_imports() if i.package != "trainers" and not i.in_function and not i.for_types]
    assert not [str(i) for i in light if i.top in HEAVY]


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from launch.cli import main\n"
        "sys.argv = ['sokhan', '--help']\n"
        "try:\n"
        "    code = main()\n"
        "except SystemExit as stop:\n"
        "    code = stop.code\n"
        "assert not code, code\n"
        f"heavy = sorted(set(sys.modules) & {HEAVY | {'trainers'}!r})\n"
        "print('heavy:', heavy)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
    assert done.stdout.splitlines()[-1] == "heavy: []"
