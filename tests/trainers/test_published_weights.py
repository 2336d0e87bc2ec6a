"""Real published BERT weights through the whole path under each regime: train, export, reload."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from data_shards.reader import ShardReader
from tests.ranks import RankPool
from tests.trainers.test_run import train_recipe
from tests.trainers.tiny_models import minilm_folder
from trainers.checkpoints.checkpoint import Checkpoint, list_checkpoints
from trainers.exports.classifier import load_exported
from trainers.models.tokenizer import load_tokenizer
from trainers.tasks.nli import NliCollate

CHANGES = {
    "full": [],
    "freeze9": ["--model.regime.layers", "4"],
    "embeddings_last": [],
    "intermediate": ["--model.regime.layers", "3"],
    "heads": [],
}


@pytest.mark.parametrize("regime", sorted(CHANGES))
def test_minilm_trains_and_comes_back(
    regime: str, ranks: Callable[[int], RankPool], text_shards: Path, tmp_path: Path
) -> None:
    recipe = [
        "--data.shards",
        str(text_shards),
        "--data.workers",
        "0",
        "--tracking.wandb",
        "off",
        "--model.pretrained",
        str(minilm_folder()),
        "--model.text",
        "original",
        "--engine.precision",
        "fp32",
        "--engine.zero",
        "2",
        "--batching.items",
        "16",
        "--evaluation.items",
        "27",
        "--evaluation.train",
        "false",
        "--loop.max_steps",
        "2",
        "--output.folder",
        str(tmp_path),
        *CHANGES[regime],
    ]
    folder = Path(ranks(2).run(train_recipe, f"farstail/parsbert_{regime}", recipe)[0])

    saved = Checkpoint(list_checkpoints(folder / "checkpoints")[0]).weights
    reloaded = load_exported(folder / "model").eval()
    own = dict(reloaded.state_dict())
    for name, value in saved.items():
        assert torch.equal(own[name], value), name

    shards = ShardReader(text_shards)
    collate = NliCollate(load_tokenizer(str(folder / "model")), 256, "original")
    stock = AutoModelForSequenceClassification.from_pretrained(folder / "model").eval()
    with (folder / "eval" / "predictions-test.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))[:6]
    for row in rows:
        pair = shards.item(shards.row_of(row["key"])).text
        assert pair is not None
        tokens = collate.encode([(pair.premise, pair.hypothesis)], return_tensors="pt")
        with torch.no_grad():
            logits = {
                "ours": reloaded(tokens["input_ids"], tokens["attention_mask"], tokens["token_type_ids"]),
                "stock": stock(**tokens).logits,
            }
        expected = [float(row[f"p({label})"]) for label in "cen"]
        for name, values in logits.items():
            shares = values.softmax(1)[0].numpy()
            np.testing.assert_allclose(shares, expected, atol=2e-4, err_msg=name)
