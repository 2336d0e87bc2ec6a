"""ShEMO, Persian emotional speech, from its zip archives or extracted folders.

Clips are called like ``F03S02.wav``: gender, speaker number, emotion letter, utterance number
(Mohamad Nezami et al. 2019, doi 10.1007/s10579-018-9427-x). Archives are read in place.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from configs.errors import InputError
from data_shards.audio import load_bytes
from data_shards.corpora.corpus import Corpus
from data_shards.sample import Sample

EMOTIONS = {
    "A": "anger",
    "N": "neutral",
    "S": "sadness",
    "W": "surprise",
    "H": "happiness",
    "F": "fear",
}
GENDERS = {"F": "female", "M": "male"}
ARCHIVES = ("female.zip", "male.zip")
TRANSCRIPTS = {".ort": "transcript", ".tra": "transcript_phonetic"}
"""Suffix of a transcript file -> its name in a sample's JSON."""
_NAME = re.compile(r"([FM])(\d{2})([ANSWHF])(\d+)")


@dataclass(frozen=True, slots=True)
class File:
    """A file in a folder or in an archive."""

    container: str
    """Path of the zip archive; empty for a plain file."""
    name: str
    """Path, or name of the archive's member."""

    def __str__(self) -> str:
        return f"{self.container}:{self.name}" if self.container else self.name

    @property
    def pure(self) -> PurePosixPath:
        """For its stem and suffix."""
        return PurePosixPath(self.name)

    def read(self) -> bytes:
        """The contents. Raises InputError naming the file."""
        try:
            if not self.container:
                return Path(self.name).read_bytes()
            return open_archive(self.container).read(self.name)
        except InputError:
            raise
        except Exception as error:  # a damaged archive can raise almost anything, zlib.error too
            raise InputError(f"{self}: cannot be read ({error}); fetch it again") from None


@dataclass(frozen=True, slots=True)
class Clip:
    """One utterance, not read yet."""

    key: str
    label: str
    speaker: str
    gender: str
    file: File
    transcripts: tuple[tuple[str, str], ...] = ()


def list_corpus(sources: Sequence[Path | str], transcripts: Path | str | None = None) -> Corpus:
    """List ShEMO from archives and folders, wherever the wavs lie in them.

    A folder without wavs may hold ``female.zip`` and ``male.zip``. ``transcripts`` is a zip or
    folder with ``*.ort`` (orthographic) and ``*.tra`` (phonetic) files; clips without one and
    transcripts without a clip are counted in the notes. Labels are the emotions' names, speakers
    are called F03, the group is gender. Raises InputError on a name that does not parse, on
    clips of the same name, on sources without clips.
    """
    clips: dict[str, Clip] = {}
    for source in sources:
        for file in find_wavs(Path(source)):
            clip = parse_name(file)
            if clip.key in clips:
                raise InputError(
                    f"{file}: the clip {clip.key} is there twice, first as {clips[clip.key].file}; "
                    "give each source once"
                )
            clips[clip.key] = clip
    if not clips:
        raise InputError("shemo: give female.zip and male.zip, or the folders extracted from them")
    notes: dict[str, int] = {}
    if transcripts is not None:
        texts = read_transcripts(Path(transcripts))
        notes = {
            "clips without a transcript": len(clips.keys() - texts.keys()),
            "transcripts without a clip": len(texts.keys() - clips.keys()),
        }
        clips = {
            key: Clip(c.key, c.label, c.speaker, c.gender, c.file, tuple(texts.get(key, {}).items()))
            for key, c in clips.items()
        }
    settings = {"source": "shemo", "transcripts": transcripts is not None}
    return Corpus(
        "shemo",
        "audio",
        False,
        list(clips.values()),
        load_clip,
        key_of,
        settings,
        {note: count for note, count in notes.items() if count},
    )


def parse_name(file: File) -> Clip:
    """``F03S02.wav`` -> speaker F03, sadness. Raises InputError on other names."""
    match = _NAME.fullmatch(file.pure.stem)
    if not match:
        raise InputError(
            f"{file}: not a ShEMO name like F03S02.wav (F or M, two digits, one of "
            f"{''.join(EMOTIONS)}, digits); rename or remove it"
        )
    gender, number, letter, _ = match.groups()
    return Clip(file.pure.stem, EMOTIONS[letter], gender + number, GENDERS[gender], file)


def find_wavs(source: Path) -> list[File]:
    """All wavs of one source, sorted. Raises InputError where there are none."""
    found = [file for file in list_files(source) if file.pure.suffix.casefold() == ".wav"]
    if not found and source.is_dir():
        archives = [source / name for name in ARCHIVES if (source / name).is_file()]
        found = [file for archive in archives for file in find_wavs(archive)]
    if not found:
        raise InputError(f"{source}: no .wav files in it; give ShEMO's female.zip and male.zip")
    return found


def list_files(source: Path) -> list[File]:
    """Files of a folder or archive, sorted, without what macOS adds to both."""
    if source.is_dir():
        files = [File("", str(path)) for path in sorted(source.rglob("*")) if path.is_file()]
    else:
        archive = open_archive(str(source))
        names = sorted(info.filename for info in archive.infolist() if not info.is_dir())
        files = [File(str(source), name) for name in names]
    return [f for f in files if "__MACOSX" not in f.pure.parts and not f.pure.name.startswith("._")]


@lru_cache(maxsize=8)
def open_archive(path: str) -> zipfile.ZipFile:
    """An archive, opened once per process. Raises InputError where it is none."""
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"{path}: not found; give ShEMO's archives or folders") from None
    except (OSError, zipfile.BadZipFile) as error:
        head = _head(path)
        if head.startswith(b"version https://git-lfs"):
            raise InputError(
                f"{path}: a Git LFS pointer, not the archive; run `git lfs pull` in its repository"
            ) from None
        raise InputError(f"{path}: not a complete zip archive ({error}); fetch it again") from None


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(40)
    except OSError:
        return b""


def read_transcripts(source: Path) -> dict[str, dict[str, str]]:
    """Clip name -> its transcripts by kind. Raises InputError on one that is not UTF-8."""
    found: dict[str, dict[str, str]] = {}
    for file, kind in _transcript_files(source):
        try:
            text = file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: byte {error.start + 1} is not UTF-8; save it as UTF-8") from None
        # Lines end in a lone carriage return, and a few files have several.
        found.setdefault(file.pure.stem, {})[kind] = " ".join(text.split())
    if not found:
        raise InputError(f"{source}: no transcripts (.ort, .tra) in it")
    return found


def _transcript_files(source: Path) -> Iterator[tuple[File, str]]:
    for file in list_files(source):
        kind = TRANSCRIPTS.get(file.pure.suffix.casefold())
        if kind:
            yield file, kind


def load_clip(clip: Clip) -> Sample:
    """Read and convert one utterance."""
    sound = load_bytes(clip.file.read(), str(clip.file))
    return Sample(
        clip.key,
        clip.label,
        clip.speaker,
        audio=sound.audio,
        groups={"gender": clip.gender},
        meta={**dict(clip.transcripts), "original_rate": sound.rate},
        notes=sound.notes,
    )


def key_of(clip: Clip) -> str:
    """The key of an utterance."""
    return clip.key
