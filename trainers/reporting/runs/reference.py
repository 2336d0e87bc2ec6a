"""The numbers of the reference report that runs are compared with, and when they compare at all.

Reference: HuBERT-base on ShEMO and ParsBERT (five regimes) on FarsTail. ``None`` and dashes stand
where it gives no number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainers.metrics import SplitMetrics
from trainers.reporting.runs.record import Run

NLI_ORDER = ("e", "c", "n")
"""entailment, contradiction, neutral: rows and columns of the reference's confusion matrices."""
NLI_LETTERS = {"entailment": "e", "contradiction": "c", "neutral": "n"}
EMOTION_LETTERS = {
    "anger": "A",
    "neutral": "N",
    "neutrality": "N",
    "sadness": "S",
    "fear": "F",
    "surprise": "W",
    "happiness": "H",
}


@dataclass(frozen=True)
class RegimeReference:
    """Test results of one fine-tuning regime on FarsTail."""

    number: int
    kind: str
    title: str
    short: str
    accuracy: float
    loss: float | None = None
    macro_f1: float | None = None
    weighted_f1: float | None = None
    confusion: tuple[tuple[int, int, int], ...] | None = None
    """Rows truth, columns predicted, in the order e, c, n."""


REGIMES = (
    RegimeReference(1, "full", "full fine-tuning", "full", 0.7590),
    RegimeReference(
        2,
        "freeze_first",
        "first 9 layers frozen",
        "first 9\nfrozen",
        0.7302,
        1.118,
        0.7283,
        0.7297,
        ((422, 81, 16), (146, 308, 56), (36, 87, 412)),
    ),
    RegimeReference(
        3,
        "embeddings_last",
        "all frozen but embeddings and last layer",
        "embeddings\n+ last",
        0.6176,
        0.901,
        0.6076,
        0.6101,
        ((427, 74, 18), (274, 185, 51), (48, 133, 354)),
    ),
    RegimeReference(
        4,
        "intermediate",
        "classifier on an intermediate layer, the rest cut off",
        "intermediate",
        0.7494,
        0.850,
        0.7520,
        0.7530,
        ((412, 90, 17), (106, 370, 34), (9, 136, 390)),
    ),
    RegimeReference(
        5,
        "heads_removed",
        "attention heads removed",
        "heads\nremoved",
        0.7123,
        0.842,
        0.7181,
        0.7192,
        ((354, 153, 12), (88, 381, 41), (6, 150, 379)),
    ),
)

PARSBERT = "bert-fa-base-uncased"
"""Name of the reference's model."""

REGIME_NOTES = (
    "The reference's regime 2 starts at a train accuracy of .906 after one epoch (regime 3: .477), "
    "so it was probably continued from regime 1's weights; runs here are independent unless their "
    "recipe says otherwise.",
    "The reference gives no learning rate, no intermediate layer and no list of removed heads: "
    "those are fixed by our recipes.",
    "The reference counts its per-epoch accuracies as means of batch means; ours count every sample once.",
)

HUBERT = {"train": (0.74, 0.74), "validation": (0.78, 0.56), "test": (0.77, 0.56)}
"""Split -> accuracy and macro F1 on ShEMO."""
HUBERT_TEST_F1 = {"A": 0.95, "N": 0.79, "S": 0.55, "F": 0.00, "W": 0.59, "H": 0.47}
HUBERT_NOTES = (
    "The reference's train numbers are over its 2538 oversampled and augmented rows. There noise "
    "was added to every class but anger, so noise itself marks “not anger” in training.",
    "Its split is stratified by emotion, not by speaker: the same speakers are in train and test, "
    "which a speaker-disjoint run does not profit from.",
)


TEST_SAMPLES = {"farstail": 1564, "shemo": 600}
"""Samples of the reference's test parts."""
EPOCHS = {"nli": 5, "emotion": 4}
"""Of its trainings, by task."""


def why_not_comparable(run: Run) -> str:
    """Empty where a run's test part is the reference's; else the reason, in a few words."""
    corpus, split = ("farstail", "official") if run.task == "nli" else ("shemo", "reference")
    if run.synthetic:
        return "synthetic corpus"
    if run.data["corpus"] != corpus:
        return f"corpus {run.data['corpus']}"
    if run.data["split"] != split:
        return f"split {run.data['split']}"
    samples = sum(run.data["counts"]["test"].values())
    if samples != TEST_SAMPLES[corpus]:
        return f"test part of {samples} samples, not {TEST_SAMPLES[corpus]}"
    return ""


def other_settings(run: Run) -> str:
    """Empty where a run trains as the reference does, as far as it says; else how it differs. Such runs
    stand in the table beside it, but not among the points of the chart."""
    reasons = []
    epochs, wanted = run.config["loop"]["epochs"], EPOCHS.get(run.task)
    if run.summary.get("stopped") == "max_steps":
        reasons.append(f"it was stopped after {run.summary['steps']} steps")
    elif wanted and epochs != wanted:
        reasons.append(f"{epochs} epoch{'s' if epochs > 1 else ''}, not {wanted}")
    if run.continued:
        reasons.append(f"it goes on from {run.start}")
    elif run.task == "nli" and PARSBERT not in run.start:  # a folder of it has its name
        reasons.append(f"it starts from {run.start}, not ParsBERT")
    if run.config["model"].get("reads", "pair") != "pair":
        reasons.append("it reads the hypothesis alone")
    return "; ".join(reasons)


def nli_letter(label: str) -> str:
    """e, c or n for either spelling of a label; other labels as they are."""
    return NLI_LETTERS.get(label.lower(), label)


def nli_confusion(metrics: SplitMetrics) -> str:
    """The confusion matrix in one line, in the reference's order where the labels are its own."""
    letters = [nli_letter(label) for label in metrics.labels]
    matrix = metrics.confusion
    if sorted(letters) == sorted(NLI_ORDER):
        order = [letters.index(letter) for letter in NLI_ORDER]
        return confusion_line([[matrix[i][j] for j in order] for i in order])
    return f"{confusion_line(matrix)} ({', '.join(metrics.labels)})"


def confusion_line(matrix: tuple[tuple[int, ...], ...] | list[list[int]] | None) -> str:
    """422 81 16 · 146 308 56 · 36 87 412; a dash for no matrix."""
    if matrix is None:
        return "–"
    return " · ".join(" ".join(map(str, row)) for row in matrix)


def emotion_f1(metrics: SplitMetrics) -> Mapping[str, float]:
    """F1 by ShEMO's emotion letter."""
    letters = [EMOTION_LETTERS.get(label.lower(), label) for label in metrics.labels]
    return dict(zip(letters, metrics.f1, strict=True))
