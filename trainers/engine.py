"""DeepSpeed around a model: the only file that imports it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from configs.check import zero_stage
from configs.errors import InputError
from configs.schema import EngineConfig, OptimConfig, Precision
from trainers.checkpoints.sharding import (
    Piece,
    buffer_pieces,
    count_updates,
    frozen_pieces,
    make_moments,
    share,
    trained_pieces,
)
from trainers.optim import build_optimizer, set_rate
from trainers.ranks.world import World

_LOSS_SCALE = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


class SavedTensors(Protocol):
    """What an engine loads from; a checkpoint is one."""

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Whole parameters and buffers by name."""

    def part(self, kind: str, name: str, start: int, elements: int) -> Tensor:
        """(elements,) of a flattened tensor."""


class LossScaleTooSmall(RuntimeError):
    """fp16 gradients overflow at any scale."""


class Engine:
    """A model ready to train on all ranks. The gradient of a global step is that of the losses that
    the caller hands to ``backward``, averaged over micro-batches; ``update`` follows the last one."""

    def __init__(
        self,
        model: nn.Module,
        world: World,
        engine: EngineConfig,
        optim: OptimConfig,
        micro_batches: int,
    ) -> None:
        os.environ.setdefault("DS_ACCELERATOR", world.device.type)
        import deepspeed

        if engine.precision == "fp16" and world.device.type == "cpu":
            raise InputError("key 'engine.precision' is fp16, which needs a GPU; use bf16 or fp32 here")
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        choose_rounding(engine.precision)
        self.world = world
        self.zero = zero_stage(engine)
        self._deepspeed = deepspeed
        # DeepSpeed would compile this extension at start-up; no compiler is asked of a node.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        accumulation = micro_batches // world.size
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=model.to(world.device),
            optimizer=build_optimizer(model, optim),
            config=deepspeed_config(engine, optim, accumulation),
            dist_init_required=False,
        )
        self.module: nn.Module = self._engine.module
        self._fp16 = engine.precision == "fp16"
        self._clip = optim.clip

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The model's output. ZeRO 3 gathers weights here, so all ranks must call it equally often."""
        output: Tensor = self._engine(*inputs)
        return output

    def train(self, mode: bool = True) -> None:
        """Switch dropout and the like on or off."""
        self._engine.train(mode)

    def backward(self, loss: Tensor) -> None:
        """Add one micro-batch's gradient to this rank's share of a global step."""
        self._engine.backward(loss)
        if not self._engine.is_gradient_accumulation_boundary():
            self._engine.step()  # counts the micro-batch, nothing more

    def update(self) -> float | Tensor:
        """Update the weights after the last micro-batch of a global step; returns the norm of its whole
        gradient before clipping, the same on all ranks. It is not finite, or below 0, where the gradient
        was not finite; an fp16 step that its scaler skipped counts as 0. Raises LossScaleTooSmall."""
        if self.zero == 0:
            gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
            if self._clip:
                nn.utils.clip_grads_with_norm_(self.module.parameters(), self._clip, norm)
            self._step()
            return norm
        self._step()
        skipped = self._fp16 and self._optimizer.overflow
        return 0.0 if skipped else self._engine.get_global_grad_norm()  # type: ignore[no-any-return]

    def _step(self) -> None:
        try:
            self._engine.step()
        except Exception as error:  # DeepSpeed raises no class of its own here
            if "loss scale already at minimum" not in str(error):
                raise
            raise LossScaleTooSmall("fp16 gradients overflow even at the smallest scale") from None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all parameters, whole, by name."""
        return {
            name: tuple(getattr(parameter, "ds_shape", parameter.shape))
            for name, parameter in self.module.named_parameters()
        }

    def set_learning_rate(self, rate: float) -> None:
        """The base rate of the next update; each group of parameters has its multiple of it."""
        set_rate(self._optimizer, rate)

    def pieces(self) -> list[Piece]:
        """This rank's share of everything that a checkpoint holds; all ranks' together are the whole.
        Views, not copies; not a collective call.

        Under bf16 and fp16 the trained weights are the optimizer's fp32 ones.
        """
        rank, ranks = self.world.rank, self.world.size
        trained = trained_pieces(self.module, self._optimizer, self.zero)
        frozen = frozen_pieces(self.module, self.zero)
        buffers = buffer_pieces(self.module)
        if self.zero == 0:
            return share([*trained, *frozen, *buffers], rank, ranks)
        if self.zero < 3:
            return [*trained, *share([*frozen, *buffers], rank, ranks)]
        return [*trained, *frozen, *share(buffers, rank, ranks)]

    def counters(self) -> dict[str, Any]:
        """The numbers of the optimizer's state."""
        counters: dict[str, Any] = {"updates": count_updates(self._optimizer, self.zero)}
        if self._fp16:
            scaler = self._optimizer.loss_scaler
            counters["loss_scale"] = {
                key: getattr(scaler, key) for key in _LOSS_SCALE if hasattr(scaler, key)
            }
        return counters

    def load(self, saved: SavedTensors, counters: dict[str, Any]) -> None:
        """Become what was saved, at whatever ZeRO stage and on however many ranks that was."""
        self.load_weights(saved.weights)
        if counters["updates"]:
            make_moments(self._optimizer, self.zero, counters["updates"])
        for piece in trained_pieces(self.module, self._optimizer, self.zero):
            part = saved.part(piece.kind, piece.name, piece.start, len(piece.tensor))
            piece.tensor.copy_(part)
        scale = counters.get("loss_scale", {}) if self._fp16 else {}
        for key in _LOSS_SCALE:
            if key in scale:
                setattr(self._optimizer.loss_scaler, key, scale[key])

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Set every parameter and buffer. The optimizer's fp32 copies follow the parameters, in
        their precision; its moments stay."""
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                with self._gathered(parameter, modify=True):
                    if self.zero < 3 or self.world.main:
                        parameter.copy_(state[name])
            for name, buffer in self.module.named_buffers():
                if name in state:
                    buffer.copy_(state[name])
        if self.zero > 0:
            self._optimizer.refresh_fp32_params()

    def _gathered(self, parameter: nn.Parameter, modify: bool) -> Any:
        gathered = self._deepspeed.zero.GatheredParameters
        return gathered([parameter], modifier_rank=0 if modify else None, enabled=self.zero == 3)


def choose_rounding(precision: Precision) -> None:
    """Let GPUs round the products of fp32 numbers to TF32, or not. Left to itself torch does so in
    convolutions, and not in products of matrices."""
    rounded = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = rounded


def deepspeed_config(engine: EngineConfig, optim: OptimConfig, accumulation: int) -> dict[str, Any]:
    """Our settings in DeepSpeed's words. Its batch size is never used: plans make the batches."""
    autocast: dict[str, Any] = {
        "enabled": engine.precision == "bf16_autocast",
        "dtype": "bfloat16",
    }
    if engine.zero == 3:
        # It would send some weights in bf16, but not always: what a step sees would depend on
        # whether the process has just started, and a resumed run would not be the same.
        autocast["lower_precision_safe_modules"] = []
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulation,
        # At ZeRO 0 the engine clips: DeepSpeed would take the norm that is known once more, parameter
        # by parameter, and sum it over ranks.
        "gradient_clipping": optim.clip if zero_stage(engine) else 0.0,
        "zero_optimization": {"stage": zero_stage(engine)},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": engine.precision == "bf16", "check_grad_overflow": False},
        "fp16": {"enabled": engine.precision == "fp16"},
        "torch_autocast": autocast,
        "steps_per_print": 2**31,
        "timers": {"throughput": {"enabled": False, "synchronized": False}},
    }
