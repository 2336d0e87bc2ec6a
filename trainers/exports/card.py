"""The model card of an exported model: what it is, what it was trained on, what to expect of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainers.models.bert_classifier import NliModel
from trainers.models.hubert import EmotionModel
from trainers.models.regime_words import regime_words


@dataclass(frozen=True)
class CardFacts:
    """What the card says that the model itself does not know."""

    recipe: str
    """Name of the recipe."""
    corpus: str
    """What it was trained on, with its split, in words."""
    synthetic: bool
    """Whether the corpus is generated; said first thing."""
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Part (train, validation, test) -> metric -> value between 0 and 1, or a loss."""
    limits: tuple[str, ...] = ()
    """Sentences on what the model must not be trusted with, beside the usual ones."""
    command: str = ""
    """The command that trained it."""
    language: str = "fa"
    """Language code of the corpus; empty: not stated."""


def write_card(path: Path, model: EmotionModel | NliModel, facts: CardFacts) -> None:
    """Write the card as Markdown with the YAML head that the hub reads."""
    path.write_text(card_text(model, facts), encoding="utf-8")


def card_text(model: EmotionModel | NliModel, facts: CardFacts) -> str:
    """The card, as text."""
    tag, kind = "text-classification", "bert"
    if isinstance(model, EmotionModel):
        tag, kind = "audio-classification", "hubert"
    lines = card_lines(facts, tag, kind, _description(model), _limits(model), _usage(model))
    return "\n".join(lines)


def card_lines(
    facts: CardFacts,
    tag: str,
    kind: str,
    description: str,
    limits: Sequence[str],
    usage: Sequence[str],
) -> list[str]:
    """The lines of a card. ``tag``: the hub's name of the task, ``kind``: of the architecture."""
    head = ["---", "library_name: transformers"]
    if facts.language:
        head.append(f"language: {facts.language}")
    head += [f"pipeline_tag: {tag}", "tags:", "- sokhan", f"- {kind}"]
    if facts.synthetic:
        head.append("- synthetic-data")
    lines = [*head, "---", "", f"# {facts.recipe}", ""]
    if facts.synthetic:
        lines += ["**Trained on synthetic data: its figures say nothing about real data.**", ""]
    lines += [description, "", "## Data", "", facts.corpus, ""]
    if facts.command:
        lines += ["## Training", "", "```", facts.command, "```", ""]
    if facts.metrics:
        lines += ["## Results", "", *_table(facts.metrics), ""]
    lines += ["## Limits", "", *(f"- {limit}" for limit in (*facts.limits, *limits)), ""]
    return [*lines, "## Use", "", "```python", *usage, "```", ""]


def _description(model: EmotionModel | NliModel) -> str:
    labels = ", ".join(model.labels)
    start = model.settings.pretrained or f"fresh weights, size {model.settings.size}"
    settings = dataclasses.asdict(model.settings)
    if isinstance(model, EmotionModel):
        return (
            f"HuBERT classifier of speech emotion ({labels}). Started from {start};"
            f" {regime_words('emotion', settings)}."
        )
    removed = sum(len(gone) for gone in model.removed_heads.values())
    text = (
        f"BERT classifier of sentence pairs ({labels}). Started from {start};"
        f" {regime_words('nli', settings)}; {model.config.num_hidden_layers} layers;"
        f" {model.settings.text} text of at most {model.settings.max_tokens} tokens."
    )
    if model.settings.reads == "hypothesis":
        text += " It reads the second text alone; the first is left empty."
    if removed:
        text += f" {removed} attention heads are removed; here they are filled with zeros."
    return text


def _limits(model: EmotionModel | NliModel) -> list[str]:
    if isinstance(model, EmotionModel):
        limits = [
            "Acted or scripted emotion differs from felt emotion; do not judge people by it.",
            "Results on speakers heard in training are far better than on new ones.",
            f"Clips are mono, 16 kHz and cut to {model.settings.max_seconds:g} s.",
        ]
        if model.architecture.feat_extract_norm == "group":
            limits.append("Outside sokhan, run clips one by one: padding changes the first layer's output.")
        return limits
    return ["Corpora of sentence pairs carry cues in the wording that real texts do not have."]


def _table(metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    rows = [f"| part | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    for part, values in metrics.items():
        cells = [f"{values[name]:.4f}" if name in values else "" for name in names]
        rows.append(f"| {part} | {' | '.join(cells)} |")
    return rows


def _usage(model: EmotionModel | NliModel) -> list[str]:
    if isinstance(model, EmotionModel):
        code = ", trust_remote_code=True" if model.settings.head in ("mlp", "attentive") else ""
        return [
            "from transformers import AutoFeatureExtractor, AutoModelForAudioClassification",
            "extractor = AutoFeatureExtractor.from_pretrained(folder)",
            f"model = AutoModelForAudioClassification.from_pretrained(folder{code})",
            'inputs = extractor(audio, sampling_rate=16_000, return_tensors="pt")',
            "label = model.config.id2label[int(model(**inputs).logits.argmax())]",
        ]
    first = "premise" if model.settings.reads == "pair" else '""'
    cut = f"truncation=True, max_length={model.settings.max_tokens}"  # as in training
    return [
        "from transformers import AutoModelForSequenceClassification, AutoTokenizer",
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        "model = AutoModelForSequenceClassification.from_pretrained(folder)",
        f'inputs = tokenizer({first}, hypothesis, {cut}, return_tensors="pt")',
        "label = model.config.id2label[int(model(**inputs).logits.argmax())]",
    ]
