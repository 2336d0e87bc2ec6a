"""The columnar index of a shard folder: where each sample's bytes lie and what is known of it.

``index.json`` (written last: a folder without it is not a corpus) names the shards, the
vocabularies and the columns; each column is one ``index/<column>.npy`` in shard order, opened
memory-mapped, so that a reading process holds only the pages it touches.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from configs.errors import InputError

FORMAT = 1
MANIFEST = "index.json"
Kind = Literal["audio", "text", "prose"]
"""text: pairs of sentences; prose: paragraphs, stored as pairs whose second text is empty, and pairs."""


@dataclass(frozen=True)
class ShardFile:
    """One tar of the folder."""

    name: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What ``index.json`` holds."""

    corpus: str
    kind: Kind
    synthetic: bool
    payload: str
    """File extension of the member that the index points to: wav, flac or json."""
    samples: int
    labels: tuple[str, ...]
    speakers: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]
    """Name of a categorical column -> its values ("" where a sample has none)."""
    shards: tuple[ShardFile, ...]
    settings: dict[str, Any]
    """How the corpus was packed."""
    notes: dict[str, int]
    """What packing changed, and how often."""
    digest: str
    """SHA-256 over the columns."""


@dataclass(frozen=True)
class ShardIndex:
    """An opened index. Columns are read-only arrays of length ``len(index)``."""

    root: Path
    manifest: Manifest

    def __len__(self) -> int:
        return self.manifest.samples

    def column(self, name: str) -> NDArray[Any]:
        """One column, memory-mapped."""
        path = self.root / "index" / f"{name}.npy"
        try:
            values = np.load(path, mmap_mode="r")
            # key-bytes has a length of its own, key-offset an end for every start.
            if name != "key-bytes" and len(values) != len(self) + (name == "key-offset"):
                raise ValueError(f"{len(values)} rows for {len(self)} samples")
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path}: cannot read the index column ({error}); pack again") from None
        return values  # type: ignore[no-any-return]

    @cached_property
    def shard(self) -> NDArray[np.int32]:
        """Number of the shard in ``manifest.shards``."""
        return self.column("shard")

    @cached_property
    def offset(self) -> NDArray[np.int64]:
        """First byte of the payload in its shard."""
        return self.column("offset")

    @cached_property
    def size(self) -> NDArray[np.int32]:
        """Bytes of the payload."""
        return self.column("size")

    @cached_property
    def crc32(self) -> NDArray[np.uint32]:
        """Checksum of the payload."""
        return self.column("crc32")

    @cached_property
    def length(self) -> NDArray[np.int32]:
        """Audio: samples at 16 kHz. Text: words of both texts."""
        return self.column("length")

    @cached_property
    def label(self) -> NDArray[np.int16]:
        """Position in ``manifest.labels``."""
        return self.column("label")

    @cached_property
    def speaker(self) -> NDArray[np.int32]:
        """Position in ``manifest.speakers``; -1 where unknown."""
        return self.column("speaker")

    def group(self, name: str) -> NDArray[np.int16]:
        """Position in ``manifest.groups[name]``."""
        if name not in self.manifest.groups:
            raise InputError(f"{self.root}: has no column {name!r}; there are {sorted(self.manifest.groups)}")
        return self.column(f"group-{name}")

    @cached_property
    def _key_offset(self) -> NDArray[np.int64]:
        return self.column("key-offset")

    @cached_property
    def _key_bytes(self) -> NDArray[np.uint8]:
        return self.column("key-bytes")

    def key(self, row: int) -> str:
        """The key of one sample."""
        start, end = self._key_offset[row : row + 2]
        return self._key_bytes[start:end].tobytes().decode()

    def keys(self) -> list[str]:
        """All keys, in shard order."""
        blob, ends = self._key_bytes.tobytes(), self._key_offset.tolist()
        return [blob[a:b].decode() for a, b in zip(ends, ends[1:], strict=False)]

    def shard_path(self, shard: int) -> Path:
        """Path of a tar."""
        return self.root / self.manifest.shards[shard].name


def key_order(key: str) -> bytes:
    """What packing orders samples by: it mixes neighbours, and lets a key be found by bisection."""
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


def digest_of(columns: dict[str, NDArray[Any]]) -> str:
    """SHA-256 over the columns' names, types, shapes and contents."""
    digest = hashlib.sha256()
    for name in sorted(columns):
        digest.update(f"{name}:{columns[name].dtype.str}:{columns[name].shape}".encode())
        digest.update(np.ascontiguousarray(columns[name]).data)
    return digest.hexdigest()


def write_index(root: Path, manifest: Manifest, columns: dict[str, NDArray[Any]]) -> None:
    """Write the columns, then the manifest that makes them count."""
    (root / "index").mkdir(exist_ok=True)
    for name, values in columns.items():
        np.save(root / "index" / f"{name}.npy", values)
    document = {"format": FORMAT, **asdict(manifest)}
    text = json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    partial = root / f"{MANIFEST}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(root / MANIFEST)


def open_index(root: Path | str, made_by: str = "") -> ShardIndex:
    """Open a shard folder. Raises InputError where it is not a complete one; ``made_by`` is the command
    to type then, where it is known."""
    root = Path(root)
    path = root / MANIFEST
    if not path.is_file():
        command = made_by or f"sokhan pack CORPUS --out {root}"
        raise InputError(f"{root}: not a packed corpus (no {MANIFEST}); make one with `{command}`")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("format") != FORMAT:
            raise InputError(f"{path}: written by another version of sokhan; pack the corpus again")
        document["shards"] = tuple(ShardFile(**shard) for shard in document["shards"])
        for name in ("labels", "speakers"):
            document[name] = tuple(document[name])
        document["groups"] = {k: tuple(v) for k, v in document["groups"].items()}
        manifest = Manifest(**document)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}); pack the corpus again") from None
    for shard in manifest.shards:
        tar = root / shard.name
        if not tar.is_file() or tar.stat().st_size != shard.bytes:
            raise InputError(f"{tar}: missing or not {shard.bytes} bytes long; pack the corpus again")
    return ShardIndex(root, manifest)
