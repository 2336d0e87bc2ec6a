"""Recipe settings as a study's page names them: ``heads chosen at random`` for model.regime.choose: random.

What is not listed here is told by its field: ``layers 9``. The exact settings stand in the commands at the
end of the page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainers.models.regime_words import regime_words

_OTHER = "other"
_ROUNDS = {"null": "heads scored once", _OTHER: "heads scored anew after every {:.0%}"}
_WORDS: Mapping[str, Mapping[str, str]] = {
    "analysis.probes": {"start": "probed before training", "end": "probed as trained"},
    "analysis.pruning.round_share": _ROUNDS,
    "data.balance": {
        "none": "classes as they are",
        "sampled": "classes drawn equally often",
        "reference": "minority copied and all of it changed",
        "clean": "minority copied and the copies changed",
    },
    "loop.epochs": {_OTHER: "{} epochs"},
    "loss.kind": {
        "cross_entropy": "plain loss",
        "class_weights": "class weights",
        "logit_adjusted": "logit adjustment",
    },
    "model.freeze_conv": {"true": "convolutions frozen", "false": "convolutions trained"},
    "model.head": {
        "linear": "linear head",
        "mlp": "head with a hidden layer",
        "weighted": "head on a mixture of layers",
        "attentive": "head with attention",
    },
    "model.last_layers": {"null": "no last layers", _OTHER: "{} of them"},
    "model.max_tokens": {_OTHER: "{} tokens at most"},
    "model.pretrained": {"null": "fresh weights", _OTHER: "from {}"},
    "model.reads": {"pair": "both texts read", "hypothesis": "hypothesis alone read"},
    "model.regime.choose": {"random": "heads chosen at random", "importance": "heads chosen by importance"},
    "model.regime.heads_share": {_OTHER: "{:.0%} of heads removed"},
    "model.regime.round_share": _ROUNDS,
    "model.specaugment": {"true": "SpecAugment", "false": "no SpecAugment"},
    "model.trains": {"all": "all layers train", "last": "last layers train", "head": "head alone trains"},
    "optim.head_lr": {"null": "one rate for all", _OTHER: "head's rate {:g}"},
    "optim.layer_decay": {"1.0": "equal rates in all layers", _OTHER: "rates x {:g} a layer down"},
    "optim.lr": {_OTHER: "rate {:g}"},
}
"""Field -> value as JSON, or as it stands if it is text -> words; other: any other one, which is put in,
into figures only a number."""
_FIELDS = {"model.regime.heads_share": "share of heads removed", "model.regime.layers": "layers"}


def setting_words(key: str, value: Any) -> str:
    """A setting in words. Of a ``kind`` its section says of what it is one: ``batching fixed``. Shards and
    splits have names that stand for themselves."""
    if key == "data.split" or (key == "data.shards" and isinstance(value, str)):
        return Path(str(value)).name
    if key == "model.regime" and isinstance(value, dict) and "kind" in value:
        return regime_words("nli", {"regime": value})
    if isinstance(value, dict):
        given = {name: one for name, one in value.items() if one is not None}
        return ", ".join(setting_words(f"{key}.{name}", one) for name, one in given.items()) or key
    text = value if isinstance(value, str) else json.dumps(value)
    known = _WORDS.get(key, {})
    if text in known:
        return known[text]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number or (isinstance(value, str) and "{}" in known.get(_OTHER, "")):
        return known.get(_OTHER, f"{field_words(key)} {{}}").format(value)
    section, _, short = key.rpartition(".")
    name = field_words(section if short == "kind" and section else key)
    if value is None or isinstance(value, bool):
        return name if value else f"no {name}"
    return f"{name} {text}"


def field_words(key: str) -> str:
    """A recipe field over which a curve is drawn, in words."""
    return _FIELDS.get(key, key.rpartition(".")[2].replace("_", " "))
