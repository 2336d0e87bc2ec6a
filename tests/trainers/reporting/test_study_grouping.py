"""What makes one method of several runs: equal settings and data, the same folds, one training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.trainers.reporting.study_directory import (
    build_study,
    member,
    on_shards,
    part,
    write_noise,
    write_probes,
    write_pruning,
)
from tests.trainers.reporting.test_study import SPEECH, page_of, table, text_run
from tests.trainers.run_directory import EMOTIONS, build_run, write_json
from trainers.reporting.runs.read import read_run
from trainers.reporting.study.file import read_members, read_study
from trainers.reporting.study.grouping import methods_of
from trainers.reporting.study.methods import Method
from trainers.reporting.study.significance import pairs_of

Members = list[dict[str, Any]]


def fold_run(runs: Path, name: str, fold: int, first_key: int, **values: Any) -> Path:
    """A run of one fold, whose test samples are 50 numbered ones."""
    return build_run(
        runs,
        task="emotion",
        recipe="voice",
        corpus="voices",
        split=f"speaker3-fold{fold}",
        supports=SPEECH,
        epochs=1,
        steps_an_epoch=2,
        name=name,
        keys=[f"clip{n:04d}" for n in range(first_key, first_key + 50)],
        **values,
    )


def of_seed(run: Path, seed: int, **varied: str) -> dict[str, Any]:
    """A member as a grid over folds and heads gives it."""
    split = read_run(run).data["split"]
    return {
        **member(run, {"data.split": split, **{f"model.{k}": v for k, v in varied.items()}}),
        "seed": seed,
    }


def packed(run: Path, digest: str) -> Path:
    about = json.loads((run / "data.json").read_text())
    write_json(run / "data.json", {**about, "digest": digest})
    return run


def found(folder: Path) -> list[Method]:
    study = read_study(folder)
    return methods_of(study.parts[0], read_members(study).found)


def scores(text: str) -> dict[str, list[str]]:
    return table(text, "Test part: mean ± sample standard deviation")


def test_methods_are_named_by_what_is_set(tmp_path: Path) -> None:
    """In words where there are some; a field that is not set is not named beside others."""
    runs = tmp_path / "runs"
    heads = {"heads_share": 0.3, "choose": "importance", "round_share": 0.1}
    varied: list[dict[str, Any]] = [
        {"loss.kind": "class_weights", "model.trains": "all", "model.last_layers": None},
        {"loss.kind": "cross_entropy", "model.trains": "last", "model.last_layers": 2},
        {"model.regime": {"kind": "freeze_first", "layers": 9, "heads": None}},
        {"evaluation.patience": None},
        {"loop.epochs": 20, "optim.lr": 3e-5, "batching.kind": "fixed"},
        {f"model.regime.{key}": value for key, value in heads.items()},
        {
            "model.pretrained": "models/mine",
            "model.head": "new",
            "evaluation.sort_by_length": True,
            "model.max_tokens": 128,
        },
    ]
    members = [member(text_run(runs, "one", n, 0.5), one) for n, one in enumerate(varied)]
    assert [method.name for method in found(build_study(runs, [part("one", members)]))] == [
        "class weights, all layers train",
        "plain loss, last layers train, 2 of them",
        "embeddings and first 9 layers frozen",
        "no patience",
        "20 epochs, rate 3e-05, batching fixed",
        "30% of heads removed, heads chosen by importance, heads scored anew after every 10%",
        "from models/mine, head new, sort by length, 128 tokens at most",
    ]


def test_other_data_make_another_row(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    made = [
        packed(text_run(runs, "good", seed, skill), digest)
        for seed, skill, digest in (
            (1, 0.3, "0ld0ld0ld"),
            (2, 0.8, "newnewnew"),
            (3, 0.8, "newnewnew"),
        )
    ]
    folder = build_study(runs, [part("one", [member(run) for run in made])])
    text = page_of(folder)[1]
    assert [(m.name, len(m.scored)) for m in found(folder)] == [
        ("data 0ld0ld0l", 1),
        ("data newnewne", 2),
    ]
    assert {"data 0ld0ld0l", "data newnewne"} <= set(scores(text))
    assert "(digest 0ld0ld0l)" in text and "(digest newnewne)" in text
    assert text.count("its trainings read other data than those of equal settings") == 2


def test_folds_with_a_sample_in_two_are_not_pooled(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    members = [of_seed(fold_run(runs, f"f{n}", n, first), 0) for n, first in ((1, 0), (2, 25), (3, 90))]
    folder = build_study(runs, [part("one", members)])
    methods, text = found(folder), page_of(folder)[1]
    assert [method.folds for method in methods] == [(1,), (2,), (3,)]
    assert [method.protocol for method in methods] == [f"speaker3, fold {n}" for n in (1, 2, 3)]
    assert text.count("its folds are not pooled: 25 test samples stand in more than one") == 1
    assert "folds pooled" not in text and pairs_of(methods, None)[0] == []


def test_folds_without_predictions_are_not_pooled(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    made = [fold_run(runs, f"f{n}", n, 50 * n) for n in (1, 2)]
    (made[1] / "eval/predictions-test.csv").unlink()
    folder = build_study(runs, [part("one", [of_seed(run, 0) for run in made])])
    text = page_of(folder)[1]
    assert "its folds are not pooled: of one there is no file of predictions" in text
    for run, method in zip(made, found(folder), strict=True):
        assert method.values("accuracy") == [read_run(run).splits["test"].accuracy]


def test_some_folds_are_told_and_not_ranked_with_others(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    members: Members = []
    for head, folds in (("all", (1, 2, 3)), ("some", (1, 3)), ("one", (1,)), ("other", (2,))):
        skill = 0.9 if head == "some" else 0.5
        members += [
            of_seed(
                fold_run(runs, f"{head}{n}", n, 0 if len(folds) == 1 else 50 * n, seed=n, skill=skill),
                0,
                head=head,
            )
            for n in folds
        ]
    folder = build_study(runs, [part("one", members)])
    methods, text = found(folder), page_of(folder)[1]
    assert [method.protocol for method in methods] == [
        "speaker3, 3 folds pooled",
        "speaker3, folds 1, 3 of 3 pooled",
        "speaker3, fold 1",
        "speaker3, fold 2",
    ]
    # "one" and "other" even have test samples of the same names and classes.
    assert methods[2].items and methods[3].items and methods[2].items.same(methods[3].items)
    assert pairs_of(methods, None)[0] == [] and "has the highest" not in text
    assert scores(text)["head some"][0] == "speaker3, folds 1, 3 of 3 pooled"


def test_only_seeds_with_the_same_folds_are_averaged(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    members: Members = []
    for seed, folds in ((0, (1, 2)), (1, (1, 3)), (2, (1, 3)), (3, (2,))):
        members += [of_seed(fold_run(runs, f"s{seed}f{n}", n, 50 * n), seed) for n in folds]
    folder = build_study(runs, [part("one", members)])
    (method,) = found(folder)
    assert method.folds == (1, 3) and [one.seed for one in method.scored] == [1, 2]
    assert "seed 0, 3 left out, it lacks folds" in page_of(folder)[1]


def test_what_is_measured_afterwards_makes_no_other_method(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    members: Members = []
    for when, best in (("start", 0.4), ("end", 0.6)):
        run = text_run(runs, "good", 1, 0.7, when)
        write_probes(run, [0.3, best, 0.35])
        members.append(member(run, {"analysis.probes": when}))
    other = text_run(runs, "good", 1, 0.3, "small")
    members.append(member(other, {"model.size": "small"}))
    folder = build_study(runs, [part("one", members)])
    methods, text = found(folder), page_of(folder)[1]
    assert [(len(method.scored), len(method.measured)) for method in methods] == [(1, 2), (1, 1)]
    assert "corrected by Holm over 1 pair;" in text and "of 1 pair " in text
    for words, best in (("probed before training", ".400"), ("probed as trained", ".600")):
        assert f"of the layers of good, {words}, layer 1 of 2 is the best" in text
        assert f"(accuracy {best}; the last .350)" in text
    study = build_study(tmp_path / "curve" / "runs", [part("one", members, curve="analysis.probes")])
    (study.parents[1] / "good").symlink_to(runs / "good")
    assert len(found(study)) == 2, "there is no curve over what changes no score"


def test_a_class_that_a_fold_lacks_does_not_lower_recall(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    made = [fold_run(runs, f"f{n}", n, 50 * n) for n in (1, 2, 3)]
    for run, labels in zip(made, (EMOTIONS, EMOTIONS, EMOTIONS[:-1]), strict=True):
        write_noise(run, labels, 0.8, 0.5)
    text = page_of(build_study(runs, [part("one", [of_seed(run, 0) for run in made])]))[1]
    row = next(line for line in text.splitlines() if line.startswith("| voice | clean | 0.800"))
    assert row.count("| 0.800") == 3 + 6


def test_few_speakers_have_no_interval(tmp_path: Path, speech_shards: Path) -> None:
    runs, made = tmp_path / "runs", []
    for name, flipped in (("one", 0), ("two", 12)):
        made.append(build_run(runs, task="emotion", recipe=name, epochs=1, steps_an_epoch=2))
        on_shards(made[-1], speech_shards, "speaker", flipped)
    folder = build_study(runs, [part("two", [member(run) for run in made])])
    one, _ = found(folder)
    text = page_of(folder)[1]
    assert one.items is not None and one.items.speakers is not None
    assert len(np.unique(one.items.speakers)) < 5
    assert "too few speakers for intervals" in text and scores(text)["one"][3] == "–"
    assert "0 of 1 pair" in text and "is better than" not in text
    assert "The test part has too few speakers to tell it from" in text


def words_of_source(tmp_path: Path, seeds: Sequence[int], own: Sequence[int]) -> str:
    runs = tmp_path / "runs"
    full = [text_run(runs, "full", seed, 0.7) for seed in seeds]
    start = str(full[0] / "model")
    going_on = [text_run(runs, "next", seed, 0.7, pretrained=start) for seed in own]
    parts = [
        part("first", [member(run) for run in full]),
        part("then", [member(run) for run in going_on], start_from={"part": "first", "recipe": "full"}),
    ]
    return page_of(build_study(runs, parts))[1]


def test_of_whose_seed_the_weights_are(tmp_path: Path) -> None:
    text = words_of_source(tmp_path / "a", (1, 2), (1, 2))
    assert "weights of a finished one (part first, recipe full), of equal seed." in text
    text = words_of_source(tmp_path / "b", (7,), (1, 2))
    assert "one finished training (part first, recipe full), of seed 7, whatever its own" in text


def test_draws_are_counted_in_each_training(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    made = [text_run(runs, "good", seed, 0.7) for seed in (1, 2)]
    for run in made:
        write_pruning(run)
    text = page_of(build_study(runs, [part("one", [member(run) for run in made])]))[1]
    assert "at random (mean of 3 draws in each of 2 trainings)" in text
