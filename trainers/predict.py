"""`sokhan predict`: a trained classifier applied to new clips or pairs, by one process.

Inputs go the way of training and evaluation: read as packing reads them, collated by the task's own
collate, run in the precision of the run. What differs is which samples share a batch, so outputs are
those of the run's evaluation up to rounding.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from configs.errors import InputError
from configs.schema import Precision
from data_shards.corpora.corpus import Corpus
from data_shards.corpora.inputs import list_inputs
from data_shards.index import Kind
from data_shards.reader import Item, Request
from data_shards.sample import SAMPLE_RATE, Sample, as_packed
from trainers.engine import choose_rounding
from trainers.exports.classifier import ABOUT, load_exported, read_about
from trainers.exports.reading import Reading, read_reading
from trainers.metrics import SplitMetrics, class_metrics
from trainers.models.bert_classifier import NliModel
from trainers.models.hubert import EmotionModel
from trainers.models.tokenizer import load_tokenizer
from trainers.predictions import prediction_rows, softmax
from trainers.task import Batch
from trainers.tasks.emotion import EmotionCollate
from trainers.tasks.nli import NliCollate
from trainers.tasks.tokens import texts_of

BATCH = 16
_WINDOW = 8
"""Batches that are read at once and sorted by length: more would waste less on padding, and hold more."""
_LOW: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Predicted:
    """What a model says of its inputs, in their order."""

    labels: tuple[str, ...]
    keys: tuple[str, ...]
    key_name: str
    """What the keys are: key (of a manifest's row) or path (of a file)."""
    logits: NDArray[np.float32]
    """(items, classes)"""
    truth: NDArray[np.int64] | None
    """(items,) positions in ``labels``; None: the inputs have none."""
    notes: tuple[str, ...]
    """What makes these predictions differ from those of the run."""

    def rows(self) -> Iterator[list[str]]:
        """The table; with labels its columns are those of a run's eval/predictions-*.csv."""
        probabilities, losses = softmax(self.logits), None
        if self.truth is not None:
            losses = self._losses()
        return prediction_rows(self.keys, self.labels, probabilities, self.truth, losses, self.key_name)

    def metrics(self) -> SplitMetrics | None:
        """Scores, where the inputs have labels."""
        if self.truth is None:
            return None
        return class_metrics(self.truth, self.logits.argmax(1), self.labels, self._losses())

    def _losses(self) -> NDArray[np.float64]:
        """(items,) cross entropies."""
        shifted = self.logits.astype(np.float64) - self.logits.max(1, keepdims=True)
        own = shifted[np.arange(len(shifted)), self.truth]
        return np.log(np.exp(shifted).sum(1)) - own  # type: ignore[no-any-return]


def predict(
    model: Path,
    inputs: Sequence[Path],
    batch: int = BATCH,
    progress: Callable[[int, int], None] | None = None,
) -> Predicted:
    """Apply the model of a run directory, or an exported one, to ``inputs`` (``list_inputs``), on a GPU
    if there is one.

    ``batch``: samples at a time. Raises InputError naming the file, row or key that cannot be read, a
    model that is none or is damaged, and a batch too large for the GPU.
    """
    if batch < 1:
        raise InputError(f"--batch {batch}: use 1 or more")
    folder = find_model(model)
    about = read_about(folder)
    kind: Kind = "audio" if about["task"] == "emotion" else "text"
    reading, labels = read_reading(about), tuple(about["labels"])
    steps = reading.steps(about["settings"], folder / ABOUT)
    corpus = list_inputs(inputs, kind, steps, labels)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    runner, notes = open_runner(folder, reading, device)
    if any(vars(steps).values()):
        notes += _hazm_note(reading)
    logits = np.empty((len(corpus.items), len(labels)), np.float32)
    codes = np.empty(len(corpus.items), np.int64)
    try:
        for rows, found, known in _batches(runner, corpus, labels, batch):
            logits[rows], codes[rows] = found, known
            if progress is not None:
                progress(int(rows.max()) + 1, len(corpus.items))
    except torch.OutOfMemoryError:
        raise InputError(f"--batch {batch}: more than the GPU's memory holds; use a smaller one") from None
    return Predicted(
        labels=labels,
        keys=tuple(corpus.key(item) for item in corpus.items),
        key_name="key" if corpus.settings["source"] == "manifest" else "path",
        logits=logits,
        truth=codes if (codes >= 0).all() else None,
        notes=tuple(notes),
    )


def find_model(folder: Path) -> Path:
    """The exported classifier that ``folder`` is, or that the run directory ``folder`` has. Raises
    InputError where there is none."""
    if (folder / ABOUT).is_file():
        return folder
    if (folder / "config.yaml").is_file():
        if (folder / "model" / ABOUT).is_file():
            return folder / "model"
        raise InputError(
            f"{folder}: a run without a classifier in model/; finish its training, or write one of its "
            "checkpoints with `sokhan export RUN --out FOLDER`"
        )
    raise InputError(
        f"{folder}: no run directory and no exported classifier (it has no {ABOUT}); give the folder of "
        "a finished run, or what `sokhan export` wrote"
    )


@dataclass(frozen=True)
class Runner:
    """A model on its device, and how it is fed."""

    model: EmotionModel | NliModel
    collate: EmotionCollate | NliCollate
    device: torch.device
    autocast: bool
    """Whether products are taken in bfloat16, with weights as they are."""

    def item(self, row: int, sample: Sample) -> Item:
        """A sample as a shard would give it, no longer than it is read."""
        if sample.audio is None:
            return Item(row, 0, text=sample.text)
        assert isinstance(self.collate, EmotionCollate)
        return Item(row, 0, audio=as_packed(sample.audio[: self.collate.max_samples]))

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Samples of audio or tokens of each."""
        if isinstance(self.collate, NliCollate):
            text = self.collate.text
            return self.collate.count([texts_of(item.text, text) for item in items])
        return [len(item.audio) for item in items if item.audio is not None]

    def logits(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """(items, classes)"""
        rows = np.array([item.row for item in items], np.int64)
        request = Request(0, 0, 0, rows, np.zeros(len(rows), np.int32), counted=True)
        batch: Batch = self.collate(request, items)
        # Lengths of audio are read on the host.
        host = 1 if isinstance(self.model, EmotionModel) else None
        tensors: Any = [t if n == host else t.to(self.device) for n, t in enumerate(batch.inputs)]
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast),
        ):
            found: NDArray[np.float32] = self.model(*tensors).float().cpu().numpy()
        return found


def open_runner(folder: Path, reading: Reading, device: torch.device) -> tuple[Runner, list[str]]:
    """Read the exported model ``folder`` and ready it for a device; also notes on what is not as it was
    in the run."""
    model = load_exported(folder)
    notes: list[str] = []
    precision = reading.precision
    collate: EmotionCollate | NliCollate
    if isinstance(model, EmotionModel):
        settings = model.settings
        if settings.cache and precision not in ("fp32", "tf32"):
            notes.append(f"the run's head read features of fp32 in {precision}; here all is fp32")
            precision = "fp32"
        if settings.padding == "stock":
            # Zeros would be averaged in, more or fewer of them as the other clips are long.
            model.settings = dataclasses.replace(settings, padding="exact")
            notes.append(
                "the run averaged padding in (model.padding stock); here each clip is read as if alone"
            )
        max_samples = int(settings.max_seconds * SAMPLE_RATE)
        collate = EmotionCollate(max_samples, model.do_normalize)
    else:
        bert = model.settings
        collate = NliCollate(load_tokenizer(folder), bert.max_tokens, bert.text, bert.reads)
    if precision == "fp16" and device.type == "cpu":
        precision = "fp32"
        notes.append("the run was evaluated in fp16, which needs a GPU; here it is fp32")
    choose_rounding(precision)
    model.to(device)  # type: ignore[arg-type]
    if precision in _LOW:
        model.to(dtype=_LOW[precision])  # type: ignore[call-arg]
    return Runner(model, collate, device, precision == "bf16_autocast"), notes


def _hazm_note(reading: Reading) -> list[str]:
    then, here = (reading.text or {}).get("hazm"), version("hazm")
    if then in (None, here):
        return []
    return [f"the run's texts were processed by hazm {then}, these by {here}: some words get other lemmas"]


def _batches(
    runner: Runner, corpus: Corpus, labels: tuple[str, ...], batch: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]]:
    """(rows, logits, classes) of a window at a time; the class is -1 where a sample has no label."""
    code = {label: number for number, label in enumerate(labels)}
    for start in range(0, len(corpus.items), batch * _WINDOW):
        items: list[Item] = []
        known: list[int] = []
        for row, descriptor in enumerate(corpus.items[start : start + batch * _WINDOW], start):
            sample = corpus.load(descriptor)
            items.append(runner.item(row, sample))
            known.append(code[sample.label] if sample.label else -1)
        order = np.argsort(-np.array(runner.lengths(items)), kind="stable")
        logits = np.empty((len(items), len(labels)), np.float32)
        for n in range(0, len(order), batch):
            places = order[n : n + batch]
            logits[places] = runner.logits([items[place] for place in places])
        broken = np.flatnonzero(~np.isfinite(logits).all(1))
        if len(broken):
            key = corpus.key(corpus.items[start + int(broken[0])])
            raise InputError(
                f"{key}: the model's output is not finite; leave this input out, or use another model"
            )
        rows = np.arange(start, start + len(items), dtype=np.int64)
        yield rows, logits, np.array(known, np.int64)
