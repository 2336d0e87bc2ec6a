"""What a run is: frozen dataclasses, one per part, each field with its meaning and unit.

A recipe (YAML) fills one of the three recipe classes at the end, each with its task's model section
(``configs.models``) and the analyses of its model (``configs.analysis``); ``configs.load`` reads it.
Fields marked (site) do not change the result and are left out of a run's signature.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from configs.analysis import EmotionAnalysis, NliAnalysis
from configs.models import BertConfig, HubertConfig, MlmConfig

Balance = Literal["none", "reference", "clean", "sampled"]
Precision = Literal["fp32", "tf32", "bf16", "fp16", "bf16_autocast"]


@dataclass(frozen=True)
class AugmentConfig:
    """Changes made to training clips by ``data.balance`` other than ``none``."""

    noise: float = 0.005
    """Standard deviation of added Gaussian noise, as a share of full scale."""
    shift_seconds: float = 0.2
    """A circular time shift of 0 to this many seconds."""
    semitones: tuple[int, ...] = (-1, 0, 1)
    """Pitch shifts drawn from; the shifted copies are made once, as a derived shard set."""


@dataclass(frozen=True)
class DataConfig:
    """Which shards, which split of them, and how the training part is balanced."""

    shards: str = ""
    """Folder written by `sokhan pack`."""
    split: str = ""
    """Name of a split table in that folder (`sokhan split` makes more); empty: the only or default one."""
    balance: Balance = "none"
    """none; reference: every class to the majority's count, every row of a minority class changed,
    originals included; clean: the same counts, only the copies changed; sampled: every epoch draws as
    many rows as the part has, each class equally often, unchanged. Train only."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How balanced rows are changed."""
    stage: str = ""
    """(site) Folder on each node's own disk ("/local/$USER") that the shards are copied to before
    training and read from; empty: they are read where they lie."""
    workers: int = 2
    """(site) Reading processes per rank; 0 reads in the training process."""


@dataclass(frozen=True)
class BatchingConfig:
    """How an epoch is cut into global steps. Nothing here depends on the number of ranks."""

    kind: Literal["fixed", "buckets", "packed"] = "fixed"
    """fixed: `items` in random order per global step; buckets: micro-batches of similar length; packed
    (task mlm): entries in random order, laid one behind the other into full rows of tokens."""
    items: int = 32
    """fixed: items of one global step."""
    budget: float = 0.0
    """buckets: padded seconds (audio) or tokens (text) that one micro-batch may hold; packed: tokens
    of a micro-batch. An item longer than this makes a micro-batch of its own."""
    micro_batches: int = 2
    """Micro-batches of a global step: ranks x gradient accumulation. Ranks must divide it."""
    window: int = 1_000_000
    """Items shuffled together. A corpus beyond this is read in shard order and shuffled in windows."""


@dataclass(frozen=True)
class EvaluationConfig:
    """When and how a model is evaluated."""

    items: int = 32
    """Items of one evaluation micro-batch."""
    sort_by_length: bool = True
    """Batch items of similar length. With `padding: stock` the batches change the result, so the
    reference recipe evaluates in shard order."""
    metric: Literal["accuracy", "uar", "macro_f1", "weighted_f1", "loss"] = "accuracy"
    """Validation metric that chooses the best epoch."""
    patience: int | None = None
    """Stop after this many epochs without a better validation metric; null: never."""
    train: bool = True
    """Evaluate the training part too, at the end, with the best weights."""
    test_each_epoch: bool = False
    """Log the test part's scores after each epoch, for curves over epochs; nothing is chosen by them."""


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and learning-rate schedule."""

    kind: Literal["adam", "adamw"] = "adamw"
    """adam adds weight decay to the gradient, adamw decouples it."""
    lr: float = 1e-5
    """Peak learning rate."""
    head_lr: float | None = None
    """Peak learning rate of what lies above the encoder (head, pooler, classifier); null: `lr`."""
    layer_decay: float = 1.0
    """Each encoder layer's rate is that of the layer above times this, the embeddings' or
    convolutions' the lowest; 1: the same for all."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the two moments."""
    eps: float = 1e-8
    """Added to the denominator."""
    weight_decay: float = 0.0
    """Not applied to biases and normalisation weights."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Decay after the warm-up, to zero at the last step."""
    warmup: float = 0.0
    """Share of all steps in which the rate rises linearly from zero."""
    clip: float = 0.0
    """Gradient norm limit; 0: none."""


