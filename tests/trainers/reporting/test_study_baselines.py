"""Baselines on the page of a study: of its own shards and split, kept, and made again where they must."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np

from data_shards.corpora.synthetic_text import synthetic_farstail
from data_shards.index import open_index
from data_shards.pack import PackSettings, pack
from data_shards.protocols import official_split
from data_shards.splits import load_split, save_split
from data_shards.text import TextSteps
from tests.trainers.reporting.study_directory import build_study, member, on_shards, part
from tests.trainers.reporting.test_study import page_of, table, text_run
from tests.trainers.run_directory import write_json
from trainers.baselines.results import VERSION
from trainers.reporting.runs.read import read_run
from trainers.reporting.statistics.hypothesis_tests import short
from trainers.reporting.study import significance
from trainers.reporting.study.baselines import find_baselines
from trainers.reporting.study.file import read_members, read_study
from trainers.reporting.study.grouping import methods_of
from trainers.reporting.study.sentences import rival_of


def test_baselines_stand_beside_the_best_method(tmp_path: Path, text_shards: Path) -> None:
    runs = tmp_path / "runs"
    run = text_run(runs, "good", 1, 0.7)
    on_shards(run, text_shards, "official", flipped=1)
    folder = build_study(runs, [part("only", [member(run)])], baselines=True)
    _, text = page_of(folder)
    (summary,) = (runs / "baselines").glob("*/baselines.json")
    document = json.loads(summary.read_text())
    rows = table(text, "Test part of")
    recalls = table(text, "Recall of each class, test part of")
    for entry in document["baselines"]:
        test = entry["splits"]["test"]
        assert recalls[entry["title"]] == [f"{recall:.3f}" for recall in test["recall"]]
        assert rows[entry["title"]][1] == f"{entry['splits']['test']['accuracy']:.3f}"
        assert f"this training of {entry['title']}" not in text, "a baseline has no seeds"
    assert len(rows) == len(document["baselines"]) + 2  # header and rule
    assert "beside the best baseline, this training of good (" in text and "is better than" in text
    written = summary.stat().st_mtime_ns
    page_of(folder)
    assert summary.stat().st_mtime_ns == written, "what is there is not computed again"
    write_json(run / "data.json", {**json.loads((run / "data.json").read_text()), "split": "gone"})
    assert "no baselines of" in page_of(folder)[1]


def test_a_baseline_is_held_beside_all_seeds(tmp_path: Path, text_shards: Path) -> None:
    """Seed 0 is the worst by far; the sentence tells the same mean as the table."""
    runs, members, accuracies = tmp_path / "runs", [], []
    for seed, flipped in ((0, 24), (1, 2), (2, 1)):
        run = text_run(runs, "good", seed, 0.7)
        on_shards(run, text_shards, "official", flipped)
        members.append(member(run))
        accuracies.append(read_run(run).splits["test"].accuracy)
    assert accuracies[0] < accuracies[1] - 0.2
    study = read_study(build_study(runs, [part("only", members)], baselines=True))
    text = page_of(study.folder)[1]
    (method,) = methods_of(study.parts[0], read_members(study).found)
    found, _ = find_baselines([method], runs / "baselines")
    rival = rival_of(method, found, "accuracy")
    assert rival is not None
    sentence = next(line for line in text.splitlines() if "beside the best baseline" in line)
    assert f"good ({short(mean(accuracies))})" in sentence
    assert f"{rival.method.name} ({short(rival.method.values('accuracy')[0])})" in sentence
    # The best of several was picked, so all of them count.
    pairs = significance.tested([(method, one.method) for one in found])
    pair = next(pair for pair in pairs if pair.second is rival.method)
    assert len(pair.result.tests) == 3 and pair.compared == (3, 1) and len(pairs) > 1
    assert f"after Holm's correction over its {len(pairs)} baselines." in sentence
    assert f"p {significance.p_text(pair.result.adjusted_p)} after" in sentence.replace("p = ", "p ")


def test_baselines_of_other_packings_stand_apart(tmp_path: Path, text_shards: Path) -> None:
    """Packings of one corpus have the same keys and labels, and other texts."""
    other = tmp_path / "shards-other"
    corpus = synthetic_farstail(180, seed=1, steps=TextSteps(True, False, False))
    pack(corpus, other, PackSettings(processes=1))
    save_split(open_index(other), official_split(open_index(other)))
    runs, members = tmp_path / "runs", []
    for name, shards in (("first", text_shards), ("second", other)):
        run = text_run(runs, "good", 1, 0.7, name)
        on_shards(run, shards, "official", flipped=1)
        members.append(member(run, {"data.shards": str(shards)}))
    study = read_study(build_study(runs, [part("steps", members)], baselines=True))
    text = page_of(study.folder)[1]
    corpus_name = open_index(other).manifest.corpus
    for shards in (text_shards, other):
        assert f"Test part of {corpus_name} ({shards.name}), official;" in text
    methods = methods_of(study.parts[0], read_members(study).found)
    found, problems = find_baselines(methods, runs / "baselines")
    assert not problems and len({one.digest for one in found}) == 2
    for method in methods:
        rival = rival_of(method, found, "accuracy")
        assert rival is not None and rival.digest == method.first.data["digest"]


def test_stale_and_damaged_baselines_are_computed_again(tmp_path: Path, text_shards: Path) -> None:
    shards = tmp_path / "shards"
    shutil.copytree(text_shards, shards)
    runs = tmp_path / "runs"
    run = text_run(runs, "good", 1, 0.7)
    on_shards(run, shards, "official", flipped=1)
    folder = build_study(runs, [part("only", [member(run)])], baselines=True)
    first = page_of(folder)[1]
    (summary,) = (runs / "baselines").glob("*/baselines.json")
    whole = summary.read_text()

    def without_what(text: str) -> str:
        document = json.loads(text)
        del document["baselines"][1]["what"]
        return json.dumps(document)

    older = whole.replace(f'"version": {VERSION}', f'"version": {VERSION - 1}')
    for damaged in (
        older,
        without_what(whole),
        whole.replace('"splits"', '"parts"'),
        "[]",
        whole[:99],
    ):
        summary.write_text(damaged)
        assert page_of(folder)[1] == first
        document = json.loads(summary.read_text())
        assert document["version"] == VERSION
        assert [one["what"] for one in document["baselines"]]
    split = load_split(open_index(shards), "official")
    codes = np.array(split.codes)
    codes[split.rows("train")[:20]] = codes[split.rows("validation")[0]]
    save_split(open_index(shards), replace(split, codes=codes))
    before = json.loads(summary.read_text())["parts"]
    page_of(folder)
    after = json.loads(summary.read_text())["parts"]
    assert after["test"] == before["test"] and after["train"] != before["train"]
    codes[split.rows("test")[0]] = codes[split.rows("train")[30]]
    save_split(open_index(shards), replace(split, codes=codes))
    assert "the split has been made anew since the training" in page_of(folder)[1]
    shutil.rmtree(shards)
    assert "no baselines of" in page_of(folder)[1]
