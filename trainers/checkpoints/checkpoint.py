"""Checkpoints on disk: safetensors by tensor name, one JSON and a SHA256SUMS, read without pickle.

``step-N/`` holds for every rank that saved it ``weights-R.safetensors`` and
``optimizer-R.safetensors`` with that rank's pieces (see ``sharding.py``), ``checkpoint.json`` with
what is no tensor and where each piece belongs, and ``SHA256SUMS``, written last. It is written as
``.saving-...`` and renamed, so a checkpoint that has its name is whole; any number of ranks at any
ZeRO stage can read it. ``sha256sum -c SHA256SUMS`` checks it too.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from configs.errors import InputError
from data_shards.writer import sha256_of
from trainers.checkpoints.facts import (
    FORMAT,
    TAG,
    TENSOR_FILE,
    Places,
    check_layout,
    check_training,
    parse,
    short,
)
from trainers.checkpoints.sharding import MOMENTS, WEIGHTS, Piece
from trainers.files.disk import one_line, writing

CHECKPOINTS = "checkpoints"
FACTS = "checkpoint.json"
SUMS = "SHA256SUMS"
SET_ASIDE = "set-aside-"
"""Begins the names of checkpoints that a resumed run did not go on from."""
_LARGEST_TEXT = 2**29
"""Bytes of a file that is read in one piece: far beyond what any model needs, well within memory."""
_FLOATS = ("F64", "F32", "BF16", "F16")
_SUM_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9.-]+)")

Share = dict[str, Any]
"""What one rank wrote: {"sums": {file: SHA-256}, "pieces": {file: {"kind/name": [start, elements]}},
"shapes": {name: shape}}."""


class Damaged(InputError):
    """A checkpoint is not what was saved; the message names the file."""


def tag_of(step: int, evaluated: bool) -> str:
    """Name of a checkpoint; the one after a validation is another than the one before it."""
    return f"step-{step}-evaluated" if evaluated else f"step-{step}"


def step_of(tag: str) -> int:
    """Global steps that were done when a checkpoint was saved."""
    match = TAG.fullmatch(tag)
    assert match, tag
    return int(match[1])


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints below a run's ``checkpoints`` folder by their names, the newest first."""
    if not folder.is_dir() or folder.is_symlink():
        return []
    tags = [(match, path) for path in folder.iterdir() if (match := TAG.fullmatch(path.name))]
    tags.sort(key=lambda tag: (int(tag[0][1]), bool(tag[0][2])), reverse=True)
    return [path for _, path in tags]


def write_share(staging: Path, rank: int, pieces: Sequence[Piece]) -> Share:
    """Write one rank's pieces, to the disk itself. Raises InputError where there is no room."""
    share: Share = {"sums": {}, "pieces": {}, "shapes": {}}
    for group in ("weights", "optimizer"):
        chosen = [piece for piece in pieces if (piece.kind == WEIGHTS) == (group == "weights")]
        if not chosen:
            continue
        path = staging / f"{group}-{rank:05d}.safetensors"
        with writing(path):
            save_file({f"{p.kind}/{p.name}": _shaped(p) for p in chosen}, path)
            # safetensors makes files that only their owner can read.
            path.chmod(staging.stat().st_mode & 0o666)
            sync(path)
        share["sums"][path.name] = sha256_of(path)
        share["pieces"][path.name] = {f"{p.kind}/{p.name}": [p.start, p.tensor.numel()] for p in chosen}
        share["shapes"].update({p.name: list(p.shape) for p in chosen})
    return share


def commit(staging: Path, final: Path, shares: Sequence[Share], facts: Mapping[str, Any]) -> None:
    """Complete a checkpoint that all ranks have written and give it its name."""
    document = {"format": FORMAT, "tag": final.name, **facts}
    document["pieces"] = {file: p for share in shares for file, p in share["pieces"].items()}
    document["shapes"] = {name: s for share in shares for name, s in share["shapes"].items()}
    text = json.dumps(document, allow_nan=False) + "\n"
    check_layout(parse(text))  # what could not be read again must not take an older one's place
    path = staging / FACTS
    with writing(path):
        path.write_text(text, encoding="utf-8")
        sync(path)
    sums = {FACTS: sha256_of(path)}
    for share in shares:
        sums.update(share["sums"])
    for name in sums:
        if not (staging / name).is_file():
            raise InputError(
                f"{staging / name}: not there, though another rank has written it; the run directory "
                "must lie where all nodes see it"
            )
    write_sums(staging, sums)
    with writing(final):
        staging.rename(final)
        sync(final.parent)


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Write SHA256SUMS in the format of the tool of that name."""
    path = folder / SUMS
    partial = folder / f".{SUMS}"
    with writing(path):
        try:
            partial.write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))
            sync(partial)
            partial.replace(path)
            sync(folder)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def remove_optimizer(folder: Path) -> None:
    """Drop the optimizer's state: the weights stay a whole checkpoint at every moment."""
    sums = read_sums(folder)
    kept = {name: sha for name, sha in sums.items() if not name.startswith("optimizer-")}
    if kept != sums:
        write_sums(folder, kept)
    # Also those of a removal that was cut short, and whatever damage has put in their place.
    for path in folder.glob("optimizer-*.safetensors"):
        remove(path)


