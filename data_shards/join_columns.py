"""The index columns of several parts of a corpus, one after the other, as if written in one go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.errors import InputError
from data_shards.columns import Columns
from data_shards.index import ShardIndex

PLAIN = ("shard", "offset", "size", "crc32", "length", "key-bytes")
"""Columns that only have to be put together: a part's shards carry their final numbers."""


def column_names(part: ShardIndex) -> list[str]:
    """All columns that a part's index has."""
    groups = [f"group-{name}" for name in part.manifest.groups]
    return [*PLAIN, "key-offset", "label", "speaker", *groups]


def join_columns(parts: Sequence[ShardIndex]) -> tuple[Columns, dict[str, tuple[str, ...]]]:
    """All columns, and the values of the categorical ones, as ``GrowingColumns.finish`` would give
    them for the samples of all parts in order. Raises InputError as it does."""
    columns: Columns = {name: np.concatenate([p.column(name) for p in parts]) for name in PLAIN}
    columns["key-offset"] = _join_ends([part.column("key-offset") for part in parts])
    values: dict[str, tuple[str, ...]] = {}
    values["label"], columns["label"] = _join_category(
        "label", [(p.manifest.labels, p.label) for p in parts], np.int16
    )
    values["speaker"], columns["speaker"] = _join_category(
        "speaker", [(p.manifest.speakers, p.speaker) for p in parts], np.int32
    )
    for name in sorted({name for part in parts for name in part.manifest.groups}):
        values[f"group-{name}"], columns[f"group-{name}"] = _join_category(
            name, [_group(part, name) for part in parts], np.int16
        )
    return columns, values


def _group(part: ShardIndex, name: str) -> tuple[tuple[str, ...], NDArray[Any]]:
    """A group's values and column; in a part where no sample has one, "" for all."""
    if name in part.manifest.groups:
        return part.manifest.groups[name], part.group(name)
    return ("",), np.zeros(len(part), np.int16)


def _join_ends(ends: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """(samples + 1,) where each key starts in the run of all keys' bytes, and where the last ends."""
    joined = np.zeros(1 + sum(len(one) - 1 for one in ends), np.int64)
    row = 0
    for one in ends:
        joined[row : row + len(one)] = one + joined[row]
        row += len(one) - 1
    return joined


def _join_category(
    name: str, parts: Sequence[tuple[tuple[str, ...], NDArray[Any]]], dtype: Any
) -> tuple[tuple[str, ...], NDArray[Any]]:
    """The sorted values of all parts and (samples,) positions in them; -1 stays -1."""
    values = tuple(sorted({value for own, _ in parts for value in own}))
    if len(values) > np.iinfo(dtype).max:
        raise InputError(
            f"column {name}: {len(values)} different values, at most {np.iinfo(dtype).max} "
            "can be held; a category has fewer"
        )
    position = {value: n for n, value in enumerate(values)}
    recoded = []
    for own, column in parts:
        # The last entry is what position -1, "unknown", reads.
        table = np.array([*(position[value] for value in own), -1], dtype)
        recoded.append(table[column])
    return values, np.concatenate(recoded)
