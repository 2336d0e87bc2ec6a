"""What trains in a run, in words: the fine-tuning regime of BERT, or what of HuBERT trains."""

from __future__ import annotations

from typing import Any

Section = dict[str, Any]
"""Part of a recipe."""


def regime_words(task: str, model: Section) -> str:
    """One phrase; models with other such settings have another one. ``model`` is a recipe's section."""
    if task == "mlm":
        words = "whole words" if model.get("whole_words") else "tokens"
        return f"masked language model, {float(model['mask_share']):.0%} of {words} predicted"
    return _bert(model["regime"]) if task == "nli" else _hubert(model)


def _hubert(model: Section) -> str:
    head = f"{model.get('head', '?')} head"
    frozen = ", convolutions frozen" if model.get("freeze_conv") else ""
    last = model.get("last_layers")
    what = {
        "last": f"last {'layer' if last == 1 else f'{last} layers'} and {head} train",
        "head": f"{head} alone trains{', on cached features' if model.get('cache') else ''}",
    }.get(str(model.get("trains")), f"encoder and {head} train{frozen}")
    return f"{what}, {model.get('padding', '?')} padding"


def _bert(regime: Section) -> str:
    kind, layers = regime["kind"], regime.get("layers")
    detail = {
        "freeze_first": f"embeddings{_first(layers)} frozen",
        "embeddings_last": "embeddings and last layer train",
        "intermediate": f"classifier on layer {layers}",
    }
    return _removed(regime) if kind == "heads_removed" else detail.get(kind, "full fine-tuning")


def _first(layers: Any) -> str:
    """What is frozen beside the embeddings."""
    return {0: "", 1: " and first layer"}.get(layers, f" and first {layers} layers")


def _removed(regime: Section) -> str:
    share = regime.get("heads_share")
    if not share:
        chosen = sum(map(len, (regime.get("heads") or {}).values()))
        return f"{chosen} chosen attention heads removed"
    text = f"{share:.0%} of attention heads removed"
    if regime.get("choose") != "importance":
        return f"{text} at random"
    text += f" by importance on {regime.get('score_on', 'train')}"
    rounds = regime.get("round_share")
    return f"{text}, scored anew after every {rounds:.0%}" if rounds else text
