"""Training data as the usual script has it, for ``benchmarks.stock_trainer``: a list, loose files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.corpora import pad
from data_shards.reader import ShardReader
from data_shards.sample import SAMPLE_RATE, decode_audio
from trainers.data import RunData
from trainers.models.hubert import normalise_clip
from trainers.tasks.emotion import EmotionCollate
from trainers.tasks.nli import NliCollate
from trainers.tasks.tokens import texts_of


class TokenRows(Dataset[dict[str, Any]]):
    """Tokenised pairs in memory."""

    def __init__(self, data: RunData) -> None:
        collate, reader = data.task.collate, ShardReader(data.index.root)
        assert isinstance(collate, NliCollate)
        items = [reader.item(row) for row in data.split.rows("train").tolist()]
        tokens = collate.encode([texts_of(item.text, collate.text) for item in items])
        names = ("input_ids", "token_type_ids", "attention_mask")
        columns = zip(*(tokens[name] for name in names), strict=True)
        self.rows = [dict(zip(names, row, strict=True)) for row in columns]
        self.labels = [item.label for item in items]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {**self.rows[number], "labels": self.labels[number]}


class WaveFiles(Dataset[dict[str, Any]]):
    """Clips as loose files, opened, decoded and normalised one by one."""

    def __init__(self, data: RunData, folder: Path) -> None:
        assert isinstance(data.task.collate, EmotionCollate)
        self.collate, rows = data.task.collate, data.split.rows("train").tolist()
        extension = data.index.manifest.payload
        self.paths = [folder / f"{data.index.key(row)}.{extension}" for row in rows]
        self.labels = [int(data.index.label[row]) for row in rows]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> dict[str, Any]:
        clip = decode_audio(self.paths[number].read_bytes())[: self.collate.max_samples]
        return {"input_values": normalise_clip(clip), "labels": self.labels[number]}


def pad_clips(features: list[dict[str, Any]]) -> dict[str, Tensor]:
    """What a Wav2Vec2FeatureExtractor makes for HuBERT-base: zeros behind the shorter clips, and no
    mask. ``valid`` (audio seconds) is for the stopwatch."""
    clips = [feature["input_values"] for feature in features]
    return {
        "input_values": torch.from_numpy(pad(clips)),
        "labels": torch.tensor([feature["labels"] for feature in features]),
        "valid": torch.tensor(sum(map(len, clips)) / SAMPLE_RATE, dtype=torch.float64),
    }
