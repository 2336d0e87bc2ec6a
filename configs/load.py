"""Recipe file + command-line overrides -> a frozen recipe, and back to YAML.

Later wins: defaults of ``configs.schema``, the YAML file, ``--field.sub value``. jsonargparse
checks types; unknown keys are looked for here first, so that the message can name the nearest one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import hashlib
import json
import re
import typing
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from configs.check import check_recipe
from configs.errors import InputError
from configs.kinds import wrong_value
from configs.schema import EmotionRecipe, MlmRecipe, NliRecipe

AnyRecipe = EmotionRecipe | NliRecipe | MlmRecipe
FOLDER = Path(__file__).parent
SUMMARY = "summary.json"
"""A run directory's last file: with it the run is finished."""
# What the commands themselves take beside a recipe's fields: only to suggest the nearest.
_COMMAND_OPTIONS = (
    "ranks",
    "overwrite",
    "resume",
    "force",
    "print_config",
    "cluster",
    "site",
    "wait",
    "dry_run",
    "at_most",
    "slurm.nodes",
    "slurm.tasks_per_node",
    "slurm.partition",
)

_SITE = (
    "data.shards",
    "data.stage",
    "data.workers",
    "engine.zero",
    "engine.activation_checkpointing",
    "engine.deterministic",
    "engine.timeout_minutes",
    "checkpoint",
    "tracking",
    "output",
    "recipe",
    "loop.log_every",
)


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> AnyRecipe:
    """Read a recipe. Raises InputError, one line, for anything wrong in file or overrides.

    ``name`` is a YAML file, or the name of a recipe shipped with the package such as
    ``demo/hubert`` or ``farstail/parsbert_full``.
    """
    path = find_recipe(name)
    document = read_yaml(path)
    recipe_class = _recipe_class(path, document)
    check_keys(str(path), document, recipe_class)
    _check_flags(overrides, recipe_class)
    parser = _parser(recipe_class)
    where = str(path)
    try:
        config = parser.parse_object(document)
        where = "command line"
        config = parser.parse_args(list(overrides), namespace=config)
        recipe = recipe_class(**vars(parser.instantiate(config)))
    except (ArgumentError, TypeError, ValueError) as error:
        raise InputError(f"{where}: {wrong_value(one_line(error), dict(all_keys(recipe_class)))}") from None
    if not recipe.recipe:
        recipe = dataclasses.replace(recipe, recipe=path.stem)
    check_recipe(recipe)
    return recipe


def find_recipe(name: str | Path) -> Path:
    """Path of a recipe file. Raises InputError with the nearest shipped names, if there are near ones."""
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a recipe; name shards with --data.shards {path}")
    shipped = FOLDER / path.with_suffix(".yaml")
    if not path.is_absolute() and shipped.is_file():
        return shipped
    near = _near(str(name), shipped_recipes())
    what = "file" if _is_path(str(name), near) else "recipe"
    nearest = f"the nearest {'are' if len(near) > 1 else 'is'} {', '.join(near)} (`sokhan recipes` lists all)"
    fix = "give the path of a YAML file, or a name that `sokhan recipes` lists"
    raise InputError(f"{name}: no such {what}; {nearest if near else fix}")


def _near(name: str, known: Sequence[str]) -> list[str]:
    """At most three of the shipped names that ``name`` may have been meant to be."""
    plain = str(Path(name).with_suffix(""))
    whole = difflib.get_close_matches(plain, known, 3, 0.7)
    last = [other for other in known if other.rpartition("/")[2] == plain.rpartition("/")[2]]
    return list(dict.fromkeys([*last, *whole]))[:3]


def _is_path(name: str, near: Sequence[str]) -> bool:
    """Whether a file must have been meant, not a shipped recipe."""
    return name.endswith((".yaml", ".yml")) or name.startswith((".", "/", "~")) or ("/" in name and not near)


def shipped_recipes() -> list[str]:
    """Names of all recipes in the package."""
    return shipped("task")


def shipped(key: str) -> list[str]:
    """Names of the package's files that have a key: `task` makes one a recipe, `recipes` a grid."""
    files = [p for p in FOLDER.glob("*/*.yaml") if f"\n{key}:" in f"\n{p.read_text('utf-8')}"]
    return sorted(str(p.relative_to(FOLDER).with_suffix("")) for p in files)


def to_dict(recipe: AnyRecipe) -> dict[str, Any]:
    """The whole recipe as plain values, nothing left out."""
    document: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(recipe)))
    return {"task": document.pop("task"), **document}


def to_yaml(recipe: AnyRecipe) -> str:
    """The whole recipe as YAML that ``load_recipe`` reads back."""
    return yaml.safe_dump(to_dict(recipe), sort_keys=False, allow_unicode=True)


