"""The distribution as a whole: what is declared, pinned and shipped."""

from __future__ import annotations

import configparser
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.imports import PACKAGES, ROOT, all_imports

FOLDERS = {*PACKAGES, "benchmarks", "constraints", "docs", "tests", ".ci"}
PYTHONS = ("3.11", "3.12", "3.13")

REQUIRED = {"torch", "deepspeed", "transformers", "torchaudio", "webdataset", "hazm", "wandb"}
REQUIRED |= {"submitit"}


def _setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def _requirements(lines: str) -> list[Requirement]:
    stripped = (line.strip() for line in lines.splitlines())
    return [Requirement(line) for line in stripped if line and not line.startswith("#")]


def _pins(python: str) -> dict[str, str]:
    text = (ROOT / "constraints" / f"py{python.replace('.', '')}.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for line in lines:  # a name and a version, nothing that holds on one machine only
        assert re.fullmatch(r"[A-Za-z0-9][\w.-]*==[A-Za-z0-9.!+]+", line), line
    return {canonicalize_name(name): version for name, version in (x.split("==") for x in lines)}


def test_third_party_imports_are_declared() -> None:
    declared = {
        canonicalize_name(r.name)
        for r in _requirements(_setup()["options"]["install_requires"])
        if r.marker is None or r.marker.evaluate()
    }
    assert declared >= REQUIRED
    owners = importlib.metadata.packages_distributions()
    missing = []
    for found in all_imports():
        if found.top in sys.stdlib_module_names or found.top in PACKAGES:
            continue
        names = {canonicalize_name(name) for name in owners.get(found.top, [found.top])}
        if not names & declared:
            missing.append(str(found))
    assert not missing


@pytest.mark.parametrize("python", PYTHONS)
def test_pins_satisfy_what_is_declared(python: str) -> None:
    pins = _pins(python)
    setup = _setup()
    lines = setup["options"]["install_requires"] + setup["options.extras_require"]["test"]
    for need in _requirements(lines):
        if need.marker is None or need.marker.evaluate({"python_version": python}):
            assert need.specifier.contains(pins[canonicalize_name(need.name)]), str(need)


def test_everything_installed_for_us_is_pinned() -> None:
    pins = _pins(".".join(map(str, sys.version_info[:2])))
    waiting = [("setup.cfg", r) for r in _requirements(_setup()["options"]["install_requires"])]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        by, need = waiting.pop()
        key = (canonicalize_name(need.name), frozenset(need.extras))
        if key in seen:
            continue
        environments = [{"extra": extra} for extra in need.extras or {""}]
        if need.marker and not need.marker.evaluate(environments[0] if by == "setup.cfg" else None):
            continue
        seen.add(key)
        assert key[0] in pins, f"{need.name}, needed by {by}, has no pin: run `make pin`"
        for line in importlib.metadata.distribution(need.name).requires or ():
            deeper = Requirement(line)
            if deeper.marker is None or any(deeper.marker.evaluate(e) for e in environments):
                waiting.append((need.name, Requirement(str(deeper).partition(";")[0])))


def test_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a copy: building leaves folders behind
    no_caches = shutil.ignore_patterns("__pycache__")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=no_caches)
    for name in ("setup.cfg", "pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-index"]
    build = [*pip, "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("sokhan-*.whl"))) as wheel:
        shipped = {n for n in wheel.namelist() if ".dist-info/" not in n}
        points = next(n for n in wheel.namelist() if n.endswith("entry_points.txt"))
        assert "sokhan = launch.cli:main" in wheel.read(points).decode()
    ours = {
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert shipped == ours


def test_top_level_folders_are_the_known_ones() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout, to tell our files from others")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    folders = {line.partition("/")[0] for line in done.stdout.splitlines() if "/" in line}
    assert set(PACKAGES) <= folders <= FOLDERS


def test_make_says_in_one_line_that_python_is_missing() -> None:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    for target in ("run", "test"):
        done = subprocess.run(
            ["make", "-C", str(ROOT), target, "PYTHON=no-such-python"],
            env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
        assert len(said) == 1
        assert "no-such-python" in said[0] and "Install Python 3.11" in said[0]