def remove_checkpoint(folder: Path) -> None:
    """Take the name away first: half a checkpoint must not look like one."""
    doomed = folder.with_name(f".deleting-{folder.name}")
    if doomed.is_symlink() or doomed.exists():
        remove(doomed)
    folder.rename(doomed)
    remove(doomed)


def remove(path: Path) -> None:
    """Delete a folder, or whatever a damaged run has in its place; a link's target stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written or half-deleted."""
    for path in folder.glob(".*"):
        if path.name.startswith((".saving-", ".deleting-")):
            with contextlib.suppress(OSError):
                remove(path)


def read_sums(folder: Path) -> dict[str, str]:
    """File name -> SHA-256. Raises Damaged unless every line is as it was written."""
    sums: dict[str, str] = {}
    *lines, end = _text(folder / SUMS).split("\n")
    if end:
        raise Damaged(f"{folder / SUMS}: damaged (its last line is not whole)")
    for line in lines:
        match = _SUM_LINE.fullmatch(line)
        known = match and (match[2] == FACTS or TENSOR_FILE.fullmatch(match[2]))
        if not match or not known or match[2] in sums:
            raise Damaged(f"{folder / SUMS}: damaged (line {short(line)})")
        sums[match[2]] = match[1]
    if FACTS not in sums:
        raise Damaged(f"{folder / SUMS}: damaged (it does not name {FACTS})")
    return sums


