"""Pooled features: one vector for each sample and layer of an encoder, computed once and kept.

HuBERT: the mean over a clip's valid frames. BERT: [CLS] beside the mean over the tokens that are not
padding. The encoder is in evaluation mode, in fp32, and sees each sample whole, as if it were alone
in its batch. Layer 0 is the input of the first layer, layer n the output of the n-th.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import platform
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.errors import InputError
from data_shards.plan import Entries, Rows, plan_evaluation
from trainers.data import RunData
from trainers.files.array_file import new_array, open_array
from trainers.models.bert_classifier import NliModel
from trainers.models.hubert import EmotionModel
from trainers.models.masking import attention_mask_for, masked_mean
from trainers.ranks.stopping import Stopped, stop_asked
from trainers.task import Batch
from trainers.tasks.tokens import tokenizer_state

Model = EmotionModel | NliModel
Features = NDArray[np.float32]
"""(samples, layers, width)"""
_VERSION = 1
_WITHOUT_EFFECT = (
    "drop",
    "mask",
    "label",
    "problem_type",
    "name_or_path",
    "version",
    "dtype",
    "apply_spec_augment",
    "initializer_range",
    "architectures",
    "pooler",
)
"""Parts of names, in an architecture's settings and of its weights, that say nothing of features in
evaluation mode. A head's pooler is fresh with every seed, the encoder below it is the same."""


def kept_features(data: RunData, model: Model, *, top: bool = False) -> Features:
    """Features of every row of the index, on every rank, read from ``<shards>/cache`` if they were
    computed before by the same weights. A collective call.

    ``model`` is an EmotionModel or NliModel on the world's device; its encoder is left in evaluation
    mode. ``top``: the encoder's output alone, as heads read it: (samples, 1, width). The array is
    memory-mapped; where the folder cannot be written to, it is kept in memory. Raises InputError for
    features that are not finite, and Stopped on all ranks when a signal asks for it.
    """
    world, shape = data.world, (len(data.index), *_shape_of(model, top))
    # Rank 0's word counts: ranks that looked for different files would wait for each other for ever.
    key = world.on_main(lambda: _key(data, model, top))
    place = data.index.root / "cache" / f"features-{key}.npy"
    found = open_array(place, shape, np.float32)
    if all(world.gather(found is not None)):
        assert found is not None
        return found
    # Shards may lie on each machine's own disk: the first rank of each machine writes the file.
    machines = world.gather(platform.node())
    writer = machines.index(machines[world.rank])
    with new_array(place, shape) if world.rank == writer else contextlib.nullcontext() as file:
        kept = world.gather(file is not None)[writer]
        array = file if kept else np.empty(shape, np.float32)
        for rows, features in _compute(data, model, np.arange(len(data.index)), top):
            if array is not None:
                array[rows] = features
    world.barrier()
    if kept:
        array = open_array(place, shape, np.float32)
    assert array is not None, f"{place} was written just now"
    return array


def main_features(data: RunData, model: Model, rows: Rows) -> Features | None:
    """All layers' features of some rows, in the index's order of rows, on rank 0 and nowhere else,
    kept in memory: for weights that no other run will have. What belongs to other rows is undefined.
    See ``kept_features``."""
    shape = (len(data.index), *_shape_of(model, top=False))
    array = np.empty(shape, np.float32) if data.world.main else None
    for found, features in _compute(data, model, rows, top=False):
        if array is not None:
            array[found] = features
    return array


class PoolingHead(nn.Module):
    """Stands where a HuBERT's head stands, and gives the pooled states that heads start from."""

    def __init__(self, top: bool) -> None:
        super().__init__()
        self.needs_all_layers = not top

    def forward(self, states: Sequence[Tensor], valid: Tensor | None) -> Tensor:
        """Hidden states, each (batch, frames, width) -> (batch, layers, width)."""
        return torch.stack([masked_mean(state, valid) for state in states], dim=1)


def _pool_audio(model: EmotionModel, top: bool) -> Any:
    """(audio, lengths) -> (batch, layers, width)."""
    # Padding that is averaged in would make a clip's features depend on its batch.
    settings = dataclasses.replace(model.settings, padding="exact")
    head: Any = PoolingHead(top)
    return EmotionModel(model.hubert, head, settings, model.labels, model.do_normalize).eval()


