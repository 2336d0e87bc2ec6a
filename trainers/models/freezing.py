"""The five ways to fine-tune a BERT, and an exact account of which parameters train, HuBERT's too.

full: everything. freeze_first: embeddings and the first layers stay as they are. embeddings_last:
only the embeddings, the last layer, pooler and classifier train. intermediate: the encoder is cut
off above a layer. heads_removed: attention heads are taken out. Frozen layers stay in training
mode: their dropout still works, as where one sets ``requires_grad`` by hand in transformers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from configs.errors import InputError
from configs.models import RegimeConfig
from trainers.models.bert_classifier import NliModel
from trainers.models.hubert import EmotionModel
from trainers.models.pruning import REMOVED_KEY, Heads, check_heads, choose_heads, prune_heads

FIELDS: dict[str, set[str]] = {
    "full": set(),
    "freeze_first": {"layers"},
    "embeddings_last": set(),
    "intermediate": {"layers"},
    "heads_removed": {"heads_share", "heads"},
}


@dataclass(frozen=True)
class ParameterReport:
    """Which parameters train and which stay as they are."""

    kind: str
    """The regime, or "emotion"."""
    trainable: tuple[str, ...]
    """Names, in the model's order."""
    frozen: tuple[str, ...]
    trainable_count: int
    """Numbers, not tensors."""
    frozen_count: int
    layers: int
    """Encoder layers that the model has now."""
    removed_heads: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """Attention heads taken out, by layer."""

    def describe(self) -> str:
        """One or two lines for the log."""
        total = self.trainable_count + self.frozen_count
        parts = [_group(name) for name in self.frozen]
        line = (
            f"{self.kind}: {self.layers} layers, {self.trainable_count:,} of {total:,} parameters"
            f" train; frozen: {', '.join(dict.fromkeys(parts)) or 'none'}"
        )
        if self.removed_heads:
            gone = "; ".join(
                f"layer {layer}: {' '.join(map(str, heads))}" for layer, heads in self.removed_heads.items()
            )
            line += f"\nheads removed: {sum(map(len, self.removed_heads.values()))} ({gone})"
        return line


def apply_regime(
    model: NliModel, regime: RegimeConfig, seed: int, chosen: Heads | None = None
) -> ParameterReport:
    """Freeze, cut or prune a freshly built model as ``regime`` says, check it, and report.

    ``seed`` draws the heads of ``heads_share``, unless they are ``chosen`` by their importance
    (``trainers.tasks.head_choice``). A model that lacks heads keeps lacking them, and they count among
    ``heads_share``. Raises InputError naming the key that is wrong.
    """
    bert, depth = model.bert, model.config.num_hidden_layers
    _check_fields(regime)
    if regime.kind == "freeze_first":
        layers = _layers(regime, 0, depth)
        bert.embeddings.requires_grad_(False)
        bert.encoder.layer[:layers].requires_grad_(False)
    elif regime.kind == "embeddings_last":
        bert.encoder.requires_grad_(False)
        bert.encoder.layer[-1].requires_grad_(True)
    elif regime.kind == "intermediate":
        layers = _layers(regime, 1, depth)
        bert.encoder.layer = bert.encoder.layer[:layers]
        model.config.num_hidden_layers = layers
        model.removed_heads = _below(layers, model.removed_heads)
    elif regime.kind == "heads_removed":
        heads, gone = model.config.num_attention_heads, model.removed_heads
        if regime.heads is not None:
            removed = check_heads(depth, heads, regime.heads, gone)
        elif regime.choose == "importance":
            assert chosen, "heads are chosen before the model is built"
            removed = dict(chosen)
        else:
            assert regime.heads_share is not None
            removed = choose_heads(depth, heads, regime.heads_share, seed, gone)
        prune_heads(model, removed)
    check_regime(model, regime)
    return report_of(model)