class Checkpoint:
    """A checkpoint opened for reading. Raises Damaged, naming the file, for whatever is wrong with
    the small files; ``verify`` looks at the large ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not TAG.fullmatch(folder.name):
            raise Damaged(f"{folder}: not the name of a checkpoint (step-N)")
        for path in (folder.parent, folder):
            if path.is_symlink() or not path.is_dir():
                raise Damaged(f"{path}: not a folder of its own")
        self.sums = read_sums(folder)
        self._check_hash(FACTS)
        self.facts, self._places = self._read_facts()
        self._check_files()
        self._open: dict[str, Any] = {}

    @property
    def has_optimizer(self) -> bool:
        """Whether training can go on from here; a finished run keeps weights only."""
        return all(file in self.sums for file in self.facts["pieces"])

    def verify(self, part: int = 0, parts: int = 1) -> None:
        """Compare the hashes of every ``parts``-th file: ranks share the work. And see that the files
        hold the tensors that they should, all of them: that takes no time."""
        for file in sorted(self.sums)[part::parts]:
            self._check_hash(file)
        types: dict[str, str] = {}
        for file in sorted(self.sums.keys() - {FACTS}):
            self._check_tensors(file, types)

    def check_training(self) -> None:
        """Raise Damaged unless what a training needs to go on is there, tensors aside."""
        with self._reading(FACTS):
            check_training(self.facts)
        state = self.facts["state"]
        if tag_of(state["step"], state["evaluated"]) != self.folder.name:
            raise Damaged(f"{self.folder / FACTS}: damaged (key 'state' is another checkpoint's)")

    def close(self) -> None:
        """Let go of the files, so that they can be deleted on any file system."""
        self._open.clear()

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Whole parameters and buffers by name, each read when it is asked for."""
        return _Weights(self)

    def as_state(self) -> dict[str, Tensor]:
        """All weights in memory, in fp32 where they are of lower precision."""
        state = {name: self.weights[name] for name in self.weights}
        low = (torch.float16, torch.bfloat16)
        return {name: t.float() if t.dtype in low else t for name, t in state.items()}

    def part(self, kind: str, name: str, start: int, elements: int) -> Tensor:
        """(elements,) of a flattened tensor, put together from the pieces that hold them."""
        shape = self.facts["shapes"].get(name)
        if shape is None or start + elements > math.prod(shape):
            raise InputError(f"{self.folder}: has no {name!r} of that size; it is of another model")
        found = []
        for file, first, size in self._places.get(f"{kind}/{name}", []):
            low, high = max(start, first), min(start + elements, first + size)
            if low < high and file in self.sums:
                with self._reading(file):
                    flat = self._handle(file).get_tensor(f"{kind}/{name}").view(-1)
                found.append(flat[low - first : high - first])
        whole = torch.cat(found) if len(found) > 1 else found[0] if found else torch.empty(0)
        if len(whole) != elements:
            raise InputError(f"{self.folder}: {kind} of {name!r} are not all there")
        return whole

    def _read_facts(self) -> tuple[dict[str, Any], Places]:
        with self._reading(FACTS):
            facts = parse(_text(self.folder / FACTS))
            number = facts.get("format")
            if type(number) is int and number != FORMAT:
                raise InputError(f"{self.folder / FACTS}: of format {short(number)}, not {FORMAT}")
            if type(number) is not int or facts.get("tag") != self.folder.name:
                raise ValueError(f"it was saved as {short(facts.get('tag'))}")
            return facts, check_layout(facts)

    def _check_files(self) -> None:
        """Every file with pieces must have its hash, but for the optimizer's if all are gone."""
        listed, saved = self.sums.keys() - {FACTS}, set(self.facts["pieces"])
        weights = {file for file in saved if file.startswith("weights-")}
        if listed not in (saved, weights):
            file = min(listed ^ saved)
            said = f"it names {file}, which {FACTS} does not" if file in listed else f"no {file}"
            raise Damaged(f"{self.folder / SUMS}: damaged ({said})")

    def _check_tensors(self, file: str, types: dict[str, str]) -> None:
        """A file must hold the tensors that it should; ``types`` are those of all files so far."""
        with self._reading(file):
            handle, pieces = self._handle(file), self.facts["pieces"][file]
            if set(handle.keys()) != pieces.keys():
                raise ValueError("its tensors are others")
            for key, (_, elements) in pieces.items():
                kind, _, name = key.partition("/")
                shape = self.facts["shapes"][name]
                tensor = handle.get_slice(key)
                kept = shape if elements == math.prod(shape) else [elements]
                if list(tensor.get_shape()) != kept:
                    raise ValueError(f"{short(key)} is of another shape")
                number = str(tensor.get_dtype())
                fits = kind not in MOMENTS or number in _FLOATS
                if types.setdefault(key, number) != number or not fits:
                    raise ValueError(f"{short(key)} is of another type")

    def _handle(self, file: str) -> Any:
        if file not in self._open:
            _check_regular(self.folder / file)
            self._open[file] = safe_open(str(self.folder / file), framework="pt")
        return self._open[file]

    def _check_hash(self, file: str) -> None:
        with self._reading(file):
            _check_regular(self.folder / file)
            if sha256_of(self.folder / file) != self.sums[file]:
                raise ValueError("its SHA-256 is not the saved one")

    @contextmanager
    def _reading(self, file: str) -> Iterator[None]:
        """Turn whatever is wrong with a file into one line that names it."""
        path = self.folder / file
        try:
            yield
        except OSError as error:
            raise Damaged(f"{path}: cannot be read ({error.strerror})") from None
        except (SafetensorError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise Damaged(f"{path}: damaged ({one_line(error)})") from None


class _Weights(Mapping[str, Tensor]):
    """The weights of a checkpoint as a mapping that reads one tensor at a time."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._shapes: dict[str, list[int]] = checkpoint.facts["shapes"]

    def __getitem__(self, name: str) -> Tensor:
        shape = self._shapes.get(name, [])
        return self._checkpoint.part(WEIGHTS, name, 0, math.prod(shape)).view(shape)

    def __contains__(self, name: object) -> bool:
        return name in self._shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def _shaped(piece: Piece) -> Tensor:
    """A whole tensor in its own shape, so that a single rank's files are plain state dicts."""
    whole = piece.tensor.numel() == torch.Size(piece.shape).numel()
    return piece.tensor.view(piece.shape) if whole else piece.tensor


def _check_regular(path: Path) -> None:
    """Opening a pipe would wait for ever, and a link may lead anywhere."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise Damaged(f"{path}: not a regular file")


def _text(path: Path) -> str:
    try:
        _check_regular(path)
        if (size := path.stat().st_size) > _LARGEST_TEXT:
            raise Damaged(f"{path}: damaged (it has {size:,} bytes)")
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise Damaged(f"{path}: cannot be read ({why})") from None


def sync(path: Path) -> None:
    """Have the kernel put a file or folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
