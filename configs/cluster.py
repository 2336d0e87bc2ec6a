"""A cluster's standing settings, from its site file, and what the command line says besides.

Later wins: defaults of ``SlurmConfig``, the site file, ``--slurm.FIELD VALUE``.
"""

from __future__ import annotations

import dataclasses
import json
import os
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.check_slurm import check_slurm
from configs.errors import InputError
from configs.kinds import wrong_value
from configs.load import FOLDER, all_keys, check_keys, flatten, is_site, nearest, one_line, read_yaml
from configs.slurm import SlurmConfig

SITE = "SOKHAN_SITE"
"""Environment variable with the usual site: a shipped name or a file."""


@dataclass(frozen=True)
class Site:
    """A cluster's standing settings, with what was said on the command line."""

    name: str
    slurm: SlurmConfig
    recipe: tuple[str, ...] = ()
    """Overrides of recipes' (site) fields, as command-line words."""


def load_cluster(site: str | None = None, overrides: Sequence[str] = ()) -> Site:
    """Read a site file (``None``: the one that SOKHAN_SITE names, if any) and ``--slurm.*`` words.

    Raises InputError, one line, for whatever is wrong in either.
    """
    name = site or os.environ.get(SITE, "")
    document: dict[str, Any] = {}
    where = ""
    if name:
        path = find_site(name)
        where, document = str(path), read_yaml(path)
        for key in document:
            if key not in ("slurm", "recipe"):
                raise InputError(f"{path}: unknown key {key!r}; a site has 'slurm' and 'recipe'")
    slurm = document.get("slurm") or {}
    if not isinstance(slurm, dict):
        raise InputError(f"{where}: key 'slurm' is a section of keys, not {slurm!r}")
    check_keys(where, slurm, SlurmConfig)
    slurm = {key: value for key, value in slurm.items() if value is not None}  # a key left blank
    for key in ("time", "notice"):
        if isinstance(slurm.get(key), int):
            raise InputError(
                f"{where}: key 'slurm.{key}' is read as the number {slurm[key]}; write 12h, or "
                "'12:00:00' in quotes"
            )
    config = _parse(where, slurm, overrides)
    check_slurm(config)
    return Site(name, config, _recipe_words(where, document.get("recipe") or {}))


def find_site(name: str) -> Path:
    """Path of a site file: a file, or one shipped in ``configs/site``."""
    for path in (Path(name).expanduser(), FOLDER / "site" / f"{name}.yaml"):
        if path.is_file():
            return path
    shipped = sorted(path.stem for path in (FOLDER / "site").glob("*.yaml"))
    raise InputError(
        f"{name}: no such site file; `sokhan doctor --write FILE` makes one, and these come with "
        f"sokhan: {', '.join(shipped)}"
    )


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """``--slurm.*`` words with their values, and the others."""
    slurm: list[str] = []
    others: list[str] = []
    target = others
    for word in words:
        if word.startswith("--"):
            target = slurm if word.startswith("--slurm.") else others
        target.append(word)
    return slurm, others


def _parse(where: str, document: dict[str, Any], overrides: Sequence[str]) -> SlurmConfig:
    from jsonargparse import ArgumentParser

    known = {f"slurm.{f.name}" for f in dataclasses.fields(SlurmConfig)}
    for word in overrides:
        key = word[2:].split("=")[0].split("+")[0]
        if word.startswith("--slurm.") and not (key in known or key.startswith("slurm.environment.")):
            raise InputError(f"command line: unknown key {key!r}{nearest(key, sorted(known))}")
    parser = ArgumentParser(exit_on_error=False, prog="sokhan submit RECIPE")
    parser.add_class_arguments(SlurmConfig, "slurm")
    try:
        config = parser.parse_object({"slurm": document})
        where = "command line"
        config = parser.parse_args(list(overrides), namespace=config)
        return SlurmConfig(**vars(parser.instantiate(config).slurm))
    except (ArgumentError, TypeError, ValueError) as error:
        kinds = dict(all_keys(SlurmConfig, "slurm."))
        raise InputError(f"{where}: {wrong_value(one_line(error), kinds)}") from None


def _recipe_words(where: str, document: Any) -> tuple[str, ...]:
    if not isinstance(document, dict):
        raise InputError(f"{where}: key 'recipe' is a section of keys, not {document!r}")
    words: list[str] = []
    for key, value in flatten(document).items():
        if not is_site(key) or key in ("recipe", "data.shards", "output.name"):
            raise InputError(
                f"{where}: key 'recipe.{key}' is no matter of a site; only (site) fields are, such as "
                "output.folder, data.stage or tracking.entity"
            )
        words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    return tuple(words)
