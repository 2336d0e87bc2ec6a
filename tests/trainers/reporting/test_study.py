"""The page of a study says what its run directories hold, tests what can be tested, and names gaps."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.errors import InputError
from configs.models import RegimeConfig
from tests.trainers.reporting.study_directory import (
    build_study,
    log_tests,
    member,
    on_shards,
    part,
    write_noise,
    write_probes,
    write_pruning,
)
from tests.trainers.reporting.test_report import Page, markdown_cells
from tests.trainers.run_directory import (
    EMOTIONS,
    NLI,
    build_run,
    write_json,
    write_test_predictions,
)
from trainers.metrics import class_metrics
from trainers.predictions import read_predictions
from trainers.report import write_report
from trainers.reporting.page.charts import Panel, Series, panels
from trainers.reporting.runs.read import read_run
from trainers.reporting.runs.removed_heads import removed_points
from trainers.reporting.statistics.hypothesis_tests import short
from trainers.reporting.study.file import read_members, read_study
from trainers.reporting.study.grouping import methods_of
from trainers.reporting.study.page import write_study
from trainers.reporting.study.significance import pairs_of

TEXT = {"train": [40] * 3, "validation": [20] * 3, "test": [100, 110, 90]}
SPEECH = {"train": [20] * 6, "validation": [10] * 6, "test": [12, 2, 8, 14, 9, 5]}


def text_run(runs: Path, recipe: str, seed: int, skill: float, name: str = "", **values: object) -> Path:
    regime = values.pop("regime", None)
    assert regime is None or isinstance(regime, RegimeConfig)
    return build_run(
        runs,
        recipe=recipe,
        seed=seed,
        skill=skill,
        supports=TEXT,
        name=name,
        regime=regime,
        corpus="made-up",
        epochs=2,
        steps_an_epoch=3,
        model=dict(values),
    )


def page_of(folder: Path) -> tuple[Page, str]:
    """Both forms; they hold the same tables."""
    report = write_study(folder)
    assert (report.html, report.markdown) == (folder / "report.html", folder / "report.md")
    page, text = Page(report.html.read_text()), report.markdown.read_text()
    cells = [" ".join(cell.split()) for cell in page.cells]
    assert [c for c in cells if c] == [unescape(c) for c in markdown_cells(text) if c]
    assert len(set(page.ids)) == len(page.ids)
    return page, text


def table(text: str, caption: str) -> dict[str, list[str]]:
    """The Markdown table under a caption: first cell -> the others."""
    body = text[text.index(caption) :].split("\n\n")[1]
    rows = [[cell.strip() for cell in line[2:-2].split(" | ")] for line in body.splitlines()]
    return {row[0]: row[1:] for row in rows}


@pytest.fixture(scope="module")
def regimes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], str]:
    """Two equal methods and a worse one over three seeds, and what one run was measured on."""
    runs = tmp_path_factory.mktemp("study") / "runs"
    made = [
        text_run(runs, recipe, seed + shift, skill)
        for recipe, skill, shift in (("good", 0.7, 0), ("alike", 0.7, 100), ("bad", 0.3, 200))
        for seed in (1, 2, 3)
    ]
    for run in made[3:]:  # the seeds of the numbers differ, those of the recipes are equal
        path = run / "config.yaml"
        path.write_text(path.read_text().replace(f"seed: {run.name[4:]}", f"seed: {run.name[-1]}", 1))
    for run in made[:3]:
        log_tests(run)
        path = run / "eval/metrics.json"
        document = json.loads(path.read_text())
        hard = {"items": 120, "accuracy": 0.512, "uar": 0.5, "macro_f1": 0.5}
        write_json(path, {**document, "subsets": {"test": {"hard_overlap=1": hard}}})
    write_pruning(made[0])
    write_probes(made[0], [0.4, 0.55, 0.5])
    folder = build_study(runs, [part("regimes", [member(run) for run in made], text="Which is best?")])
    return folder, made, page_of(folder)[1]


def test_scores_are_those_of_the_runs(regimes: tuple[Path, list[Path], str]) -> None:
    _, made, text = regimes
    scores = table(text, "Test part: mean ± sample standard deviation")
    for name, runs in (("good", made[:3]), ("alike", made[3:6]), ("bad", made[6:])):
        tests = [read_run(run).splits["test"] for run in runs]
        accuracy = [test.accuracy for test in tests]
        assert scores[name][:3] == [
            "official",
            "3",
            f"{np.mean(accuracy):.3f} ± {np.std(accuracy, ddof=1):.3f}",
        ]
        low, high = (float(x) for x in scores[name][3].strip("[]").split(", "))
        assert low < np.mean(accuracy) < high
        recalls = table(text, "Recall of each class")[name]
        assert recalls == [f"{np.mean([t.recall[n] for t in tests]):.3f}" for n in range(3)]
    assert table(text, "Accuracy on subsets")["good"] == ["0.512"]
    assert table(text, "Accuracy on subsets")["bad"] == ["–"]
    assert "hard_overlap=1 (120)" in text and "Which is best?" in text
    assert "calls WA" not in text, "texts are ranked by accuracy"


def test_a_planted_difference_stands_and_equal_methods_do_not(
    regimes: tuple[Path, list[Path], str],
) -> None:
    text = regimes[2]
    rows = [line for line in text[text.index("Paired tests") :].splitlines() if line.startswith("| ")]
    verdicts = {tuple(row[2:].split(" | ")[:2]): row.split(" | ")[2] for row in rows[2:5]}
    assert verdicts == {
        ("good", "alike"): "no",
        ("good", "bad"): "yes",
        ("alike", "bad"): "yes",
    }
    assert "corrected by Holm over 3 pairs" in text
    assert "good" in text and "is better than bad" in text and "do not differ beyond chance" in text
    assert "2 of 3 pairs" in text


def test_epochs_removed_heads_and_probes(regimes: tuple[Path, list[Path], str]) -> None:
    _, made, text = regimes
    validation = read_run(made[0]).validations
    values = [f"{np.mean([read_run(r).validations[n]['accuracy'] for r in made[:3]]):.3f}" for n in (0, 1)]
    epochs = text[text.index("Accuracy after each epoch") :]
    for line, value in zip(validation, values, strict=True):
        test = f"{float(value) - 0.01:.3f}"
        assert f"| good | {line['epoch']} | {value} | {test} |" in epochs
    heads = text[text.index("heads removed from the trained model") :]
    assert "| – | 0 of 16 | as it is | 1 | 0.700 |" in heads
    # Share, choice, models, mean, lowest and highest of three random draws.
    assert "| 50% | 8 of 16 | at random | 3 | 0.520 | 0.500 | 0.540 |" in heads
    assert "| 50% | 8 of 16 | by importance | 1 | 0.650 | 0.650 | 0.650 | – |" in heads
    # Every layer keeps a head: of 90 % only 12 of 16 go, as at 75 %.
    assert "| 90% | 12 of 16 | by importance | 1 | 0.610 |" in heads
    assert "| 520,000 | 48.0% | 8.00 | 61.0% |" in heads
    assert "cut out give the same logits, up to 2.5e-07" in heads
    assert (
        "with 50% of the heads of good removed and nothing trained again, accuracy goes from .700 to "
        ".650 by importance and to .520 at random (mean of 3 draws); that saves 32.0% of the parameters "
        "and 41.5% of the time of a batch." in text
    )
    assert "layer 1 of 2 is the best for a linear probe (accuracy .550; the last .500)" in text


def test_heads_that_cannot_go_do_not_count_as_removed(tmp_path: Path) -> None:
    analysis = write_pruning(text_run(tmp_path, "one", 1, 0.6))
    points = removed_points([analysis], "importance")
    assert [(share, own[0]["removed_share"]) for share, own in points.items()] == [
        (0.25, 0.25),
        (0.5, 0.5),
        (0.75, 0.75),
        (0.9, 0.75),
    ]


def test_a_model_that_lacked_heads_before_is_told(tmp_path: Path) -> None:
    run = text_run(tmp_path / "runs", "one", 1, 0.6)
    analysis = write_pruning(run)
    analysis["whole"] |= {"removed": 4}
    write_json(run / "eval/pruning.json", analysis)
    text = page_of(build_study(tmp_path / "runs", [part("a", [member(run)])]))[1]
    assert "| – | 4 of 16 | as it is | 1 | 0.700 |" in text


def test_missing_trainings_are_named_with_their_reason(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    good = text_run(runs, "good", 1, 0.7)
    other = text_run(runs, "good", 2, 0.7)
    gone = [{**member(runs / "good" / name), "seed": 9} for name in ("failed", "waiting")]
    members = [member(good), member(other, signature="0123"), *gone]
    folder = build_study(runs, [part("one", members), part("two", [member(good)])])
    failed = {"time": "now", "code": 1, "words": "a line\nno room on <disk>"}
    write_json(folder / "outcomes.json", {"good/failed": failed})
    report = write_study(folder, tmp_path / "out", ["x (runs/good/waiting) is new"])
    text = report.markdown.read_text()
    assert report.html == tmp_path / "out/report.html" and len(report.left_out) == 3
    missing = text[text.index("## Missing trainings") :]
    assert "failed: no room on &lt;disk>" in missing and "is new" in missing
    assert "its folder holds a run with other settings" in missing
    assert "1 of 4 trainings on made-up" in text
    (good / "summary.json").unlink()
    with pytest.raises(InputError, match="no training has finished yet"):
        write_study(folder)
    (folder / "study.json").write_text("{}")
    with pytest.raises(InputError, match=r"study\.json: damaged"):
        write_study(folder)
    with pytest.raises(InputError, match="no study's folder"):
        write_study(runs)


def test_a_curve_over_a_field(tmp_path: Path) -> None:
    runs, members = tmp_path / "runs", []
    for layers, skill in ((0, 0.75), (2, 0.745), (4, 0.2)):
        run = text_run(runs, "freeze", 1, skill, f"n{layers}", regime=RegimeConfig("freeze_first", layers))
        write_json(
            run / "eval/parameters.json",
            {"trainable": 1000 - layers, "frozen": layers, "total": 1000},
        )
        members.append(member(run, {"model.regime.layers": layers}))
    folder = build_study(runs, [part("freezing", members, curve="model.regime.layers")])
    page, text = page_of(folder)
    rows = table(text, "Test accuracy and costs over layers")
    for n, layers in enumerate((0, 2, 4)):
        run_ = read_run(runs / "freeze" / f"n{layers}")
        assert rows[str(layers)][2] == f"{run_.splits['test'].accuracy:.3f}", n
        assert rows[str(layers)][-1] == f"{1000 - layers:,}"
    assert "against layers 0, accuracy is worse at 4; no different beyond chance at 2" in text
    assert "layers 4" in page.cells


def folds(runs: Path, recipe: str, skill: float, seed: int = 0, overlap: int = 0) -> list[Path]:
    return [
        build_run(
            runs,
            task="emotion",
            recipe=recipe,
            corpus="voices",
            split=f"speaker3-fold{fold}",
            seed=10 * fold + seed,
            skill=skill,
            supports=SPEECH,
            overlap=overlap,
            epochs=1,
            steps_an_epoch=2,
            name=f"fold{fold}",
            keys=[f"{fold}-{n:02d}" for n in range(50)],
        )
        for fold in (1, 2, 3)
    ]


def one_seed(made: Sequence[Path]) -> list[dict[str, object]]:
    return [
        {
            **member(run, {"data.split": run.name}),
            "seed": 0,
            "varied": {"data.split": f"speaker3-{run.name}", "model.head": "mlp"},
        }
        for run in made
    ]


def test_folds_are_pooled_and_noise_is_told(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    made = [folds(runs, "first", 0.8), folds(runs, "second", 0.3, seed=1)]
    for run in made[0]:
        write_noise(run, EMOTIONS, 0.7, 0.4)
    leaky = build_run(
        runs,
        task="emotion",
        recipe="reference",
        corpus="voices",
        split="reference",
        supports=SPEECH,
        skill=0.95,
        overlap=5,
        epochs=1,
        steps_an_epoch=2,
    )
    about = json.loads((leaky / "data.json").read_text())
    write_json(leaky / "data.json", {**about, "speakers": {"train": 9, "test": 6}})
    members = [*one_seed(made[0]), *one_seed(made[1]), member(leaky)]
    folder = build_study(runs, [part("heads", members)])
    _, text = page_of(folder)
    pooled = [read_predictions(run / "eval/predictions-test.csv") for run in made[0]]
    right = np.concatenate([one.predicted == one.truth for one in pooled])
    truth = np.concatenate([one.truth for one in pooled])
    uar = np.mean([right[truth == label].mean() for label in range(6)])
    row = table(text, "Test part: mean ± sample standard deviation")[
        "first, head with a hidden layer, speaker3"
    ]
    assert row[0] == "speaker3, 3 folds pooled" and row[2] == f"{right.mean():.3f}"
    assert row[4] == f"{uar:.3f}"
    # The leaky run is the best of all, but is neither ranked nor tested with the others.
    assert "first, head with a hidden layer, speaker3 has the highest UAR on speaker3, 3 folds pooled" in text
    assert "corrected by Holm over 1 pair;" in text
    assert "reference (speakers shared)" in text and "5 of 6: LEAKY" in text
    assert "UAR, the unweighted average recall, is" in text and "calls WA" in text
    assert "The same speakers are in train and test (reference)" in text
    moved = "moves the UAR of first, head with a hidden layer, speaker3 from .700 to .400"
    assert f"{moved} and changes 25% of its answers, mean over folds." in text
    assert "(where there are folds, mean over folds, not pooled as the scores above)" in text
    assert "speakers of the test samples are not known" in text


def test_a_seed_without_all_folds_is_left_out_and_told(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    made = folds(runs, "first", 0.8)
    members = one_seed(made)
    other = build_run(
        runs,
        task="emotion",
        recipe="first",
        corpus="voices",
        split="speaker3-fold1",
        supports=SPEECH,
        epochs=1,
        steps_an_epoch=2,
        name="alone",
    )
    members.append({**members[0], **{"run": "first/alone", "signature": "alone", "seed": 7}})
    member(other)
    folder = build_study(runs, [part("heads", members)])
    assert "seed 7 left out, it lacks folds" in page_of(folder)[1]


def test_continued_beside_independent(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    full = text_run(runs, "full", 1, 0.7)
    frozen = text_run(runs, "freeze", 1, 0.3, "plain")
    start = str(full / "model")
    continued = text_run(runs, "freeze", 1, 0.75, "continued", pretrained=start)
    parts = [
        part("regimes", [member(full), member(frozen)]),
        part("sequential", [member(continued)], start_from={"part": "regimes", "recipe": "full"}),
    ]
    text = page_of(build_study(runs, parts))[1]
    beside = text[text.index("### Beside independent trainings") :]
    assert "this training of freeze, continued (" in beside
    assert "is better than this training of freeze, independent" in beside
    assert "a run of full" in text


def test_only_a_like_training_is_the_independent_one(tmp_path: Path) -> None:
    """Other epochs, other shards, other ways to choose heads make another training; what was measured
    afterwards does not."""
    runs = tmp_path / "runs"
    full = text_run(runs, "full", 1, 0.7)
    heads = RegimeConfig("heads_removed", heads_share=0.3, choose="importance")
    rounds = RegimeConfig("heads_removed", heads_share=0.3, choose="importance", round_share=0.1)
    random = RegimeConfig("heads_removed", heads_share=0.3)
    skills = {"random": 0.3, "rounds": 0.35, "long": 0.4, "shards": 0.45, "like": 0.5}
    regimes_ = {"random": random, "rounds": rounds}
    made = {
        name: text_run(runs, "heads", 1, skill, name, regime=regimes_.get(name, heads))
        for name, skill in skills.items()
    }
    for name, old, new in (
        ("long", "epochs: 5", "epochs: 20"),
        ("shards", "shards/corpus", "shards/other"),
        ("like", "probes: 'off'", "probes: end"),
    ):
        path = made[name] / "config.yaml"
        assert path.read_text().count(old) == 1, name
        path.write_text(path.read_text().replace(old, new))
    start = str(full / "model")
    continued = text_run(runs, "heads", 1, 0.75, "continued", regime=heads, pretrained=start)
    last = part("sequential", [member(continued)], start_from={"part": "a", "recipe": "full"})

    def page(names: Sequence[str]) -> str:
        parts = [part(f"p{n}", [member(made[name])]) for n, name in enumerate(names)]
        folder = build_study(tmp_path / "-".join(names) / "runs", [*parts, last])
        for recipe in ("heads", "full"):
            (folder.parents[1] / recipe).symlink_to(runs / recipe)
        return page_of(folder)[1]

    assert "Beside independent trainings" not in page(list(skills)[:-1])
    alike = read_run(made["like"]).splits["test"].accuracy
    assert f"heads, independent ({short(alike)})" in page(list(skills))


def test_one_seed_speaks_of_a_training(tmp_path: Path, regimes: tuple[Path, list[Path], str]) -> None:
    assert "this training" not in regimes[2]
    runs = tmp_path / "runs"
    made = [text_run(runs, name, 1, skill) for name, skill in (("good", 0.8), ("bad", 0.2))]
    folder = build_study(runs, [part("two", [member(run) for run in made])])
    text = page_of(folder)[1]
    assert "this training of good (" in text and "is better than this training of bad (" in text
    assert "The accuracy of this training is better beyond chance than that of this training of bad" in text
    assert "Where a method has one seed, what is said of it holds for this training" in text


def test_runs_beside_the_reference_are_those_that_did_the_same(tmp_path: Path) -> None:
    runs = tmp_path / "runs"

    def run(name: str, **values: Any) -> Path:
        return build_run(runs, name=name, epochs=1, **values)

    full, long, other = run("full"), run("long", recipe_epochs=20), run("other", skill=0.2)
    again = run("again", model={"pretrained": "runs/parsbert_full/full/model"})
    parts = [
        part("regimes", [member(full)]),
        part("epochs", [member(long)]),
        part("steps", [member(full, {"data.shards": "a"}), member(other, {"data.shards": "b"})]),
        part("sequential", [member(again)], start_from={"part": "regimes", "recipe": "x"}),
    ]
    text = page_of(build_study(runs, parts))[1]
    beside = text[text.index("## Beside the reference") : text.index("## Time, hardware")]
    accuracy = read_run(full).splits["test"].accuracy
    assert f"| 1 full fine-tuning | 0.7590 | {accuracy:.4f} |" in beside
    assert "parsbert_full/full" in beside
    assert not any(f"parsbert_full/{name} " in beside for name in ("long", "other", "again"))
    folder = build_study(tmp_path / "small" / "runs", [part("only", [member(long)])])
    (folder.parents[1] / "parsbert_full").symlink_to(runs / "parsbert_full")
    assert "farstail, but 20 epochs, not 5" in page_of(folder)[1], "better than nothing beside it"


def test_other_test_samples_are_not_compared(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    made = [text_run(runs, name, 1, 0.6) for name in ("one", "two")]
    table_ = read_predictions(made[1] / "eval/predictions-test.csv")
    keys = [f"x{key}" for key in table_.keys]
    write_test_predictions(made[1], NLI, table_.truth, table_.predicted, keys)
    study = read_study(build_study(runs, [part("a", [member(run) for run in made])]))
    methods = methods_of(study.parts[0], read_members(study).found)
    assert len(methods) == 2 and pairs_of(methods, None)[0] == []
    assert "so none are compared" in page_of(study.folder)[1]
    (made[1] / "eval/predictions-test.csv").unlink()
    assert "so none are compared" in page_of(study.folder)[1]


def test_same_study_gives_the_same_bytes_and_escapes(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    parts = [part("a", [member(text_run(runs, "one", 1, 0.6))], title="<b>", text="<script>x</script>")]
    folder = build_study(runs, parts, title="<i>", method="a & b", grid="<u>")
    first = write_study(folder).html.read_bytes()
    assert write_study(folder).html.read_bytes() == first
    assert b"<script" not in first and b"<i>" not in first and b"<u>" not in first


def test_persian_words_stand_in_english_lines(tmp_path: Path) -> None:
    """Numbers beside them stay where they are, and what is Persian throughout runs from the right."""
    runs = tmp_path / "runs"
    run = build_run(
        runs,
        recipe="one",
        labels=("yes", "نه"),
        corpus="made-up",
        epochs=2,
        steps_an_epoch=3,
        supports={"train": [9, 9], "validation": [4, 4], "test": [30, 4]},
    )
    path = run / "eval/metrics.json"
    subset = {"items": 120, "accuracy": 0.512, "uar": 0.5, "macro_f1": 0.5}
    document = json.loads(path.read_text())
    write_json(path, {**document, "subsets": {"test": {"kind=فارسی": subset}}})
    write_probes(run, [0.4, 0.5])
    title = "پنج روش"
    folder = build_study(runs, [part("a", [member(run)], title=title, text="متن")], title=title)
    page, text = page_of(folder)
    assert "yes 30, \u2068نه\u2069 4" in page.cells
    assert "\u2068kind=فارسی\u2069 (120)" in page.cells
    html = (folder / "report.html").read_text()
    assert f"<li>\u2068{title}\u2069: of the layers of one" in html
    for tag, content in (("h1", title), ("p", "متن"), ("h2", f"1. {title}")):
        assert re.search(rf'<{tag}[^>]* dir="auto">{content}</{tag}>', html), tag
    assert "\u2068one" not in text, "what needs no mark gets none"


def test_a_line_that_starts_from_zero_ends_below_the_frame() -> None:
    flat = Series("a", [0, 1, 2], [0.85, 0.845, 0.84])
    (axes,) = panels([Panel("Peak memory, GiB", "layers", (flat,), from_zero=True)]).axes
    low, high = axes.get_ylim()
    assert low == 0 and high > 1.05 * max(flat.y)
    nothing = Series("a", [0, 1], [0.0, 0.0])
    (axes,) = panels([Panel("Milliseconds", "share", (nothing,), from_zero=True)]).axes
    assert axes.get_ylim() == (0, 1)


def test_a_language_model(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run = text_run(runs, "mlm", 1, 0.5)
    path = run / "config.yaml"
    path.write_text(path.read_text().replace("task: nli", "task: mlm"))
    path.write_text(path.read_text().replace("model:\n", "model:\n  mask_share: 0.15\n", 1))
    tokens = {"items": 1234, "loss": 2.0, "accuracy": 0.51, "perplexity": 7.389}
    best = {"epoch": 1, "step": 3, "metric": "loss", "value": 2.0}
    splits = {"validation": tokens, "test": {**tokens, "loss": 2.5}}
    write_json(run / "eval/metrics.json", {"labels": [], "best": best, "splits": splits})
    text = write_report([run]).markdown.read_text()
    assert "| mlm/seed1 | test | 1,234 | 2.500 | 0.510 | 12.18 |" in text
    assert "test perplexity **12.18**" in text and "masked language model" in text
    folder = build_study(runs, [part("encoder", [member(run)])])
    text = page_of(folder)[1]
    assert "| 1. Part encoder | mlm | 1 run | official | test perplexity 12.18 |" in text


def test_damaged_analyses_are_told_in_one_line(tmp_path: Path) -> None:
    run = text_run(tmp_path, "one", 1, 0.6)
    write_json(run / "eval/probes.json", {"weights": "end"})
    with pytest.raises(InputError, match="lacks 'features'"):
        write_report([run])


def test_every_test_of_a_pair_is_counted(tmp_path: Path) -> None:
    """Seven seeds, seven counts: none is left out of the table silently."""
    runs = tmp_path / "runs"
    made = [text_run(runs, name, seed, 0.6) for name in ("one", "two") for seed in range(7)]
    row = table(
        page_of(build_study(runs, [part("seven", [member(run) for run in made])]))[1], "Paired tests on"
    )["one"]
    assert len(row[-2].split()) == len(row[-1].split()) == 7


def test_the_best_by_uar_may_be_worse_in_accuracy(tmp_path: Path) -> None:
    """200 samples of one class and 20 of each other: one run knows the many, one the few."""
    runs, made = tmp_path / "runs", []
    truth = np.repeat(np.arange(6), [200, 20, 20, 20, 20, 20])
    few = np.where((truth == 0) & (np.arange(300) % 2 == 0), 1, truth)
    many = np.where((truth > 0) & (np.arange(300) % 2 == 0), 0, truth)
    for name, predicted in (("few", few), ("many", many)):
        run = build_run(runs, task="emotion", recipe=name, epochs=1, steps_an_epoch=2)
        write_test_predictions(run, EMOTIONS, truth, predicted)
        document = json.loads((run / "eval/metrics.json").read_text())
        metrics = class_metrics(truth, predicted, EMOTIONS, np.ones(300))
        write_json(run / "eval/metrics.json", {**document, "splits": {"test": metrics.as_dict()}})
        made.append(run)
    text = page_of(build_study(runs, [part("two", [member(run) for run in made])]))[1]
    assert (
        "few has the highest UAR (.917). The accuracy of this training is worse beyond chance than that "
        "of this training of many. The interval of its difference in UAR lies above zero beside this "
        "training of many." in text
    )
    assert "not better beyond chance" not in text and "without a p-value and not corrected" in text


def test_intervals_of_speech_are_over_speakers(tmp_path: Path, speech_shards: Path) -> None:
    runs = tmp_path / "runs"
    made = []
    for name, flipped in (("one", 0), ("two", 3)):
        made.append(build_run(runs, task="emotion", recipe=name, epochs=1, steps_an_epoch=2))
        on_shards(made[-1], speech_shards, "reference", flipped)
    folder = build_study(runs, [part("two", [member(run) for run in made])])
    text = page_of(folder)[1]
    assert "intervals resample speakers" in text and "clips of one speaker are not" in text
    write_json(
        made[0] / "data.json",
        {
            **json.loads((made[0] / "data.json").read_text()),
            "digest": "of other shards",
        },
    )
    assert "intervals resample samples" in page_of(folder)[1]
