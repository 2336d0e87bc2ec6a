"""What a trained model is to be applied to: audio files, folders of them, or one manifest.

Nothing needs a label here. Files are listed and checked before one of them is decoded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from configs.errors import InputError
from data_shards.audio import load_file
from data_shards.corpora.corpus import Corpus
from data_shards.corpora.manifest import list_corpus
from data_shards.corpora.manifest_rows import SUFFIXES, open_source
from data_shards.index import Kind
from data_shards.sample import Sample
from data_shards.text import TextSteps

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc")
"""What is taken of a folder; a file that is named is read whatever it is called."""
_READS = {
    "audio": "audio: give audio files, folders of them, or a manifest path[,label]",
    "text": "pairs of texts: give a csv, tsv or jsonl file with premise,hypothesis[,label]",
}


def list_inputs(paths: Sequence[Path], kind: Kind, steps: TextSteps, labels: Collection[str]) -> Corpus:
    """List what ``paths`` name, for a model that reads ``kind`` and knows ``labels``.

    ``steps`` are for texts. Keys are a manifest's own as packing has them, or the paths of files as
    they were given. Samples have labels where the manifest has them, else "". Raises InputError
    naming the file or line that cannot be taken.
    """
    assert paths, "something to read"
    manifests = [path for path in paths if path.suffix.casefold() in SUFFIXES and not path.is_dir()]
    if not manifests:
        if kind == "text":
            raise InputError(f"{paths[0]}: the model reads {_READS[kind]}")
        return list_clips(paths)
    if len(paths) > 1:
        raise InputError(f"{manifests[0]}: a manifest must be the only input; give {len(paths)} commands")
    source, _ = open_source(manifests[0], labelled=False)
    if source.kind != kind:  # told before a missing file of the wrong kind is
        raise InputError(f"{manifests[0]}: a manifest of {source.kind}, but the model reads {_READS[kind]}")
    return list_corpus(manifests[0], steps=steps, labels=labels, labelled=False)


def list_clips(paths: Sequence[Path]) -> Corpus:
    """Audio files in the order of ``paths``, those of a folder and the folders in it by name; each once.

    Hidden files are left out. Raises InputError on a path that is not there and on a folder without
    audio.
    """
    files = dict.fromkeys(str(file) for path in paths for file in _files(path))
    return Corpus(
        name="files",
        kind="audio",
        synthetic=False,
        items=list(files),
        load=load_clip,
        key=str,
        settings={"source": "files"},
    )


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        if not path.is_file():
            raise InputError(f"{path}: no such file or folder; correct the path")
        yield path
        return
    found = [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix.casefold() in AUDIO_SUFFIXES and not _hidden(file.relative_to(path)) and file.is_file()
    ]
    if not found:
        raise InputError(f"{path}: no audio files in it ({', '.join(AUDIO_SUFFIXES)})")
    yield from found


def _hidden(path: Path) -> bool:
    """What macOS adds to folders and archives is hidden, too."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def load_clip(path: str) -> Sample:
    """Read one file, as packing does."""
    clip = load_file(path)
    return Sample(path, "", audio=clip.audio, notes=clip.notes)
