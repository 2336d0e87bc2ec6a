"""``transformers.Trainer`` for ``benchmarks.training``, as the usual script has it.

Text is tokenised before training and lies in a list; speech is read from loose files. Batches are
random and padded to their longest, or grouped by length with the library's own sampler. The model is
the stock class of the same weights. The Trainer needs the package ``accelerate``, which this project
does not: without it this party is left out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import (
    BertForSequenceClassification,
    DataCollatorWithPadding,
    HubertForSequenceClassification,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LengthGroupedSampler, get_length_grouped_indices

from benchmarks.loops import Train
from benchmarks.stopwatch import Pass
from benchmarks.usual_data import TokenRows, WaveFiles, pad_clips
from data_shards.sample import SAMPLE_RATE
from trainers.data import RunData
from trainers.models.bert_classifier import NliModel

MISSING = (
    "transformers.Trainer is left out: it needs the package accelerate, which this project does not "
    "(`pip install --no-deps accelerate` adds it to the environment)"
)


def available() -> bool:
    """Whether the Trainer can run here."""
    return importlib.util.find_spec("accelerate") is not None


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hide that this process has joined a group of one: the Trainer would take it for one of several
    and wrap the model for data parallelism, which a script that is started alone does not pay for."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


class SortedSampler(LengthGroupedSampler):
    """The library's, on short passes as on corpora of 200 batches and more: it sorts within 50 batches,
    but left to itself within no more than a quarter of the samples."""

    def __iter__(self) -> Iterator[int]:
        batches = max(1, min(50, len(self.lengths) // self.batch_size))
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, batches))


class TimedTrainer(Trainer):
    """The Trainer, telling a stopwatch of each batch and, as a callback, of each step."""

    timed: Pass
    lengths: list[int] | None = None
    """Lengths of all rows, to group by."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.lengths is None:
            return super()._get_train_sampler(train_dataset)
        # The Trainer finds lengths of text only.
        return SortedSampler(self.args.train_batch_size, lengths=self.lengths)

    def training_step(self, model: Any, inputs: Any, *others: Any, **options: Any) -> Tensor:
        """One batch forward and backward."""
        valid = inputs.pop("valid", None)
        if valid is None:
            self.timed.saw(inputs["attention_mask"].sum(), inputs["input_ids"].numel())
        else:
            self.timed.saw(valid, inputs["input_values"].numel() / SAMPLE_RATE)
        return super().training_step(model, inputs, *others, **options)


class StepEnds(TrainerCallback):
    """Tells the trainer's stopwatch of each step."""

    trainer: TimedTrainer

    def on_step_end(self, *arguments: Any, **options: Any) -> None:
        """The optimizer has stepped."""
        self.trainer.timed.stepped()


def stock_model(data: RunData) -> Any:
    """The class that transformers has for the task, with the weights that ours starts from."""
    ours: Any = data.task.build_model()
    if isinstance(ours, NliModel):
        stock: Any = BertForSequenceClassification(ours.config)
        stock.load_state_dict(ours.state_dict())
        return stock
    ours.architecture.num_labels = len(ours.labels)
    stock = HubertForSequenceClassification(ours.architecture)
    stock.load_state_dict({k.removeprefix("head."): v for k, v in ours.state_dict().items()})
    stock.freeze_feature_encoder()
    return stock


def stock_trainer(data: RunData, files: Path | None, scratch: Path, grouped: bool) -> Train:
    """``files`` holds the loose files of speech."""
    recipe, device = data.recipe, data.world.device
    rows: Any = WaveFiles(data, files) if files else TokenRows(data)
    collate: Any = pad_clips if files else DataCollatorWithPadding(data.task.collate.tokenizer)  # type: ignore[attr-defined]
    with alone():
        arguments = TrainingArguments(
            output_dir=str(scratch / "trainer"),
            per_device_train_batch_size=recipe.batching.items,
            num_train_epochs=1,
            learning_rate=recipe.optim.lr,
            max_grad_norm=recipe.optim.clip,
            bf16=recipe.engine.precision == "bf16_autocast",
            use_cpu=device.type == "cpu",
            dataloader_num_workers=recipe.data.workers,
            dataloader_pin_memory=device.type == "cuda",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        ends = StepEnds()
        trainer = TimedTrainer(stock_model(data), arguments, collate, train_dataset=rows, callbacks=[ends])
    trainer.remove_callback(PrinterCallback)
    ends.trainer = trainer
    if grouped:
        trainer.lengths = data.lengths[data.split.rows("train")].tolist()

    def train(timed: Pass) -> None:
        trainer.timed = timed
        with alone():
            trainer.train()
        assert trainer.model_wrapped is trainer.model, "wrapped, as if it were one of several"

    return train