def _pool_text(model: NliModel) -> Any:
    """(ids, attention mask, token types) -> (batch, layers, 2 width)."""

    def pool(ids: Tensor, attention_mask: Tensor, token_types: Tensor) -> Tensor:
        valid = attention_mask.bool()
        implementation = model.config._attn_implementation
        mask = attention_mask_for(valid, model.bert.embeddings.word_embeddings.weight.dtype, implementation)
        states = model.bert(
            ids, attention_mask=mask, token_type_ids=token_types, output_hidden_states=True
        ).hidden_states
        vectors = [torch.cat([state[:, 0], masked_mean(state, valid)], dim=1) for state in states]
        return torch.stack(vectors, dim=1)

    model.eval()
    return pool


def layers_of(model: Model) -> int:
    """How many layers' features there are: the encoder's and its input."""
    encoder: Any = model.hubert if isinstance(model, EmotionModel) else model.bert
    return int(encoder.config.num_hidden_layers) + 1


def _shape_of(model: Model, top: bool) -> tuple[int, int]:
    """(layers, width) of a sample's features."""
    if isinstance(model, EmotionModel):
        return 1 if top else layers_of(model), model.architecture.hidden_size
    assert not top, "BERT's head reads [CLS] alone"
    return layers_of(model), 2 * model.config.hidden_size


def _compute(data: RunData, model: Model, rows: Rows, top: bool) -> Iterator[tuple[Rows, Features]]:
    """Rows of the index and their features, those of all ranks on every rank. Collective."""
    evaluation, world = data.recipe.evaluation, data.world
    pool = _pool_audio(model, top) if isinstance(model, EmotionModel) else _pool_text(model)
    entries = Entries(np.asarray(rows, np.int64), np.zeros(len(rows), np.int32))
    plan = plan_evaluation(
        entries,
        data.lengths,
        items=evaluation.items,
        micro_batches=data.recipe.batching.micro_batches,
    )
    if world.main:
        print(f"  features of {len(rows)} samples are being computed", flush=True)
    for number, step in enumerate(data.batches(plan, epoch=0)):
        world.at(f"features, batch {number + 1} of {plan.steps}")
        own = [_of_batch(pool, batch, world.device) for batch in step if batch.request.counted]
        answers = world.gather((stop_asked(), own))
        if any(asked for asked, _ in answers):
            raise Stopped("features were still being computed")
        for found, features in (pair for _, theirs in answers for pair in theirs):
            finite = np.isfinite(features).all(axis=(1, 2))
            if not finite.all():
                key = data.index.key(int(found[~finite][0]))
                raise InputError(
                    f"{data.index.root}: the encoder's features of sample {key!r} are not finite; look "
                    "at the sample, and at model.pretrained"
                )
            yield found, features


def _of_batch(pool: Any, batch: Batch, device: torch.device) -> tuple[Rows, Features]:
    with torch.no_grad():
        # Lengths of audio are read on the host.
        tensors = [t if n and len(batch.inputs) == 2 else t.to(device) for n, t in enumerate(batch.inputs)]
        features: Tensor = pool(*tensors)
    return batch.request.rows, features.float().cpu().numpy()


def _key(data: RunData, model: Model, top: bool) -> str:
    """16 hexadecimal digits of everything that the features depend on."""
    encoder: Any = model.hubert if isinstance(model, EmotionModel) else model.bert
    settings = {
        name: value
        for name, value in encoder.config.to_dict().items()
        if not any(part in name for part in _WITHOUT_EFFECT)
    }
    state = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        if any(part in name for part in _WITHOUT_EFFECT):
            continue
        state.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        state.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    reading = f"{_VERSION} {top} {data.index.manifest.digest} {_reading(data.task.collate)}"
    state.update(reading.encode())
    return state.hexdigest()[:16]


def _reading(collate: Any) -> str:
    """How a task's collate reads a sample."""
    fields = {f.name: getattr(collate, f.name) for f in dataclasses.fields(collate)}
    tokenizer = fields.pop("tokenizer", None)
    return repr(fields) + (tokenizer_state(tokenizer) if tokenizer else "")
