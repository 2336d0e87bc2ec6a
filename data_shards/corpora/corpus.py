"""What every raw corpus hands to packing: a list of cheap descriptors and how to load one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_shards.index import Kind
from data_shards.sample import Sample


@dataclass(frozen=True)
class Corpus:
    """A raw corpus that has been listed and checked, but not read."""

    name: str
    """Names the shards."""
    kind: Kind
    """audio or text."""
    synthetic: bool
    """Whether our own code made it up."""
    items: Sequence[Any]
    """One picklable descriptor a sample: a path, a row, a number."""
    load: Callable[[Any], Sample]
    """Descriptor -> sample; a module function or a partial of one, for it runs in packing workers.
    Raises InputError on bad input."""
    key: Callable[[Any], str]
    """Key of a descriptor's sample, known without loading it."""
    settings: dict[str, Any]
    """How the corpus was read; stored in the index, so it must not name this machine's paths."""
    notes: dict[str, int] = field(default_factory=dict)
    """What listing found worth telling, and how often, e.g. transcripts without audio."""
