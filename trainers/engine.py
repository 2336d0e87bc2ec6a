"""DeepSpeed around a model: the only file that imports it."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch
from torch import Tensor, nn

from configs.check import zero_stage
from configs.errors import InputError
from configs.schema import EngineConfig, OptimConfig
from trainers.optim import build_optimizer
from trainers.world import World


class Engine:
    """A model ready to train on all ranks. Gradients of a global step are those of the loss that
    the caller hands to ``backward``, micro-batch by micro-batch, averaged over micro-batches."""

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
            raise InputError(
                "key 'engine.precision' is fp16, which needs a GPU; use bf16 or fp32 here"
            )
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
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

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The model's output. ZeRO 3 gathers weights here, so all ranks must call it equally often."""
        output: Tensor = self._engine(*inputs)
        return output

    def train(self, mode: bool = True) -> None:
        """Switch dropout and the like on or off."""
        self._engine.train(mode)

    def backward(self, loss: Tensor) -> None:
        """Add one micro-batch's gradient; the last one of a global step updates the weights."""
        self._engine.backward(loss)
        self._engine.step()

    def set_learning_rate(self, rate: float) -> None:
        """For the next update."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def weights(self) -> dict[str, Tensor] | None:
        """Every parameter and buffer on the CPU, whole, by name: on rank 0; None elsewhere.

        Under bf16 the trained parameters are the optimizer's fp32 ones, as under fp16 above ZeRO 0.
        """
        state: dict[str, Tensor] = {}
        for name, parameter in self.module.named_parameters():
            value = self._full(parameter)
            if self.world.main:
                state[name] = value.detach().to("cpu", copy=True)
        if not self.world.main:
            return None
        parameters = set(state)
        for name, buffer in self.module.state_dict().items():
            if name not in parameters:
                state[name] = buffer.detach().to("cpu", copy=True)
        return state

    def load_weights(self, state: dict[str, Tensor]) -> None:
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

    def _full(self, parameter: nn.Parameter) -> Tensor:
        if parameter.requires_grad and self.zero > 0:
            from deepspeed.utils import safe_get_full_fp32_param

            master: Tensor | None = safe_get_full_fp32_param(parameter)
            if master is not None:
                return master
        with self._gathered(parameter, modify=False):
            return parameter.detach().float().clone()

    def _gathered(self, parameter: nn.Parameter, modify: bool) -> Any:
        gathered = self._deepspeed.zero.GatheredParameters
        return gathered([parameter], modifier_rank=0 if modify else None, enabled=self.zero == 3)


def deepspeed_config(engine: EngineConfig, optim: OptimConfig, accumulation: int) -> dict[str, Any]:
    """Our settings in DeepSpeed's words. Its batch size is never used: plans make the batches."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": optim.clip,
        "zero_optimization": {"stage": zero_stage(engine)},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": engine.precision == "bf16", "check_grad_overflow": False},
        "fp16": {"enabled": engine.precision == "fp16"},
        "torch_autocast": {
            "enabled": engine.precision == "bf16_autocast",
            "dtype": "bfloat16",
        },
        "steps_per_print": 2**31,
        "timers": {"throughput": {"enabled": False, "synchronized": False}},
    }
