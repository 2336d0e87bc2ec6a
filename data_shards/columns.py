"""The index columns of a corpus while its shards are written, in a few dozen bytes a sample.

Numbers grow in flat arrays, labels, speakers and groups are coded as they come, keys are one run
of bytes. Python objects would take ten times as much, and the index is what packing holds of the
whole corpus.
"""

from __future__ import annotations

import zlib
from array import array
from collections import Counter
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.errors import InputError
from data_shards.sample import EncodedSample

Columns = dict[str, NDArray[Any]]
_LARGEST = 2**31 - 1


class Coded:
    """One categorical column: each value becomes a number in the order of first occurrence."""

    def __init__(self, missing_rows: int = 0) -> None:
        self.numbers: dict[str, int] = {"": 0} if missing_rows else {}
        self.codes = array("i", bytes(4 * missing_rows))

    def add(self, value: str) -> None:
        """Append one row."""
        self.codes.append(self.numbers.setdefault(value, len(self.numbers)))

    def finish(self, name: str, dtype: Any, *, empty: bool) -> tuple[tuple[str, ...], NDArray[Any]]:
        """The sorted values and (samples,) positions in them; -1 for "" unless ``empty`` is one.

        Lets go of what was collected: there may not be room for both.
        Raises InputError where ``dtype`` cannot count the values.
        """
        values = tuple(sorted(value for value in self.numbers if value or empty))
        if len(values) > np.iinfo(dtype).max:
            raise InputError(
                f"column {name}: {len(values)} different values, at most {np.iinfo(dtype).max} "
                "can be held; a category has fewer"
            )
        recoded = np.full(len(self.numbers), -1, dtype)
        recoded[[self.numbers[value] for value in values]] = np.arange(len(values), dtype=dtype)
        column = np.empty(len(self.codes), dtype)
        np.take(recoded, np.frombuffer(self.codes, np.int32), out=column, mode="clip")
        self.codes = array("i")
        return values, column


class GrowingColumns:
    """What the index will say of the samples written so far."""

    def __init__(self) -> None:
        self.payload = ""
        self.notes: Counter[str] = Counter()
        self.numbers = {
            "shard": array("i"),
            "offset": array("q"),
            "size": array("i"),
            "crc32": array("I"),
            "length": array("i"),
        }
        self.label = Coded()
        self.speaker = Coded()
        self.groups: dict[str, Coded] = {}
        self.key_bytes = bytearray()
        self.key_sizes = array("H")
        self.key_hashes = array("Q")

    def __len__(self) -> int:
        return len(self.key_sizes)

    def add(self, shard: int, sample: EncodedSample) -> None:
        """Append a sample; where it lies in its shard is told later, by ``place``."""
        self.payload, payload = next(iter(sample.members.items()))
        if max(len(payload), sample.length) > _LARGEST:
            raise InputError(f"sample {sample.key!r}: larger than 2 GiB; cut it into shorter ones")
        for name in sample.groups.keys() - self.groups.keys():
            self.groups[name] = Coded(missing_rows=len(self))
        for name, column in self.groups.items():
            column.add(sample.groups.get(name, ""))
        self.numbers["shard"].append(shard)
        self.numbers["size"].append(len(payload))
        self.numbers["crc32"].append(zlib.crc32(payload))
        self.numbers["length"].append(sample.length)
        self.label.add(sample.label)
        self.speaker.add(sample.speaker)
        key = sample.key.encode()
        self.key_bytes += key
        self.key_sizes.append(len(key))
        self.key_hashes.append(int.from_bytes(blake2b(key, digest_size=8).digest()))
        self.notes.update(sample.notes)

    def place(self, offsets: list[int]) -> None:
        """Append where the payloads of the samples added last start."""
        self.numbers["offset"].extend(offsets)

    def finish(self) -> tuple[Columns, dict[str, tuple[str, ...]]]:
        """All columns of the index, and the values of its categorical ones.

        Raises InputError on a key that occurs twice.
        """
        ends = np.zeros(len(self) + 1, np.int64)
        np.cumsum(np.frombuffer(self.key_sizes, np.uint16), out=ends[1:])
        self._check_keys(ends)
        self.key_hashes = array("Q")
        dtypes = {"offset": np.int64, "crc32": np.uint32}
        columns: Columns = {
            name: np.frombuffer(values, dtypes.get(name, np.int32)) for name, values in self.numbers.items()
        }
        columns["key-bytes"] = np.frombuffer(self.key_bytes, np.uint8)
        columns["key-offset"] = ends
        values: dict[str, tuple[str, ...]] = {}
        values["label"], columns["label"] = self.label.finish("label", np.int16, empty=True)
        values["speaker"], columns["speaker"] = self.speaker.finish("speaker", np.int32, empty=False)
        for name in sorted(self.groups):
            values[f"group-{name}"], columns[f"group-{name}"] = self.groups[name].finish(
                name, np.int16, empty=True
            )
        return columns, values

    def _check_keys(self, ends: NDArray[np.int64]) -> None:
        """Compare the keys whose hashes are equal; a set of all keys would be the largest column."""
        hashes = np.sort(np.frombuffer(self.key_hashes, np.uint64))
        if (hashes[1:] != hashes[:-1]).all():
            return
        hashes = np.frombuffer(self.key_hashes, np.uint64)
        order = np.argsort(hashes, kind="stable")
        equal = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
        seen: dict[bytes, int] = {}
        for row in np.union1d(order[equal], order[equal + 1]).tolist():
            key = bytes(self.key_bytes[ends[row] : ends[row + 1]])
            if key in seen:
                raise InputError(f"sample key {key.decode()!r} occurs twice; keys must be unique")
            seen[key] = row
