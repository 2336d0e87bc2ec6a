"""Reports say what the run directories hold, in both forms alike, and refuse damaged runs."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from configs.errors import InputError
from configs.models import RegimeConfig
from tests.trainers.run_directory import EMOTIONS, build_run, write_json
from trainers import reporting
from trainers.metrics import class_metrics
from trainers.report import write_report
from trainers.reporting.runs.plots import thinned
from trainers.reporting.runs.read import FILES, read_run
from trainers.reporting.runs.reference import REGIMES, nli_confusion

PERSIAN = ("خشم", "ترس", "خوشحالی", "بی‌طرف", "غم", "شگفتی")
VOID = {"meta", "br", "link", "img"}


class Page(html.parser.HTMLParser):
    """Collects a page's table cells and checks that tags close and nothing is loaded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        assert tag not in ("script", "link", "iframe", "object")
        for name in ("src", "href", "xlink:href"):
            assert (values.get(name) or "#").startswith("#"), "a page must load nothing"
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def markdown_cells(text: str) -> list[str]:
    """All cells of all tables, rules left out."""
    rows = [line for line in text.splitlines() if line.startswith("|") and "--" not in line]
    return [cell.strip().replace("\\|", "|") for row in rows for cell in row[2:-2].split(" | ")]


@pytest.fixture(scope="module")
def regimes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One run per regime, two more seeds of the first, and one on synthetic data."""
    folder = tmp_path_factory.mktemp("runs")
    kinds = {
        "full": RegimeConfig(),
        "freeze9": RegimeConfig("freeze_first", layers=9),
        "embeddings_last": RegimeConfig("embeddings_last"),
        "intermediate": RegimeConfig("intermediate", layers=6),
        "heads": RegimeConfig("heads_removed", heads_share=0.3),
    }
    runs = [build_run(folder, recipe=f"bert_{n}", regime=k, epochs=2) for n, k in kinds.items()]
    runs += [build_run(folder, recipe="bert_full", seed=s, epochs=2) for s in (1, 2)]
    runs.append(build_run(folder, recipe="demo", corpus="synthetic-farstail", synthetic=True, epochs=2))
    return runs


@pytest.fixture(scope="module")
def comparison(regimes: list[Path]) -> tuple[Page, str]:
    report = write_report(regimes)
    assert report.html == regimes[0].parents[1] / "comparison.html" and report.left_out == ()
    return Page(report.html.read_text()), report.markdown.read_text()


def test_one_run(tmp_path: Path) -> None:
    run = build_run(
        tmp_path,
        task="emotion",
        recipe="hubert",
        corpus="my-corpus",
        split="speaker",
        epochs=2,
        labels=PERSIAN,
        supports={"train": [9] * 6, "validation": [4, 0, 4, 4, 4, 4], "test": [30, 4, 9, 40, 7, 8]},
        overlap=3,
    )
    report = write_report([run])
    assert (report.html, report.markdown) == (run / "report.html", run / "report.md")
    page, text = Page(report.html.read_text()), report.markdown.read_text()
    metrics = read_run(run).splits["test"]
    facts = (
        f"{metrics.uar:.3f}",
        f"{metrics.f1[3]:.3f}",
        "weighted avg",
        "110,075",
        "4 min 05 s",
        "2 CPU cores, 24 GiB",
        "1.50 GiB",
        "12.0% of what the model reads",
    )
    for cell in (*PERSIAN, *facts):
        assert any(cell in found for found in page.cells), cell
        assert any(cell in found for found in markdown_cells(text)), cell
    for sentence in (
        "sokhan train configs/hubert.yaml --seed 0",
        "share speakers (train/validation 3, train/test 3)",
        "validation part has no sample of ترس",
        f"“بی‌طرف” would score {40 / 98:.3f} accuracy and {1 / 6:.3f} UAR",
    ):
        assert sentence in page.text and sentence in text
    assert "SYNTHETIC" not in page.text
    assert page.ids and len(set(page.ids)) == len(page.ids)


def test_html_and_markdown_hold_the_same_tables(comparison: tuple[Page, str]) -> None:
    page, text = comparison
    spaces = re.compile(r"\s+")
    ours = [spaces.sub(" ", cell.strip()) for cell in page.cells]
    # An empty header row is left out of HTML; order differs nowhere else.
    assert [c for c in ours if c] == [c for c in markdown_cells(text) if c]
    assert len(ours) > 500


def test_synthetic_runs_are_marked_and_not_compared(comparison: tuple[Page, str]) -> None:
    page, text = comparison
    for form in (page.text, text):
        assert "SYNTHETIC DATA" in form
        assert "demo/seed0 (synthetic corpus)" in form
        assert "probably continued from regime 1's weights" in form
        assert "no learning rate" in form
    assert "not comparable: synthetic corpus" in page.cells
    assert page.text.count("not comparable: ") == 1


def test_reference_rows(comparison: tuple[Page, str]) -> None:
    page, _ = comparison
    for regime in REGIMES:
        assert f"{regime.accuracy:.4f}" in page.cells
    assert "354 153 12 · 88 381 41 · 6 150 379" in page.cells


def test_reference_numbers_agree_with_their_own_confusion_matrices() -> None:
    for regime in REGIMES:
        if regime.confusion is None:
            continue
        truth = np.repeat(np.repeat(range(3), 3), np.ravel(regime.confusion))
        predicted = np.repeat(np.tile(range(3), 3), np.ravel(regime.confusion))
        metrics = class_metrics(truth, predicted, ("e", "c", "n"), np.zeros(len(truth)))
        assert metrics.support == (519, 510, 535)
        assert metrics.accuracy == pytest.approx(regime.accuracy, abs=6e-5)
        assert metrics.macro_f1 == pytest.approx(regime.macro_f1, abs=6e-5)
        assert metrics.weighted_f1 == pytest.approx(regime.weighted_f1, abs=6e-5)


def test_confusion_is_put_in_the_reference_order() -> None:
    truth, predicted = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 1, 2, 0])
    for labels in (("c", "e", "n"), ("contradiction", "entailment", "neutral")):
        metrics = class_metrics(truth, predicted, labels, np.ones(6))
        assert nli_confusion(metrics) == "2 0 1 · 1 1 0 · 0 1 0"
    metrics = class_metrics(truth, predicted, ("x", "y", "z"), np.ones(6))
    assert nli_confusion(metrics) == "1 1 0 · 0 2 1 · 1 0 0 (x, y, z)"


def test_mean_and_spread_over_seeds(regimes: list[Path], comparison: tuple[Page, str]) -> None:
    scores = [read_run(run).splits["test"].accuracy for run in (regimes[0], *regimes[5:7])]
    assert "0, 1, 2" in comparison[0].cells
    assert f"{np.mean(scores):.3f} ± {np.std(scores, ddof=1):.3f}" in comparison[0].cells


def test_runs_with_another_setting_are_not_pooled(tmp_path: Path) -> None:
    runs = [build_run(tmp_path, seed=seed, epochs=1) for seed in (0, 1)]
    path = runs[1] / "config.yaml"
    path.write_text(path.read_text().replace("lr: 1.0e-05", "lr: 2.0e-05"))
    assert "Over seeds" not in write_report(runs).markdown.read_text()
    path.write_text(path.read_text().replace("lr: 2.0e-05", "lr: 1.0e-05"))
    assert "Over seeds" in write_report(runs).markdown.read_text()


def test_hubert_beside_the_reference(tmp_path: Path) -> None:
    runs = [
        build_run(
            tmp_path,
            task="emotion",
            recipe="reference",
            corpus="shemo",
            split="reference",
            labels=("A", "F", "H", "N", "S", "W"),
            epochs=1,
        ),
        build_run(
            tmp_path,
            task="emotion",
            recipe="speaker",
            corpus="shemo",
            split="speaker",
            labels=EMOTIONS,
            epochs=1,
        ),
    ]
    text = write_report(runs, tmp_path / "out").markdown.read_text()
    f1 = read_run(runs[0]).splits["test"].f1
    in_order = " | ".join(f"{f1[n]:.3f}" for n in (0, 3, 4, 1, 5, 2))  # A N S F W H
    assert f"| reference/seed0 | shemo | {in_order} |" in text
    assert "| reference report | shemo | 0.95 | 0.79 | 0.55 | 0.00 | 0.59 | 0.47 |" in text
    assert "speaker/seed0 | not comparable: split speaker |" in text


def test_unfinished_runs_are_left_out_and_named(tmp_path: Path) -> None:
    good, bad = (build_run(tmp_path, seed=seed, epochs=1) for seed in (0, 1))
    (bad / "summary.json").unlink()
    report = write_report([good, bad, good], tmp_path / "out")
    assert report.html == tmp_path / "out/comparison.html"
    assert len(report.left_out) == 1 and "has not finished (no summary.json)" in report.left_out[0]
    assert report.left_out[0] in report.markdown.read_text()
    with pytest.raises(InputError, match="seed1: the run has not finished"):
        write_report([bad])
    with pytest.raises(InputError, match="none of 2 runs can be reported"):
        write_report([bad, tmp_path / "nothing"])
    assert not (bad / "report.html").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def without(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        values = json.loads(path.read_text())
        del values[name]
        write_json(path, values)

    return change


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        *((name, Path.unlink, f"without {name}") for name in FILES if name != "config.yaml"),
        ("config.yaml", Path.unlink, "not a run directory"),
        ("metrics.jsonl", cut, r"metrics.jsonl: line \d+ is damaged"),
        ("eval/metrics.json", cut, r"eval/metrics.json: damaged"),
        ("eval/metrics.json", without("splits"), "lacks 'splits'"),
        ("data.json", without("corpus"), "lacks 'corpus'"),
        ("data.json", without("counts"), "lacks 'counts'"),
        ("config.yaml", lambda path: path.write_text("- a\n"), "expected a mapping"),
        ("config.yaml", lambda path: path.write_text("a: [\n"), "damaged"),
        ("summary.json", lambda path: path.write_text('{"finished": false}'), "has not finished"),
    ],
)
def test_damage_is_one_line(tmp_path: Path, file: str, damage: Callable[[Path], None], message: str) -> None:
    run = build_run(tmp_path, epochs=1)
    damage(run / file)
    with pytest.raises(InputError, match=message) as caught:
        write_report([run])
    assert "\n" not in str(caught.value) and str(run) in str(caught.value)


def test_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    run = build_run(tmp_path, epochs=1)
    first = write_report([run]).html.read_bytes()
    assert write_report([run]).html.read_bytes() == first


def test_text_of_the_corpus_cannot_break_the_page(tmp_path: Path) -> None:
    run = build_run(tmp_path, labels=("<b>", "a|b", "c&d"), corpus="<script>", epochs=1)
    report = write_report([run])
    page = Page(report.html.read_text())
    assert {"<b>", "a|b", "c&d", "<script>"} <= set(page.cells)
    assert "<script>" not in report.markdown.read_text()
    shutil.rmtree(run)
    with pytest.raises(InputError, match="no such run directory"):
        write_report([run])


def test_long_curves_are_averaged() -> None:
    x, y = thinned(range(1, 1001), [float(n) for n in range(1000)], 10)
    assert x.tolist() == [50.5 + 100 * n for n in range(10)]
    assert y.tolist() == [49.5 + 100 * n for n in range(10)]
    assert thinned([1, 2], [0.5, 0.25])[1].tolist() == [0.5, 0.25]


def test_the_chart_beside_the_reference_holds_its_settings_alone(tmp_path: Path) -> None:
    values = {"recipe_epochs": 20}, {"model": {"pretrained": "gone/full/seed0/model"}}, {}
    runs = [
        build_run(tmp_path, name=f"run{n}", seed=n, epochs=1, **own)  # type: ignore[arg-type]
        for n, own in enumerate(values)
    ]
    text = write_report(runs).markdown.read_text()
    alike = read_run(runs[2]).splits["test"].accuracy
    assert f"| 1 full fine-tuning | 0.7590 | {alike:.4f} |" in text
    assert "| farstail, but 20 epochs, not 5 |" in text
    assert "| farstail, but it goes on from a run of full |" in text
    assert "no run here trains as the reference" not in write_report(runs).html.read_text()
    text = write_report(runs[:1], tmp_path / "alone").markdown.read_text()
    alone = read_run(runs[0]).splits["test"].accuracy
    assert f"| 1 full fine-tuning | 0.7590 | {alone:.4f} |" in text, "better than no chart"
    for pretrained, told in ((None, "fresh weights"), ("models/tiny", "models/tiny")):
        own = build_run(tmp_path, name=told[:5], epochs=1, model={"pretrained": pretrained})
        report = write_report([own, runs[1]], tmp_path / told[:5])
        assert f"| farstail, but it starts from {told}, not ParsBERT |" in report.markdown.read_text()
        assert "no run here trains as the reference does" in report.html.read_text()


@pytest.mark.parametrize(("task", "corpus"), [("nli", "farstail"), ("emotion", "shemo")])
def test_other_corpora_have_no_reference(tmp_path: Path, task: str, corpus: str) -> None:
    own, reference, synthetic = (
        build_run(tmp_path, task=task, name=name, corpus=name, epochs=1, synthetic=name == "made")
        for name in ("mine", corpus, "made")
    )
    for runs, told in (([own], False), ([own, reference], True), ([synthetic], True)):
        text = write_report(runs, tmp_path / "out").markdown.read_text()
        assert ("## Beside the reference" in text) == told
        assert "trained for | " not in text or " steps in 1 epoch |" in text


def test_other_shards_are_told_apart(tmp_path: Path) -> None:
    runs = [
        build_run(tmp_path, name=name, epochs=1, data={"shards": f"shards/{name}"}) for name in ("one", "two")
    ]
    text = write_report(runs).markdown.read_text()
    assert "data.shards shards/one" in text and "data.shards shards/two" in text


def test_a_start_is_named_by_the_form_of_its_path(tmp_path: Path) -> None:
    starts = {
        "runs/full/seed0/model": "a run of full",
        "models/mine": "models/mine",
        "some-lab/model": "some-lab/model",
        None: "fresh weights",
    }
    for n, (pretrained, told) in enumerate(starts.items()):
        run = read_run(build_run(tmp_path, name=f"{n}", epochs=1, model={"pretrained": pretrained}))
        assert run.start == told and run.continued == told.startswith("a run of")


def test_imports_of_the_pages_go_one_way() -> None:
    folder = Path(reporting.__path__[0])
    may = {
        "page": {"page"},
        "runs": {"page", "runs"},
        "statistics": {"statistics"},
        "study": {"page", "runs", "statistics", "study"},
    }
    assert {path.name for path in folder.iterdir() if (path / "__init__.py").is_file()} == set(may)
    for name, allowed in may.items():
        for path in (folder / name).glob("*.py"):
            found = set(re.findall(r"from trainers\.reporting\.(\w+)", path.read_text()))
            assert found <= allowed, path


def test_a_cut_down_corpus_is_not_put_beside_the_reference(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    data = json.loads((run / "data.json").read_text(encoding="utf-8"))
    data["counts"]["test"]["e"] -= 100
    (run / "data.json").write_text(json.dumps(data), encoding="utf-8")
    report = write_report([run])
    assert "test part of 1464 samples, not 1564" in report.markdown.read_text(encoding="utf-8")
