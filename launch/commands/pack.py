"""``sokhan pack``: raw corpora to shards, in one piece, in parts, or as jobs of a cluster."""

from __future__ import annotations

import argparse
import re
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import InputError
from launch.commands.common import add_cluster_options
from launch.commands.corpus import make_splits, parse_protocol, save, usual_protocol

if TYPE_CHECKING:
    from data_shards.corpora.corpus import Corpus
    from data_shards.pack import PackSettings


def add_commands(commands: Any) -> None:
    """Add the command to the ``sokhan`` parser."""
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

    prose = corpora.add_parser("text", help="plain text, a paragraph a line, for pre-training")
    prose.add_argument("files", nargs="+", type=Path, help="UTF-8 text files")
    prose.add_argument(
        "--pairs", type=Path, metavar="SHARDS", help="packed pairs whose training part goes in too"
    )
    prose.add_argument("--name", help="name of the corpus (default: text)")
    _add_text_steps(prose)

    speech = corpora.add_parser("synthetic-shemo", help="generated emotional speech, for trying things out")
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

    for corpus in (shemo, farstail, manifest, prose, speech, text):
        _add_packing(corpus)
    pack.set_defaults(run=run_pack)


def _add_text_steps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-normalise", action="store_true", help="leave hazm's normalisation out")
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
    split_up = parser.add_argument_group("in parts", "for corpora that take too long in one piece")
    kinds = split_up.add_mutually_exclusive_group()
    kinds.add_argument("--part", metavar="I/N", help="pack part I of N only, into OUT.parts")
    kinds.add_argument("--merge", action="store_true", help="join all parts, and make the splits")
    _add_jobs(split_up, kinds)


def _add_jobs(parser: Any, kinds: Any) -> None:
    """What is said of jobs; the jobs themselves are told all the rest."""
    kinds.add_argument(
        "--slurm",
        type=int,
        metavar="PARTS",
        dest="parts",
        help="pack and join PARTS parts as jobs; --slurm.FIELD says what to ask the cluster for",
    )
    parser.add_argument("--at_most", type=int, metavar="N", help="parts packed at once")
    add_cluster_options(parser)


def split_slurm(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The ``--slurm.FIELD VALUE`` words of a packing command, and all others.

    argparse alone would take a value for one of the corpus's files.
    """
    if arguments[:1] != ["pack"]:
        return [], arguments
    slurm: list[str] = []
    others: list[str] = []
    words = iter(arguments)
    for word in words:
        if word.startswith("--slurm."):
            slurm += [word, *islice(words, 0 if "=" in word else 1)]
        else:
            others.append(word)
    return slurm, others


def run_pack(options: argparse.Namespace) -> int:
    """Pack, make the splits, say what came out."""
    from data_shards.pack import pack, summarise
    from data_shards.pack_parts import merge_parts, parts_folder
    from data_shards.progress import stderr_progress

    started = time.perf_counter()
    for protocol in options.split or []:
        parse_protocol(protocol)  # a misspelt one should not show after hours of packing
    if options.parts is not None:
        return run_pack_jobs(options)
    if options.slurm or options.site or options.wait or options.at_most is not None:
        raise InputError("--slurm.FIELD, --site, --at_most and --wait are for jobs; add --slurm PARTS")
    if options.part is not None:
        return run_part(options)
    corpus, settings = list_corpus(options), pack_settings(options)
    with stderr_progress(corpus.name, "shards" if options.merge else "samples") as progress:
        if options.merge:
            merge_parts(corpus, settings, parts_folder(options.out), options.out, progress)
        else:
            pack(corpus, options.out, settings, progress)
    print(summarise(options.out, time.perf_counter() - started))
    make_usual_splits(options)
    return 0


def run_part(options: argparse.Namespace) -> int:
    """Pack one part."""
    from data_shards.pack_parts import pack_part, parts_folder
    from data_shards.progress import stderr_progress
    from data_shards.writer import check_free

    match = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", options.part, re.ASCII)
    if not match or int(match[1]) > int(match[2]):
        raise InputError(f"--part {options.part}: write 1/8 to 8/8 for the parts of eight")
    check_free(options.out, options.overwrite)
    corpus, folder = list_corpus(options), parts_folder(options.out)
    with stderr_progress(f"{corpus.name} part {options.part}") as progress:
        done = pack_part(corpus, pack_settings(options), int(match[1]), int(match[2]), folder, progress)
    how = "" if done.anew or not done.shards else ", packed before"
    print(f"part {options.part}: {done.samples} samples in {done.shards} shards{how}")
    return 0


def run_pack_jobs(options: argparse.Namespace) -> int:
    """Pack in parts, as jobs."""
    from data_shards.pack_parts import missing_parts, parts_folder
    from data_shards.writer import check_free
    from launch.packing.jobs import SplitPack, load_site, run

    for name, value in (("--slurm", options.parts), ("--at_most", options.at_most)):
        if value is not None and value < 1:
            raise InputError(f"{name} {value}: use 1 or more")
    site = load_site(options.site, options.slurm)
    check_free(options.out, options.overwrite)
    # Listed here too: what is wrong should show before anything waits in a queue.
    corpus, settings = list_corpus(options), pack_settings(options)
    missing, parts = missing_parts(corpus, settings, options.parts, parts_folder(options.out))
    jobs = argparse.ArgumentParser(add_help=False)
    _add_jobs(jobs, jobs)
    arguments = tuple(jobs.parse_known_args(options.typed)[1])
    pack = SplitPack(corpus.name, arguments, options.out, parts, tuple(missing), options.processes)
    return run(pack, site, options.cluster, options.at_most, wait=options.wait)


def pack_settings(options: argparse.Namespace) -> PackSettings:
    """What the command line says of packing."""
    from data_shards.pack import PackSettings

    return PackSettings(
        audio_format=options.audio_format,
        processes=options.processes,
        readers=options.readers,
        overwrite=options.overwrite,
    )


def make_usual_splits(options: argparse.Namespace) -> None:
    """The splits that were asked for, or the corpus's usual one."""
    from data_shards.index import open_index

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


def list_corpus(options: argparse.Namespace) -> Corpus:
    """The corpus that the command line names, listed but not read."""
    from data_shards.corpora import (
        farstail,
        manifest,
        prose,
        shemo,
        synthetic_speech,
        synthetic_text,
    )
    from data_shards.text import TextSteps

    def steps() -> TextSteps:
        return TextSteps(not options.no_normalise, not options.no_stopwords, not options.no_lemmas)

    if options.corpus == "shemo":
        return shemo.list_corpus(options.sources, options.transcripts)
    if options.corpus == "farstail":
        return farstail.list_corpus(options.sources, steps())
    if options.corpus == "manifest":
        return manifest.list_corpus(options.file, name=options.name, labels=options.labels, steps=steps())
    if options.corpus == "text":
        return prose.list_corpus(options.files, pairs=options.pairs, name=options.name, steps=steps())
    if options.corpus == "synthetic-shemo":
        return synthetic_speech.synthetic_shemo(options.samples, options.seed, options.seconds_scale)
    return synthetic_text.synthetic_farstail(options.samples, options.seed, steps())