@dataclass(frozen=True)
class LossConfig:
    """What training minimises. Evaluation always gives the plain cross entropy."""

    kind: Literal["cross_entropy", "class_weights", "logit_adjusted"] = "cross_entropy"
    """class_weights: a class of n training rows weighs N / (classes * n); logit_adjusted: the classes'
    log shares are added to the logits in training (Menon et al. 2021)."""
    strength: float = 1.0
    """class_weights: exponent of the weights; logit_adjusted: factor of the log shares (tau)."""


@dataclass(frozen=True)
class LoopConfig:
    """How long a run trains and how often it says so."""

    epochs: int = 1
    """Passes over the training part."""
    max_steps: int | None = None
    """Stop after this many global steps, whatever `epochs` says."""
    log_every: int = 1
    """Global steps between lines of metrics.jsonl."""


@dataclass(frozen=True)
class EngineConfig:
    """How DeepSpeed runs the model."""

    zero: Literal[0, 1, 2, 3] = 0
    """(site) ZeRO stage: what is divided over the ranks (1 optimizer, 2 and gradients, 3 and weights)."""
    precision: Precision = "fp32"
    """bf16 and fp16 cast the whole model, bf16_autocast keeps fp32 weights; fp16 needs a GPU. tf32 is fp32
    whose products NVIDIA GPUs may round to TF32's 10 bits, several times as fast; elsewhere it is fp32."""
    activation_checkpointing: bool = False
    """(site) Recompute activations in the backward pass: less memory, about a third more time."""
    deterministic: bool = False
    """(site) On GPUs, only kernels that give the same bits each time, where there are such; slower.
    CPUs do so anyway."""
    timeout_minutes: float = 30.0
    """(site) A rank that does not answer the others for this long ends the run, which names it."""


@dataclass(frozen=True)
class CheckpointConfig:
    """(site) When a training saves all that it needs to go on, and what is kept. It also saves after
    each validation, and when a signal stops it."""

    every_steps: int | None = None
    """Save every so many global steps; null: at the other occasions only."""
    every_minutes: float | None = 15.0
    """Save when the last checkpoint is this old; null: at the other occasions only."""
    keep: int = 2
    """Newest steps whose checkpoints are kept, besides the one with the best weights."""
    optimizer: Literal["unfinished", "newest", "always"] = "unfinished"
    """Which checkpoints keep the optimizer's state, two thirds of their size: all of an unfinished
    run; the newest of an unfinished run; also those of a finished run."""
    damaged: Literal["previous", "refuse"] = "previous"
    """When the newest checkpoint is damaged: go on from the one before, or refuse."""


@dataclass(frozen=True)
class TrackingConfig:
    """(site) Weights & Biases."""

    wandb: Literal["auto", "offline", "off"] = "auto"
    """auto: online where an API key is set, else offline."""
    project: str = "sokhan"
    """W&B project."""
    entity: str | None = None
    """W&B user or team."""
    tags: tuple[str, ...] = ()
    """W&B tags."""


@dataclass(frozen=True)
class OutputConfig:
    """(site) Where the run directory lies: <folder>/<recipe>/<name>."""

    folder: str = "runs"
    """Parent of all run directories."""
    name: str = ""
    """Name of this run; empty: made of the seed and the signature of the recipe."""
    group: str = ""
    """Unix group whose members may read the run and go on with it; empty: its owner alone."""


@dataclass(frozen=True)
class Recipe:
    """What all tasks share."""

    recipe: str = ""
    """Name of the recipe; empty: the file's name."""
    seed: int = 0
    """Decides everything that is random."""
    data: DataConfig = field(default_factory=DataConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    output: OutputConfig = field(default_factory=OutputConfig)


@dataclass(frozen=True)
class EmotionRecipe(Recipe):
    """Fine-tune HuBERT for speech emotion."""

    task: Literal["emotion"] = "emotion"
    model: HubertConfig = field(default_factory=HubertConfig)
    analysis: EmotionAnalysis = field(default_factory=EmotionAnalysis)


@dataclass(frozen=True)
class NliRecipe(Recipe):
    """Fine-tune BERT for natural-language inference."""

    task: Literal["nli"] = "nli"
    model: BertConfig = field(default_factory=BertConfig)
    analysis: NliAnalysis = field(default_factory=NliAnalysis)


@dataclass(frozen=True)
class MlmRecipe(Recipe):
    """Pre-train BERT, or go on pre-training it, as a masked language model."""

    task: Literal["mlm"] = "mlm"
    model: MlmConfig = field(default_factory=MlmConfig)
