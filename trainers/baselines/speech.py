"""Baselines of speech emotion: what the speaker gives away, and what functionals of the clip say.

Where speakers occur in train and test, guessing each speaker's usual emotion scores well without
hearing a clip: what a model is worth shows above that, or on speakers it has not heard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.baselines.baseline import EVALUATED, Baseline, Parts, shares_of
from trainers.baselines.linear import fit_logistic, standardised

_STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0)


def speaker_majority(speakers: NDArray[np.integer[Any]], parts: Parts) -> Baseline:
    """Each speaker's most frequent emotion in train; that of all train for speakers not heard there.

    ``speakers``: (samples,) codes of the whole corpus, -1 where unknown.
    """
    train = speakers[parts.rows["train"]]
    overall = shares_of(parts.codes["train"], parts.classes)
    table = np.zeros((int(speakers.max(initial=0)) + 1, parts.classes))
    np.add.at(table, (train[train >= 0], parts.codes["train"][train >= 0]), 1)
    # As much as one clip of the overall shares: it breaks ties and stands in for unheard speakers.
    shares = (table + overall) / (table.sum(1, keepdims=True) + 1)
    probabilities, heard = {}, {}
    for part in EVALUATED:
        codes = speakers[parts.rows[part]]
        probabilities[part] = np.where(codes[:, None] >= 0, shares[codes], overall)
        known = np.isin(codes, train[train >= 0])
        heard[f"{part}_items_of_heard_speakers"] = float(known.mean())
    what = "the most frequent emotion of the clip's speaker in train, else of all train; hears nothing"
    return Baseline("speaker_majority", "Speaker's majority", what, probabilities, heard)


def functionals_baselines(features: NDArray[np.float32], parts: Parts) -> Iterator[Baseline]:
    """Logistic regression on functionals, with clips weighted alike and with classes weighted alike.

    ``features``: (samples, features) of the whole corpus, from ``functionals.functionals``.
    """
    own: Mapping[str, NDArray[Any]] = standardised(
        {part: features[rows] for part, rows in parts.rows.items()}
    )
    what = f"logistic regression on {features.shape[1]} statistics of MFCCs, F0, energy and spectrum"
    for name, title, balanced in (
        ("functionals", "Functionals", False),
        ("functionals_balanced", "Functionals, balanced", True),
    ):
        probabilities, strength = fit_logistic(own, parts, _STRENGTHS, "uar", balanced)
        how = f"{what}, classes weighted alike" if balanced else what
        yield Baseline(name, title, how, probabilities, {"c": strength})
