"""Small made-up corpora under the real ones' names, for the commands of the documentation."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

from data_shards.corpora.farstail import SPLITS as FARSTAIL_FILES
from data_shards.corpora.synthetic_text import synthetic_farstail
from tests.data_shards.clips import encoded, tone

SHEMO_EMOTIONS = "ANSWHF"
EMODB_EMOTIONS = "WLEAFTN"


def make_stand_ins(folder: Path) -> None:
    """Everything that commands of the documentation start from, where they look for it."""
    make_farstail(folder / "FarsTail" / "data")
    make_shemo(folder)
    make_emodb(folder / "emodb")
    make_prose(folder / "prose")


def make_farstail(folder: Path) -> None:
    """FarsTail's three files, with generated pairs."""
    folder.mkdir(parents=True)
    for split, name in FARSTAIL_FILES.items():
        hard = ["hard(hypothesis)", "hard(overlap)"] if split == "test" else []
        with (folder / name).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t")
            writer.writerow(["premise", "hypothesis", "label", *hard])
            for pair in synthetic_farstail(180).items:
                if pair.split == split:
                    row = [pair.premise, pair.hypothesis, pair.label]
                    writer.writerow([*row, *("01"[: len(hard)])])


def make_prose(folder: Path) -> None:
    """Two files of paragraphs: the premises of generated pairs."""
    folder.mkdir()
    premises = [pair.premise for pair in synthetic_farstail(120, seed=3).items]
    for name, lines in (("news.txt", premises[:60]), ("sports.txt", premises[60:])):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_shemo(folder: Path) -> None:
    """ShEMO's archives, transcripts and EmoBox's lists: ten speakers, each with all emotions and
    anger twice, so that every split has every class and anger is the majority."""
    keys = []
    with zipfile.ZipFile(folder / "transcript.zip", "w") as transcripts:
        for archive, gender in (("female.zip", "F"), ("male.zip", "M")):
            with zipfile.ZipFile(folder / archive, "w") as clips:
                for speaker in range(1, 6):
                    for number, emotion in enumerate(SHEMO_EMOTIONS + "A", 1):
                        key = f"{gender}{speaker:02d}{emotion}{number:02d}"
                        sound = encoded(tone(0.1 + 0.02 * number, hertz=100.0 * number))
                        clips.writestr(f"{archive[:-4]}/{key}.wav", sound)
                        transcripts.writestr(f"final text/{key}.ort", "سلام")
                        keys.append(key)
    for part in ("train", "test"):
        mine = [key for key in keys if (key[1:3] == "05") == (part == "test")]
        lines = [json.dumps({"key": f"shemo-{key}"}) for key in mine]
        (folder / f"emobox_{part}_fold_1.jsonl").write_text("\n".join(lines) + "\n")


def make_emodb(folder: Path) -> None:
    """Emo-DB's wavs and a manifest of them: ten speakers, each with all emotions."""
    folder.mkdir()
    rows = ["path,label,speaker"]
    names = dict(
        zip(
            EMODB_EMOTIONS,
            ("anger", "boredom", "disgust", "fear", "happiness", "sadness", "neutral"),
            strict=True,
        )
    )
    for speaker in ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16"):
        for number, emotion in enumerate(EMODB_EMOTIONS, 1):
            wav = f"{speaker}a{number:02d}{emotion}a.wav"
            (folder / wav).write_bytes(encoded(tone(0.2, 22_050, 80.0 * number), 22_050))
            rows.append(f"{wav},{names[emotion]},{speaker}")
    (folder / "emodb.csv").write_text("\n".join(rows) + "\n")
