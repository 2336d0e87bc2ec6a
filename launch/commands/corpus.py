"""``sokhan split`` and ``inspect``: split tables for packed shards, and a look at both."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import InputError

if TYPE_CHECKING:
    from data_shards.index import ShardIndex
    from data_shards.splits import Split


def add_commands(commands: Any) -> None:
    """Add the two commands to the ``sokhan`` parser."""
    split = commands.add_parser("split", help="make another split table for packed shards")
    split.add_argument("shards", type=Path)
    split.add_argument("protocol", help="reference, speaker, official, heldout or emobox:FILE,FILE...")
    split.add_argument("--seed", type=int, default=0)
    split.add_argument("--folds", type=int, default=1, help="speaker: k folds make k splits")
    split.add_argument("--name", help="name of the table (default: the protocol's)")
    split.add_argument("--allow-empty-class", action="store_true", help="accept a part without some class")
    split.add_argument("--overwrite", action="store_true", help="replace another table of that name")
    split.set_defaults(run=run_split)

    inspect = commands.add_parser("inspect", help="counts, overlaps and distributions of packed shards")
    inspect.add_argument("shards", type=Path)
    inspect.add_argument("--split", action="append", help="only this split (may be repeated)")
    inspect.add_argument("--plots", type=Path, metavar="FOLDER", help="draw label and length distributions")
    inspect.set_defaults(run=run_inspect)


def run_split(options: argparse.Namespace) -> int:
    """Make split tables."""
    from data_shards.index import open_index

    index = open_index(options.shards)
    splits = make_splits(index, options.protocol, options.seed, options.folds, options.name)
    if not options.overwrite:
        for split in splits:  # all of them before the first is written
            refuse_other(index, split)
    for split in splits:
        save(index, split, options.allow_empty_class)
    return 0


def refuse_other(index: ShardIndex, split: Split) -> None:
    """Raise InputError if there is a table of that name that divides otherwise: runs may rest on it."""
    from data_shards.splits import saved_split

    older = saved_split(index, split.name)
    if older is not None and not _divides_alike(older, split):
        raise InputError(
            f"{index.root}: has another split {split.name!r} already ({older.protocol}, seed {older.seed}); "
            "give this one a name with --name, or replace the older one with --overwrite"
        )


def _divides_alike(one: Split, other: Split) -> bool:
    return one.names == other.names and bool((one.codes == other.codes).all())


def usual_protocol(index: ShardIndex) -> str:
    """heldout for prose, official where the corpus has parts of its own, speaker where its speakers
    are enough for disjoint parts, else reference."""
    if index.manifest.kind == "prose":
        return "heldout"
    if "source_split" in index.manifest.groups:
        return "official"
    enough = len(index.manifest.speakers) >= 3 and bool((index.speaker[:] >= 0).all())
    return "speaker" if enough else "reference"


def parse_protocol(protocol: str) -> tuple[str, list[Path]]:
    """ "emobox:a,b" -> its name and files. Raises InputError for what is no protocol."""
    kind, _, rest = protocol.partition(":")
    files = [Path(file) for file in rest.split(",") if file]
    known = ("reference", "speaker", "official", "heldout", "emobox")
    if kind not in known or (kind == "emobox") != bool(files):
        raise InputError(
            f"split protocol {protocol!r}: use reference, speaker, official, heldout or emobox:FILE,FILE..."
        )
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: no such file, but split protocol {protocol!r} names it")
    return kind, files


def make_splits(index: ShardIndex, protocol: str, seed: int, folds: int, name: str | None) -> list[Split]:
    """The splits of one protocol."""
    from data_shards import protocols

    kind, files = parse_protocol(protocol)
    if seed < 0:
        raise InputError(f"--seed {seed}: use 0 or more")
    if folds != 1 and kind != "speaker":
        raise InputError(f"--folds is for the speaker protocol, not {kind!r}")
    if kind == "reference":
        return [protocols.reference_split(index, seed, name or kind)]
    if kind == "speaker":
        return protocols.speaker_splits(index, seed, folds, name or kind)
    if kind == "heldout":
        return [protocols.heldout_split(index, seed, name or kind)]
    if kind == "official":
        return [protocols.official_split(index, seed, name or kind)]
    return [protocols.emobox_split(index, files, seed, name or kind)]


def save(index: ShardIndex, split: Split, allow_empty_class: bool) -> None:
    """Check, write and announce a split, or say that it was there."""
    from data_shards.splits import check_classes, save_split, saved_split, speaker_overlap

    if not allow_empty_class:
        check_classes(index, split)
    older = saved_split(index, split.name)
    same = older is not None and _divides_alike(older, split)
    if not same:
        save_split(index, split)
    counts = ", ".join(f"{part} {len(split.rows(part))}" for part in split.names)
    print(f"split {split.name}: {'unchanged, ' if same else ''}{counts} ({split.protocol})")
    for note, count in split.notes.items():
        print(f"  {note}: {count}")
    shared = {pair: n for pair, n in speaker_overlap(index, split).items() if n}
    if shared:
        pairs = ", ".join(f"{n} in {pair}" for pair, n in shared.items())
        print(f"  warning: speakers occur in two parts ({pairs}); scores will be those of known speakers")


def run_inspect(options: argparse.Namespace) -> int:
    """Print the tables; draw on request."""
    from data_shards.describe import inspect
    from data_shards.index import open_index
    from data_shards.splits import load_split, split_names

    index = open_index(options.shards)
    names = options.split or split_names(index.root)
    print(inspect(index, [load_split(index, name) for name in names], options.plots))
    return 0
