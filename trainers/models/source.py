"""Where pre-trained weights come from: a local folder, or the hub's cache, filled on demand.

Models are always loaded from a folder that holds just the files needed, so that loading itself
never touches the network, and weights missing in a checkpoint never pass for trained ones.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from configs.errors import InputError

logger = logging.getLogger(__name__)

SAFE_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLED_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")
SIDE_FILES = (
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "sokhan.json",
)


def resolve_model(name: str, revision: str | None = None) -> Path:
    """The folder that holds a pre-trained model, fetched from the hub where it is not here yet.

    ``name`` is a local folder or a hub name; ``revision`` pins a hub commit, branch or tag. A copy
    in the local cache is taken without asking the hub. Raises InputError where there is no model.
    """
    folder = Path(name).expanduser()
    if name.strip() and folder.exists():
        return _check_folder(folder, name)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or not name.strip():
        raise InputError(f"model.pretrained: there is no folder {name!r}")
    option = f" --revision {revision}" if revision else ""
    ways = (
        f"fetch it where there is network (`sokhan download model {name}{option}`) and copy the hub's cache "
        "or the model's folder here (docs/offline.md), or train a fresh model with --model.pretrained null "
        f"(--model.size says how large); if it is to be a folder, make it: `sokhan export RUN --out {name}`"
    )
    return _cached(name, revision) or _fetch(name, revision, ways)


def download_model(name: str, revision: str | None = None) -> Path:
    """Fetch a hub model (weights, config, tokenizer) into the local cache and return its folder.

    safetensors weights are preferred; a pytorch_model.bin is taken only where there are none.
    """
    ways = (
        "fetch it where there is network, with the same command, and copy the hub's cache or the model's "
        "folder here (docs/offline.md)"
    )
    return _fetch(name, revision, ways)


def _fetch(name: str, revision: str | None, ways: str) -> Path:
    """``ways`` is what to do where the hub cannot be reached."""
    import httpx
    from huggingface_hub import HfApi, errors, snapshot_download

    at = f" at revision {revision}" if revision else ""
    try:
        files = HfApi().list_repo_files(name, revision=revision)
        weights = choose_weights(files)
        if not weights or "config.json" not in files:
            raise InputError(f"model.pretrained: {name}{at} on the hub holds no model weights")
        wanted = [*SIDE_FILES, *weights]
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise InputError(f"model.pretrained: the hub has no model {name!r}{at}, or it is private") from error
    except errors.HFValidationError as error:
        raise InputError(
            f"model.pretrained: {name!r} is neither a folder nor a hub name (owner/model)"
        ) from error
    except (
        httpx.HTTPError,
        errors.HfHubHTTPError,
        errors.LocalEntryNotFoundError,
        ConnectionError,
        TimeoutError,
    ) as error:
        raise InputError(
            f"model.pretrained: {name}{at} is not on this machine and the hub cannot be reached; {ways}"
        ) from error


def load_weights(
    build: type, folder: Path, config: Any, may_be_new: Callable[[str], bool]
) -> tuple[Any, list[str]]:
    """Load a transformers model in float32; returns it and the names of its new parameters.

    ``may_be_new`` says which parameters the checkpoint may lack or hold in another shape (a head).
    Raises InputError where any other is missing, or where the file cannot be read.
    """
    from safetensors import SafetensorError

    safe = any((folder / file).is_file() for file in SAFE_WEIGHTS)
    try:
        with quiet_transformers():
            model, info = build.from_pretrained(  # type: ignore[attr-defined]
                folder,
                config=config,
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=safe,
                weights_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (SafetensorError, pickle.UnpicklingError, OSError, EOFError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"model.pretrained: the weights in {folder} cannot be read: {reason}") from error
    wrong_shape = [entry[0] for entry in info["mismatched_keys"]]
    new = sorted({*info["missing_keys"], *wrong_shape})
    bad = [key for key in new if not may_be_new(key)]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        fault = "in another shape" if bad[0] in wrong_shape else "missing"
        raise InputError(f"model.pretrained: {folder} does not fit the model: {bad[0]} is {fault}{more}")
    if new:
        logger.warning("%s: freshly initialised, not in the checkpoint: %s", folder, ", ".join(new))
    return model, new


def read_config(folder: Path, model_type: str) -> Any:
    """The transformers config in a model folder; InputError unless it is of ``model_type``."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"model.pretrained: {folder / 'config.json'} cannot be read") from error
    if config.model_type != model_type:
        raise InputError(
            f"model.pretrained: {folder} holds a {config.model_type!r} model, not {model_type!r}"
        )
    return config


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw new weights on the CPU from ``seed``, and leave the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from drawing bars and tables while a model loads; errors still show."""
    from transformers.utils import logging as hf_logging

    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def _check_folder(folder: Path, name: str) -> Path:
    if not (folder / "config.json").is_file():
        raise InputError(f"model.pretrained: {name} is no model folder: it has no config.json")
    if not any((folder / file).is_file() for file in (*SAFE_WEIGHTS, *PICKLED_WEIGHTS)):
        raise InputError(
            f"model.pretrained: {name} is no model folder: it has no {SAFE_WEIGHTS[0]} and no"
            f" {PICKLED_WEIGHTS[0]}"
        )
    return folder


def _cached(name: str, revision: str | None) -> Path | None:
    """The hub model's folder in the local cache, if all of it is there."""
    from huggingface_hub import errors, snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
        return _check_folder(folder, name)
    except (errors.LocalEntryNotFoundError, errors.HFValidationError, InputError):
        return None


def choose_weights(files: Sequence[str]) -> list[str]:
    """Of a hub model's files: the weights to fetch, the parts of a divided checkpoint included."""
    for (single, index), parts in (
        (SAFE_WEIGHTS, "model-*.safetensors"),
        (PICKLED_WEIGHTS, "pytorch_model-*.bin"),
    ):
        if single in files:
            return [single]
        if index in files:
            return [index, parts]
    return []