def signature(recipe: AnyRecipe) -> str:
    """16 hex digits over ``settings_that_matter``."""
    text = json.dumps(settings_that_matter(recipe), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def written_signature(run: Path) -> str:
    """The signature that a run directory's config.yaml begins with; empty if it cannot be read."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        first = (run / "config.yaml").read_text(encoding="utf-8").partition("\n")[0]
        return first.removeprefix("# signature: ").strip()
    return ""


def settings_that_matter(recipe: AnyRecipe) -> dict[str, Any]:
    """Key -> value of everything that can change the result: not ranks, paths or tracking."""
    return {key: value for key, value in flatten(to_dict(recipe)).items() if not is_site(key)}


def run_folder(recipe: AnyRecipe) -> Path:
    """The run directory: <folder>/<recipe>/<name>."""
    # The path of the shards is no part of the signature (they may be moved), but two corpora
    # must not meet in one run directory.
    unique = hashlib.sha256(f"{signature(recipe)} {recipe.data.shards}".encode()).hexdigest()
    name = recipe.output.name or f"seed{recipe.seed}-{unique[:8]}"
    return Path(recipe.output.folder) / recipe.recipe / name


def free_run_folder(recipe: AnyRecipe, overwrite: bool) -> Path:
    """The run directory. Raises InputError if it holds a finished run, unless ``overwrite``."""
    folder = run_folder(recipe)
    if is_finished(folder) and not overwrite:
        raise InputError(
            f"{folder}: this run is finished; see it with `sokhan report {folder}`, or train again "
            "with --overwrite, or under another --output.name"
        )
    return folder


def left_to_train(recipes: Sequence[AnyRecipe], overwrite: bool) -> list[AnyRecipe]:
    """Those of several recipes whose runs are not finished, so that the same command goes on where
    it was stopped; all of them if all are, or with ``overwrite``: what then, is decided for each."""
    left = [recipe for recipe in recipes if not is_finished(run_folder(recipe))]
    return list(recipes) if overwrite or not left else left


def is_finished(folder: Path) -> bool:
    """Whether a run directory holds a finished run. Raises InputError if this user is not let in."""
    try:
        return (folder / SUMMARY).is_file()
    except PermissionError:
        raise InputError(
            f"{folder}: belongs to another user, who lets in nobody or a group that you are not in; "
            "choose another --output.folder or --output.name"
        ) from None


def flatten(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def is_site(key: str) -> bool:
    """Whether a field is marked (site): it does not change the result."""
    return any(key == site or key.startswith(site + ".") for site in _SITE)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that is a mapping. Raises InputError if it is not."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable as YAML: {one_line(error)}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: must be a mapping of keys to values")
    return document


def _recipe_class(path: Path, document: dict[str, Any]) -> type[AnyRecipe]:
    task = document.get("task")
    if task == "emotion":
        return EmotionRecipe
    if task == "nli":
        return NliRecipe
    if task == "mlm":
        return MlmRecipe
    if "recipes" in document or "parts" in document:
        raise InputError(f"{path}: a grid of several trainings; use `sokhan sweep`")
    raise InputError(f"{path}: key 'task' must be emotion, nli or mlm, not {task!r}")


def _parser(recipe_class: type[AnyRecipe]) -> Any:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, prog="sokhan train RECIPE")
    parser.add_class_arguments(recipe_class, None)
    return parser


def all_keys(kind: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All dotted keys of a dataclass with their types, sections included."""
    hints = typing.get_type_hints(kind)
    for f in dataclasses.fields(kind):
        yield prefix + f.name, hints[f.name]
        if dataclasses.is_dataclass(hints[f.name]):
            yield from all_keys(hints[f.name], f"{prefix}{f.name}.")


def check_keys(where: str, document: dict[str, Any], kind: Any) -> None:
    """Raise InputError, with the nearest, for a key that the dataclass ``kind`` does not have."""
    known = dict(all_keys(kind))
    for key, value in _document_items(document):
        _check_key(where, key, known)
        if dataclasses.is_dataclass(known.get(key)) and not isinstance(value, dict):
            raise InputError(f"{where}: key {key!r} is a section of keys, not {value!r}")


def _check_key(where: str, key: str, known: dict[str, Any]) -> None:
    inside_mapping = any(key.startswith(f"{k}.") and "dict" in str(t) for k, t in known.items())
    if key not in known and not inside_mapping:
        raise InputError(f"{where}: unknown key {key!r}{nearest(key, list(known))}")


def _document_items(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from _document_items(value, f"{prefix}{key}.")


def _check_flags(arguments: Sequence[str], kind: Any) -> None:
    """Every ``--key`` or ``--key=value`` must name a field; values are checked by their types."""
    known = dict(all_keys(kind))
    flags = [a[2:].split("=")[0] for a in arguments if a.startswith("--")]
    for key in flags:
        if key not in known:
            near = difflib.get_close_matches(key, [*_COMMAND_OPTIONS, *known], 1, 0.7)
            if key.startswith("slurm.") or key in ("site", "cluster"):
                raise InputError(f"command line: --{key} is for `sokhan submit` and `sokhan sweep`")
            if near and near[0] in _COMMAND_OPTIONS:
                option = "dry-run" if near[0] == "dry_run" else near[0]
                raise InputError(f"command line: unknown key {key!r}; did you mean '--{option}'?")
        _check_key("command line", key, known)


def nearest(key: str, known: list[str]) -> str:
    """The end of a message about an unknown key."""
    near = difflib.get_close_matches(key, known, 1, 0.5)
    if not near:
        near = [k for k in known if k.split(".")[-1] == key.split(".")[-1]]
    return f"; did you mean {near[0]!r}?" if near else "; `--print_config` shows all keys"


def one_line(error: BaseException) -> str:
    """jsonargparse's message without line breaks and Python's type syntax."""
    text = re.sub(r"<class '(\w+)'>", r"\1", " ".join(str(error).split()))
    return text.replace('Parser key "', 'key "').replace("typing.", "")
