"""``sokhan pack``, ``split`` and ``inspect``: raw corpora to shards, split tables, and a look at both."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import InputError

if TYPE_CHECKING:
    from data_shards.corpora.corpus import Corpus
    from data_shards.index import ShardIndex
    from data_shards.splits import Split


def add_commands(commands: Any) -> None:
    """Add the three commands to the ``sokhan`` parser."""
    pack = commands.add_parser("pack", help="pack a corpus into WebDataset shards")
    corpora = pack.add_subparsers(dest="corpus", required=True, metavar="CORPUS")

    shemo = corpora.add_parser("shemo", help="ShEMO: its two zip archives, or extracted folders")
    shemo.add_argument("sources", nargs="+", type=Path, help="archives or folders")
    shemo.add_argument("--transcripts", type=Path, help="transcript archive or folder")

    farstail = corpora.add_parser("farstail", help="FarsTail: its folder, or its three csv files")
    farstail.add_argument("sources", nargs="+", type=Path, help="folder or files")
    _add_text_steps(farstail)

    manifest = corpora.add_parser("manifest", help="any corpus listed in a csv, tsv or jsonl file")
    manifest.add_argument(
        "file",
        type=Path,
        help="audio: path,label[,speaker,split]; text: premise,hypothesis,label[,split]",
    )
    manifest.add_argument("--name", help="name of the corpus (default: the file's name)")
    manifest.add_argument("--labels", nargs="+", help="the labels that may occur")
    _add_text_steps(manifest)

    speech = corpora.add_parser(
        "synthetic-shemo", help="generated emotional speech, for trying things out"
    )
    speech.add_argument("--samples", type=int, default=480, help="clips (default: %(default)s)")
    speech.add_argument("--seed", type=int, default=0)
    speech.add_argument(
        "--seconds-scale", type=float, default=1.0, help="shorten (below 1) or lengthen all clips"
    )

    text = corpora.add_parser(
        "synthetic-farstail", help="generated Persian inference pairs, for trying things out"
    )
    text.add_argument("--samples", type=int, default=2400, help="pairs (default: %(default)s)")
    text.add_argument("--seed", type=int, default=0)
    _add_text_steps(text)

    for corpus in (shemo, farstail, manifest, speech, text):
        _add_packing(corpus)
    pack.set_defaults(run=run_pack)

    split = commands.add_parser("split", help="make another split table for packed shards")
    split.add_argument("shards", type=Path)
    split.add_argument("protocol", help="reference, speaker, official or emobox:FILE,FILE...")
    split.add_argument("--seed", type=int, default=0)
    split.add_argument("--folds", type=int, default=1, help="speaker: k folds make k splits")
    split.add_argument("--name", help="name of the table (default: the protocol's)")
    split.add_argument(
        "--allow-empty-class", action="store_true", help="accept a part without some class"
    )
    split.set_defaults(run=run_split)

    inspect = commands.add_parser(
        "inspect", help="counts, overlaps and distributions of packed shards"
    )
    inspect.add_argument("shards", type=Path)
    inspect.add_argument("--split", action="append", help="only this split (may be repeated)")
    inspect.add_argument(
        "--plots", type=Path, metavar="FOLDER", help="draw label and length distributions"
    )
    inspect.set_defaults(run=run_inspect)


def _add_text_steps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-normalise", action="store_true", help="leave hazm's normalisation out"
    )
    parser.add_argument("--no-stopwords", action="store_true", help="leave stop-word removal out")
    parser.add_argument("--no-lemmas", action="store_true", help="leave lemmatisation out")


def _add_packing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--audio-format", choices=("wav", "flac"), default="wav")
    parser.add_argument(
        "--split",
        action="append",
        metavar="PROTOCOL",
        help="splits to make (default: the corpus's usual one)",
    )
    parser.add_argument(
        "--readers", type=int, default=16, help="ranks x workers that should find four shards each"
    )
    parser.add_argument("--processes", type=int, help="packing processes (default: all cores)")
    parser.add_argument(
        "--allow-empty-class", action="store_true", help="accept a split's part without some class"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an older corpus there")


def run_pack(options: argparse.Namespace) -> int:
    """Pack, make the splits, say what came out."""
    from data_shards.index import open_index
    from data_shards.pack import PackSettings, pack, summarise
    from data_shards.progress import stderr_progress

    started = time.perf_counter()
    for protocol in options.split or []:
        parse_protocol(protocol)  # a misspelt one should not show after hours of packing
    corpus = list_corpus(options)
    settings = PackSettings(
        audio_format=options.audio_format, processes=options.processes, readers=options.readers,
        overwrite=options.overwrite,
    )  # fmt: skip
    with stderr_progress(corpus.name) as progress:
        pack(corpus, options.out, settings, progress)
    print(summarise(options.out, time.perf_counter() - started))
    index = open_index(options.out)
    protocols = options.split or [usual_protocol(index)]
    if not options.split and protocols == ["reference"]:
        print(
            "note: no speaker-disjoint split (it needs a speaker for every sample, three or more); "
            "the reference protocol puts 40 % into train"
            if index.manifest.kind == "audio"
            else "note: no split of its own; the reference protocol puts 40 % into train"
        )
    try:
        for protocol in protocols:
            for split in make_splits(index, protocol, seed=0, folds=1, name=None):
                save(index, split, options.allow_empty_class)
    except InputError as error:
        raise InputError(
            f"{error} (the shards in {options.out} are complete; try `sokhan split {options.out} reference`)"
        ) from None
    return 0


def list_corpus(options: argparse.Namespace) -> Corpus:
    """The corpus that the command line names, listed but not read."""
    from data_shards.corpora import farstail, manifest, shemo, synthetic_speech, synthetic_text
    from data_shards.text import TextSteps

    def steps() -> TextSteps:
        return TextSteps(not options.no_normalise, not options.no_stopwords, not options.no_lemmas)

    if options.corpus == "shemo":
        return shemo.list_corpus(options.sources, options.transcripts)
    if options.corpus == "farstail":
        return farstail.list_corpus(options.sources, steps())
    if options.corpus == "manifest":
        return manifest.list_corpus(
            options.file, name=options.name, labels=options.labels, steps=steps()
        )
    if options.corpus == "synthetic-shemo":
        return synthetic_speech.synthetic_shemo(
            options.samples, options.seed, options.seconds_scale
        )
    return synthetic_text.synthetic_farstail(options.samples, options.seed, steps())


def run_split(options: argparse.Namespace) -> int:
    """Make split tables."""
    from data_shards.index import open_index

    index = open_index(options.shards)
    for split in make_splits(index, options.protocol, options.seed, options.folds, options.name):
        save(index, split, options.allow_empty_class)
    return 0


def usual_protocol(index: ShardIndex) -> str:
    """official where the corpus has parts of its own, speaker where its speakers are enough for
    disjoint parts, else reference."""
    if "source_split" in index.manifest.groups:
        return "official"
    enough = len(index.manifest.speakers) >= 3 and bool((index.speaker[:] >= 0).all())
    return "speaker" if enough else "reference"


def parse_protocol(protocol: str) -> tuple[str, list[Path]]:
    """ "emobox:a,b" -> its name and files. Raises InputError for what is no protocol."""
    kind, _, rest = protocol.partition(":")
    files = [Path(file) for file in rest.split(",") if file]
    if kind not in ("reference", "speaker", "official", "emobox") or (kind == "emobox") != bool(
        files
    ):
        raise InputError(
            f"split protocol {protocol!r}: use reference, speaker, official or emobox:FILE,FILE..."
        )
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: no such file, but split protocol {protocol!r} names it")
    return kind, files


def make_splits(
    index: ShardIndex, protocol: str, seed: int, folds: int, name: str | None
) -> list[Split]:
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
    if kind == "official":
        return [protocols.official_split(index, seed, name or kind)]
    return [protocols.emobox_split(index, files, seed, name or kind)]


def save(index: ShardIndex, split: Split, allow_empty_class: bool) -> None:
    """Check, write and announce a split."""
    from data_shards.splits import check_classes, save_split, speaker_overlap

    if not allow_empty_class:
        check_classes(index, split)
    save_split(index, split)
    counts = ", ".join(f"{part} {len(split.rows(part))}" for part in split.names)
    print(f"split {split.name}: {counts} ({split.protocol})")
    for note, count in split.notes.items():
        print(f"  {note}: {count}")
    shared = {pair: n for pair, n in speaker_overlap(index, split).items() if n}
    if shared:
        pairs = ", ".join(f"{n} in {pair}" for pair, n in shared.items())
        print(
            f"  warning: speakers occur in two parts ({pairs}); scores will be those of known speakers"
        )


def run_inspect(options: argparse.Namespace) -> int:
    """Print the tables; draw on request."""
    from data_shards.describe import inspect
    from data_shards.index import open_index
    from data_shards.splits import load_split, split_names

    index = open_index(options.shards)
    names = options.split or split_names(index.root)
    print(inspect(index, [load_split(index, name) for name in names], options.plots))
    return 0
