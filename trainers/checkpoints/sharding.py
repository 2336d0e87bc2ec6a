"""Which elements of which tensor a rank keeps, under each ZeRO stage.

DeepSpeed divides what trains in its own way at every stage; here each rank's part is a list of
pieces of named tensors, which is all that checkpoints know of. Nothing here is a collective call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq")
WEIGHTS = "weights"


@dataclass(frozen=True)
class Piece:
    """Some consecutive elements of a flattened tensor."""

    kind: str
    """"weights", or one of ``MOMENTS``."""
    name: str
    """Of the parameter or buffer."""
    shape: tuple[int, ...]
    """Of the whole tensor."""
    start: int
    """Of its first element in the flattened tensor."""
    tensor: Tensor
    """(elements,) a view of what the rank trains with: writing to it changes the model."""


def trained_pieces(module: nn.Module, optimizer: Any, stage: int) -> list[Piece]:
    """Weights (in the optimizer's precision) and moments of what this rank updates.

    Up to ZeRO 0 every rank updates everything. ``optimizer`` is the engine's. Moments are left out
    while there are none: before the first update.
    """
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if stage == 0:
        return _from_parameters(trained, optimizer)
    if stage < 3:
        return _from_flat_groups(trained, optimizer)
    return _from_partitions(trained, optimizer)


def frozen_pieces(module: nn.Module, stage: int) -> list[Piece]:
    """Parameters that do not train: whole on every rank, but at ZeRO 3 each rank's part."""
    pieces: list[Piece] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            continue
        if stage < 3:
            flat = parameter.detach().view(-1)
            pieces.append(Piece(WEIGHTS, name, tuple(parameter.shape), 0, flat))
        else:
            sharded: Any = parameter
            held, shape = sharded.ds_tensor.detach(), tuple(sharded.ds_shape)
            pieces.extend(_partition(WEIGHTS, name, shape, held))
    return pieces


def buffer_pieces(module: nn.Module) -> list[Piece]:
    """Saved buffers, whole on every rank."""
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return [
        Piece(WEIGHTS, name, tuple(buffer.shape), 0, buffer.detach().view(-1))
        for name, buffer in module.state_dict().items()
        if name not in parameters
    ]


def share(pieces: list[Piece], rank: int, ranks: int) -> list[Piece]:
    """One rank's part of what every rank has whole, equal in elements."""
    total = sum(len(piece.tensor) for piece in pieces)
    first, end = total * rank // ranks, total * (rank + 1) // ranks
    parts, offset = [], 0
    for piece in pieces:
        start, stop = max(first - offset, 0), min(end - offset, len(piece.tensor))
        if start < stop:
            part = piece.tensor[start:stop]
            parts.append(replace(piece, start=piece.start + start, tensor=part))
        offset += len(piece.tensor)
    return parts


def make_moments(optimizer: Any, stage: int, updates: int) -> None:
    """Give the optimizer the state that it would make at its first update, to be filled."""
    inner = optimizer if stage == 0 else optimizer.optimizer
    for parameter in _updated(optimizer, stage):
        state = inner.state[parameter]
        # torch's fused Adam counts its updates on the device, in fp32.
        state["step"] = torch.tensor(float(updates), dtype=torch.float32, device=parameter.device)
        for moment in MOMENTS:
            state[moment] = torch.zeros_like(parameter, memory_format=torch.preserve_format)


def count_updates(optimizer: Any, stage: int) -> int:
    """Updates that the optimizer has made; an fp16 step that overflowed is none."""
    inner = optimizer if stage == 0 else optimizer.optimizer
    states = [inner.state.get(parameter, {}) for parameter in _updated(optimizer, stage)]
    steps = [state["step"] for state in states if "step" in state]
    counts = set(torch.stack(steps).tolist()) if steps else {0.0}
    assert len(counts) == 1, f"parameters have been updated {sorted(counts)} times"
    return int(counts.pop())


def _updated(optimizer: Any, stage: int) -> list[Tensor]:
    """The tensors that the inner optimizer updates."""
    if stage == 0:
        return [p for group in optimizer.param_groups for p in group["params"]]
    if stage < 3:
        return list(optimizer.single_partition_of_fp32_groups)
    return list(optimizer.fp32_partitioned_groups_flat)


def _from_parameters(trained: dict[str, nn.Parameter], optimizer: Any) -> list[Piece]:
    pieces = []
    for name, parameter in trained.items():
        state = optimizer.state.get(parameter, {})
        tensors = {WEIGHTS: parameter, **{m: state[m] for m in MOMENTS if m in state}}
        for kind, tensor in tensors.items():
            flat = tensor.detach().view(-1)
            pieces.append(Piece(kind, name, tuple(parameter.shape), 0, flat))
    return pieces


def _from_flat_groups(trained: dict[str, nn.Parameter], optimizer: Any) -> list[Piece]:
    """ZeRO 1 and 2: a rank updates a slice of all parameters laid end to end."""
    names = {id(parameter): name for name, parameter in trained.items()}
    pieces = []
    for group, flat in zip(optimizer.bit16_groups, optimizer.single_partition_of_fp32_groups, strict=True):
        state = optimizer.optimizer.state.get(flat, {})
        tensors = {WEIGHTS: flat, **{m: state[m] for m in MOMENTS if m in state}}
        for parameter in group:
            mapping = parameter._hp_mapping
            if mapping is None:
                continue
            held, of_parameter = mapping.hp_fragment_address, mapping.lp_fragment_address
            for kind, tensor in tensors.items():
                part = tensor.detach().narrow(0, held.start, held.numel)
                name, shape = names[id(parameter)], tuple(parameter.shape)
                pieces.append(Piece(kind, name, shape, of_parameter.start, part))
    return pieces


def _from_partitions(trained: dict[str, nn.Parameter], optimizer: Any) -> list[Piece]:
    """ZeRO 3: a rank updates a slice of each parameter."""
    pieces: list[Piece] = []
    for name, parameter in trained.items():
        sharded: Any = parameter
        group, start, size = optimizer.grad_position[optimizer.get_param_id(parameter)]
        flat = optimizer.fp32_partitioned_groups_flat[group]
        state = optimizer.optimizer.state.get(flat, {})
        tensors = {WEIGHTS: flat, **{m: state[m] for m in MOMENTS if m in state}}
        for kind, tensor in tensors.items():
            held = tensor.detach().narrow(0, start, size)
            pieces.extend(_partition(kind, name, tuple(sharded.ds_shape), held))
    return pieces


def _partition(kind: str, name: str, shape: tuple[int, ...], held: Tensor) -> Iterator[Piece]:
    """ZeRO 3 gives all ranks equally many elements: the last ranks' are partly or all padding."""
    start = torch.distributed.get_rank() * len(held)
    valid = min(len(held), torch.Size(shape).numel() - start)
    if valid > 0:
        yield Piece(kind, name, shape, start, held[:valid])