def check_regime(model: NliModel, regime: RegimeConfig) -> None:
    """Assert that exactly the parameters train that the regime says, judged by their names."""
    depth = model.config.num_hidden_layers
    for name, parameter in model.named_parameters():
        found = re.match(r"bert\.encoder\.layer\.(\d+)\.", name)
        layer = int(found[1]) if found else None
        if regime.kind == "freeze_first":
            assert regime.layers is not None
            embedding = name.startswith("bert.embeddings.")
            expected = layer >= regime.layers if layer is not None else not embedding
        elif regime.kind == "embeddings_last":
            expected = layer is None or layer == depth - 1
        else:
            expected = True
        assert parameter.requires_grad == expected, f"{regime.kind}: {name} must train: {expected}"
        assert layer is None or layer < depth, f"{name} lies beyond the {depth} layers left"
    assert len(model.bert.encoder.layer) == depth
    if regime.kind == "intermediate":
        assert depth == regime.layers
    size = model.config.hidden_size // model.config.num_attention_heads
    modules: list[Any] = list(model.bert.encoder.layer)
    for number, layer_module in enumerate(modules):
        kept = model.config.num_attention_heads - len(model.removed_heads.get(number, ()))
        units = layer_module.attention.self.query.out_features
        assert units == kept * size, f"layer {number} has {units} units in heads, not {kept * size}"
    before = {int(n): tuple(gone) for n, gone in getattr(model.config, REMOVED_KEY, {}).items()}
    same = model.removed_heads == _below(depth, before)
    assert same != (regime.kind == "heads_removed"), f"removed heads: {model.removed_heads}"


def check_emotion(model: EmotionModel) -> None:
    """Assert that exactly the parameters of a HuBERT train that its recipe says, judged by their
    names."""
    settings, stable = model.settings, model.architecture.do_stable_layer_norm
    depth = model.architecture.num_hidden_layers
    first = {"all": 0, "last": depth - (settings.last_layers or 0), "head": depth}[settings.trains]
    for name, parameter in model.named_parameters():
        found = re.match(r"hubert\.encoder\.layers\.(\d+)\.", name)
        if found:
            expected = int(found[1]) >= first
        elif name.startswith("hubert.encoder.layer_norm.") and stable:
            # Behind the last layer; a weighted head reads what lies before it.
            expected = settings.trains != "head" and settings.head != "weighted"
        elif name.startswith("hubert.feature_extractor."):
            expected = settings.trains == "all" and not settings.freeze_conv
        elif name.startswith("hubert."):
            expected = settings.trains == "all"
        else:
            expected = True
        assert parameter.requires_grad == expected, f"{name} must train: {expected}"


def report_of(model: NliModel | EmotionModel) -> ParameterReport:
    """The account of a model as it stands, before an engine divides its parameters."""
    names: dict[bool, list[str]] = {True: [], False: []}
    counts = {True: 0, False: 0}
    for name, parameter in model.named_parameters():
        names[parameter.requires_grad].append(name)
        counts[parameter.requires_grad] += parameter.numel()
    return ParameterReport(
        kind="emotion" if isinstance(model, EmotionModel) else model.settings.regime.kind,
        trainable=tuple(names[True]),
        frozen=tuple(names[False]),
        trainable_count=counts[True],
        frozen_count=counts[False],
        layers=len(_layer_list(model)),
        removed_heads={} if isinstance(model, EmotionModel) else dict(model.removed_heads),
    )


def report_of_all(model: nn.Module, kind: str, layers: int) -> ParameterReport:
    """The account of a model all of which trains."""
    parameters = dict(model.named_parameters())
    assert all(parameter.requires_grad for parameter in parameters.values())
    count = sum(parameter.numel() for parameter in parameters.values())
    return ParameterReport(kind, tuple(parameters), (), count, 0, layers)


def _below(depth: int, removed: Heads) -> Heads:
    """The removed heads of the first ``depth`` layers."""
    return {layer: gone for layer, gone in removed.items() if layer < depth}


def _layer_list(model: NliModel | EmotionModel) -> nn.ModuleList:
    if isinstance(model, EmotionModel):
        return model.hubert.encoder.layers
    return model.bert.encoder.layer


def _group(name: str) -> str:
    """A parameter's part of the model, short enough for a log line."""
    for part in (
        "embeddings",
        "feature_extractor",
        "feature_projection",
        "pos_conv_embed",
        "pooler",
    ):
        if f".{part}." in name:
            return part
    found = re.search(r"encoder\.layers?\.(\d+)\.", name)
    return f"layer {found[1]}" if found else name


def _check_fields(regime: RegimeConfig) -> None:
    given = {key for key in ("layers", "heads_share", "heads") if getattr(regime, key) is not None}
    wanted = FIELDS[regime.kind]
    for key in sorted(given - wanted):
        raise InputError(f"model.regime.{key}: does not belong to regime {regime.kind}; remove it")
    if wanted and len(given) != 1:
        names = " or ".join(f"model.regime.{key}" for key in sorted(wanted))
        raise InputError(f"model.regime: {regime.kind} needs {names}" + (", not both" if given else ""))


def _layers(regime: RegimeConfig, least: int, most: int) -> int:
    layers = regime.layers
    assert layers is not None
    if not least <= layers <= most:
        raise InputError(
            f"model.regime.layers: {layers} is not in {least}..{most}, for a model of {most} layers"
        )
    return layers
