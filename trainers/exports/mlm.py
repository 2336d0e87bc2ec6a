"""Write a pre-trained BERT as a folder that transformers and `model.pretrained` load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from configs.files import new_folder, write_json
from trainers.exports.card import CardFacts, card_lines
from trainers.exports.classifier import WEIGHTS, write_weights
from trainers.models.bert_mlm import MlmModel, PairMlmModel
from trainers.models.tokenizer import write_tokenizer


def export_mlm(
    model: MlmModel | PairMlmModel,
    state: Mapping[str, Tensor],
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    card: CardFacts,
) -> None:
    """``state`` gives the weights by the model's parameter names, on the CPU. The output matrix is
    that of the word embeddings and stands in the file once."""
    stock = [name for name, _ in model.named_parameters() if not name.startswith("shared_tokens.")]
    weights = {name: state[name] for name in stock}
    values = model.config.to_diff_dict()
    values["architectures"] = [type(model).__mro__[1].__name__]  # the stock class
    values["dtype"] = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    values.pop("_name_or_path", None)
    with new_folder(folder) as temporary:
        write_tokenizer(tokenizer, temporary)
        write_weights(weights, temporary / WEIGHTS)
        write_json(temporary / "config.json", values)
        text = "\n".join(card_lines(card, "fill-mask", "bert", _about(model), _LIMITS, _USE))
        (temporary / "README.md").write_text(text, encoding="utf-8")


def _about(model: MlmModel | PairMlmModel) -> str:
    settings = model.settings
    start = settings.pretrained or f"fresh weights, size {settings.size}"
    words = "whole words" if settings.whole_words else "tokens"
    also = ", to tell which texts belong together" * settings.next_sentence
    also += " and which tokens both hold" * settings.shared_tokens
    return (
        f"BERT, pre-trained as a masked language model{also}. Started from {start}; "
        f"{model.config.num_hidden_layers} layers; {settings.text} text in rows of "
        f"{settings.max_tokens} tokens, {settings.mask_share:.0%} of the {words} masked."
    )


_LIMITS = ["What the training text says of people and things, true or not, the model has learnt."]
_USE = [
    "from transformers import AutoModelForMaskedLM, AutoTokenizer",
    "tokenizer = AutoTokenizer.from_pretrained(folder)",
    "model = AutoModelForMaskedLM.from_pretrained(folder)",
    'inputs = tokenizer(f"... {tokenizer.mask_token} ...", return_tensors="pt")',
    "scores = model(**inputs).logits",
]
