"""Baselines on generated and real corpora: what they may see, what they find, what they write."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio

from configs.errors import InputError
from data_shards.corpora.synthetic_text import synthetic_farstail
from data_shards.index import open_index
from data_shards.pack import PackSettings, pack
from data_shards.protocols import official_split
from data_shards.sample import SAMPLE_RATE
from data_shards.splits import Split, load_split, save_split
from data_shards.text import TextSteps
from launch.cli import main
from tests.trainers.reporting.study_directory import build_study, member, on_shards
from tests.trainers.reporting.study_directory import part as study_part
from tests.trainers.reporting.test_study import page_of, text_run
from trainers.baselines import functionals as module
from trainers.baselines import results
from trainers.baselines.baseline import Baseline, LeftOut, Parts, majority, parts_of
from trainers.baselines.functionals import FEATURES, functionals, functionals_of
from trainers.baselines.linear import fit_logistic, standardised
from trainers.baselines.results import run_baselines
from trainers.baselines.speech import speaker_majority
from trainers.baselines.text import OVERLAP_FEATURES, overlap_features, text_baselines, words_of
from trainers.metrics import SplitMetrics, class_metrics
from trainers.predictions import read_predictions


def parts(train: list[int], validation: list[int], test: list[int], classes: int) -> Parts:
    """Rows count through train, validation and test."""
    codes = {"train": train, "validation": validation, "test": test}
    rows, start = {}, 0
    for part, own in codes.items():
        rows[part] = np.arange(start, start + len(own))
        start += len(own)
    return Parts(rows, {part: np.array(own) for part, own in codes.items()}, classes)


def guesses(baseline: Baseline, part: str = "test") -> list[int]:
    found: list[int] = baseline.probabilities[part].argmax(1).tolist()
    return found


def test_majority() -> None:
    found = majority(parts([0, 2, 2, 1, 2], [0], [0, 1, 2], 3))
    assert guesses(found) == [2, 2, 2]
    assert found.probabilities["test"][0].tolist() == [2 / 8, 2 / 8, 4 / 8]


def test_speaker_majority() -> None:
    speakers = np.array([5, 5, 5, 3, 3, 2, 2, 2, -1, 5, 3, 2, 9, -1])
    own = parts([0, 0, 1, 1, 2, 2, 2, 2, 0], [0], [0, 1, 1, 2], 3)
    # Speaker 5 says 0, 3 ties between 1 and 2 (2 is the commoner one of all), 2 says 2, 9 is unheard.
    found = speaker_majority(speakers, own)
    assert guesses(found, "validation") == [0]
    assert guesses(found) == [2, 2, 2, 2]
    assert found.settings["test_items_of_heard_speakers"] == 0.5
    for shares in found.probabilities.values():
        assert shares.sum(1) == pytest.approx(1.0)
        assert shares.min() > 0


def test_words_keep_the_zero_width_non_joiner() -> None:
    assert words_of("او نمی‌رود، (AB_12)؟") == ["او", "نمی\u200cرود", "ab", "12"]


def test_overlap_features_by_hand() -> None:
    premise, hypothesis = "علی در سال ۱۳۴۵ به تهران رفت", "علی به تهران نمی‌رود ۱۳"
    row = dict(zip(OVERLAP_FEATURES, overlap_features([(premise, hypothesis)])[0], strict=True))
    assert row["Jaccard index of the words"] == 3 / 9
    assert row["share of hypothesis words in the premise"] == 3 / 5
    assert row["share of premise words in the hypothesis"] == 3 / 7
    assert row["share of hypothesis bigrams in the premise"] == 1 / 4
    assert row["hypothesis stands in the premise"] == 0
    assert row["log words of the hypothesis"] == pytest.approx(np.log(6))
    assert row["negation in the hypothesis only"] == 1
    assert row["negation in the premise only"] == row["negation in both"] == 0
    assert row["share of hypothesis numbers missing from the premise"] == 1
    contained = overlap_features([(premise, "به تهران"), ("", ""), (premise, "به تهر")])
    where = OVERLAP_FEATURES.index("hypothesis stands in the premise")
    assert contained[:, where].tolist() == [1, 1, 0]  # whole words
    assert np.isfinite(contained).all()


def pairs_of_words(seed: int, own: Parts) -> dict[str, list[tuple[str, str]]]:
    """The label stands in the hypothesis for two classes, in both texts together for the third."""
    rng = np.random.default_rng(seed)
    pairs = {}
    for part, codes in own.codes.items():
        rows = []
        for code in codes.tolist():
            noise = [" ".join(f"w{n}" for n in rng.integers(0, 30, 6)) for _ in range(2)]
            rows.append((noise[0], f"{noise[1]} {'هرگز' if code == 0 else 'همیشه'}"))
        pairs[part] = rows
    return pairs


def test_hypothesis_only_finds_what_the_hypothesis_tells_and_sees_no_premise() -> None:
    rng = np.random.default_rng(1)
    own = parts(*(rng.integers(0, 2, n).tolist() for n in (200, 60, 60)), 2)
    pairs = pairs_of_words(2, own)
    found = {b.name: b for b in text_baselines(pairs, own) if isinstance(b, Baseline)}
    assert list(found) == ["overlap", "hypothesis", "bag_of_words"]
    assert guesses(found["hypothesis"]) == own.codes["test"].tolist()
    other = {part: [("چیز دیگر", h) for _, h in rows] for part, rows in pairs.items()}
    again = {b.name: b for b in text_baselines(other, own) if isinstance(b, Baseline)}
    same = [again[n].probabilities["test"] for n in ("hypothesis",)]
    assert np.array_equal(same[0], found["hypothesis"].probabilities["test"])
    assert not np.array_equal(
        again["bag_of_words"].probabilities["test"], found["bag_of_words"].probabilities["test"]
    )


def test_validation_chooses_the_penalty_and_test_does_not() -> None:
    rng = np.random.default_rng(3)
    own = parts(*(rng.integers(0, 3, n).tolist() for n in (90, 60, 60)), 3)
    features = {p: rng.normal(size=(len(c), 40)) for p, c in own.codes.items()}
    for part, codes in own.codes.items():
        features[part][:, 0] += 1.5 * codes
    strengths = (1e-6, 1e-2, 1e4)
    _, chosen = fit_logistic(features, own, strengths, "accuracy")
    assert chosen == 1e-2  # 1e-6 learns nothing, 1e4 learns the noise
    shuffled = dict(own.codes) | {"test": rng.permutation(own.codes["test"])}
    assert fit_logistic(features, Parts(own.rows, shuffled, 3), strengths, "accuracy")[1] == chosen


def test_balanced_weights_recall_the_rare_class() -> None:
    rng = np.random.default_rng(4)
    codes = [(rng.random(n) < 0.08).astype(int).tolist() for n in (400, 200, 400)]
    own = parts(*codes, 2)
    features = {p: rng.normal(size=(len(c), 1)) + 1.2 * c[:, None] for p, c in own.codes.items()}
    rare = own.codes["test"] == 1
    plain, _ = fit_logistic(features, own, (1.0,), "uar")
    balanced, _ = fit_logistic(features, own, (1.0,), "uar", balanced=True)
    recalls = [float((p["test"].argmax(1)[rare] == 1).mean()) for p in (plain, balanced)]
    assert recalls[0] < 0.3 < 0.6 < recalls[1]


def test_standardised_by_train_alone() -> None:
    features = {"train": np.array([[0.0, 5.0], [2.0, 5.0]]), "test": np.array([[3.0, 1e9]])}
    found = standardised(features)
    assert found["train"].tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert found["test"].tolist() == [[2.0, 0.0]]


def tone(hz: float, seconds: float = 1.0, level: float = 0.1) -> np.ndarray:
    """A voice-like tone with twelve harmonics."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    waves = [np.sin(2 * np.pi * k * hz * time) / k for k in range(1, 13)]
    return np.asarray(level * np.sum(waves, 0), np.float32)


def named(clip: np.ndarray) -> dict[str, float]:
    return dict(zip(FEATURES, functionals_of([clip])[0].tolist(), strict=True))


@pytest.mark.parametrize("hz", [90, 150, 233, 400])
def test_f0_is_that_of_the_tone(hz: float) -> None:
    found = named(tone(hz))
    assert found["F0: mean"] == pytest.approx(12 * np.log2(hz / 27.5), abs=0.1)
    assert found["F0: deviation"] < 0.1
    assert found["voiced share"] == 1 and found["voicing: mean"] > 0.9
    assert found["voiced stretches a second"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("hz", [75, 187, 287, 431, 496])
def test_f0_is_no_octave_below_that_of_a_voice_rich_in_overtones(hz: float) -> None:
    """Equally strong harmonics up to 7.8 kHz: the peaks of the autocorrelation are a sample wide."""
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    waves = [np.sin(2 * np.pi * k * hz * time + k * k) for k in range(1, int(7800 / hz) + 1)]
    found = named(0.01 * np.sum(waves, 0, dtype=np.float32))
    assert found["F0: 5 %"] == pytest.approx(12 * np.log2(hz / 27.5), abs=0.1)
    assert found["F0: 95 %"] == pytest.approx(12 * np.log2(hz / 27.5), abs=0.1)
    assert found["voiced share"] == 1


def test_f0_slope_is_that_of_a_glide() -> None:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    phase = 2 * np.pi * 120 / np.log(2) * (2**time - 1)  # one octave a second
    glide = np.sum([np.sin(k * phase) / k for k in range(1, 9)], 0).astype(np.float32) * 0.1
    assert named(glide)["F0: slope"] == pytest.approx(12, rel=0.02)


def test_noise_and_silence_have_no_voice() -> None:
    noise = np.random.default_rng(5).normal(size=SAMPLE_RATE).astype(np.float32) * 0.1
    assert named(noise)["voiced share"] < 0.05
    silence = named(np.zeros(SAMPLE_RATE, np.float32))
    assert silence["voiced share"] == silence["F0: mean"] == 0
    assert np.isfinite(list(silence.values())).all()


def test_a_louder_clip_differs_in_energy_alone() -> None:
    quiet, loud = named(tone(200, level=0.1)), named(tone(200, level=0.2))
    assert loud["energy: mean"] - quiet["energy: mean"] == pytest.approx(np.log(4), abs=1e-3)
    for name in ("F0: mean", "centroid: mean", "zero crossings: mean", "flux: mean"):
        assert loud[name] == pytest.approx(quiet[name], rel=1e-3, abs=1e-4)


def test_mfccs_are_torchaudios() -> None:
    clip = tone(130) + np.random.default_rng(6).normal(size=SAMPLE_RATE).astype(np.float32) * 0.01
    theirs = torchaudio.transforms.MFCC(
        SAMPLE_RATE,
        13,
        log_mels=True,
        melkwargs={
            "n_fft": 512,
            "win_length": 400,
            "hop_length": 160,
            "n_mels": 40,
            "f_min": 20.0,
            "center": False,
        },
    )(torch.from_numpy(clip).float())
    ours = named(clip.astype(np.float32))
    means = [ours[f"MFCC {n}: mean"] for n in range(13)]
    assert means == pytest.approx(theirs.mean(1).tolist(), rel=1e-3, abs=1e-3)


def test_a_clip_does_not_depend_on_its_batch() -> None:
    rng = np.random.default_rng(7)
    clips = [rng.normal(size=n).astype(np.float32) * 0.1 for n in (400, 511, 700, 9000)]
    clips.append(tone(180, 0.7))
    alone = np.concatenate([functionals_of([clip]) for clip in clips])
    together = functionals_of(clips)
    assert np.isfinite(together).all()
    assert together == pytest.approx(alone, rel=1e-3, abs=1e-3)


def test_functionals_are_kept_beside_the_shards(
    speech_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = tmp_path / "shards"
    shutil.copytree(speech_shards, shards, ignore=shutil.ignore_patterns("cache"))
    first = functionals(open_index(shards))
    assert [p.name[:12] for p in (shards / "cache").iterdir()] == ["functionals-"]
    monkeypatch.setattr(module, "functionals_of", lambda clips: pytest.fail("computed again"))
    assert np.array_equal(functionals(open_index(shards)), first)


def test_damaged_functionals_are_computed_again(speech_shards: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shutil.copytree(speech_shards, shards, ignore=shutil.ignore_patterns("cache"))
    first = np.array(functionals(open_index(shards)))
    (file,) = (shards / "cache").iterdir()
    for content in (file.read_bytes()[:-4], b""):
        file.write_bytes(content)
        assert np.array_equal(functionals(open_index(shards)), first)
        assert np.array_equal(np.load(file), first), "and the file is whole again"


def test_shards_that_cannot_be_written_are_no_error(speech_shards: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shutil.copytree(speech_shards, shards, ignore=shutil.ignore_patterns("cache"))
    (shards / "cache").write_text("a file, where a folder would have to be made")
    assert functionals(open_index(shards)).shape == (96, len(FEATURES))


@pytest.mark.parametrize("kind", ["speech", "text"])
def test_what_is_written(kind: str, speech_shards: Path, text_shards: Path, tmp_path: Path) -> None:
    shards = speech_shards if kind == "speech" else text_shards
    found = run_baselines(shards, "", tmp_path / "first")
    names = [result.baseline.name for result in found.results]
    expected = {
        "speech": ["majority", "speaker_majority", "functionals", "functionals_balanced"],
        "text": ["majority", "overlap", "hypothesis", "bag_of_words"],
    }
    assert names == expected[kind]
    index = open_index(shards)
    split = load_split(index)
    test_keys = sorted(index.key(row) for row in split.rows("test").tolist())
    summary = json.loads((tmp_path / "first" / "baselines.json").read_text(encoding="utf-8"))
    assert summary["digest"] == index.manifest.digest and summary["split"] == split.name
    assert [own["name"] for own in summary["baselines"]] == names
    for own in summary["baselines"]:
        folder = tmp_path / "first" / own["name"]
        assert json.loads((folder / "metrics.json").read_text(encoding="utf-8")) == own
        table = read_predictions(folder / "predictions-test.csv")
        assert list(table.keys) == test_keys and table.labels == index.manifest.labels
        stored = SplitMetrics.from_dict(own["splits"]["test"])
        again = class_metrics(table.truth, table.predicted, table.labels, np.zeros(len(table.keys)))
        assert (again.accuracy, again.confusion) == (stored.accuracy, stored.confusion)
        assert stored.loss < 3
    run_baselines(shards, "", tmp_path / "second")
    for name in names:
        one, two = (tmp_path / n / name / "predictions-test.csv" for n in ("first", "second"))
        assert one.read_bytes() == two.read_bytes()


def test_an_older_summary_does_not_stand_over_new_results(
    text_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_baselines(text_shards, "", tmp_path)
    before = (tmp_path / "baselines.json").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="has no split 'none'"):
        run_baselines(text_shards, "none", tmp_path)
    assert (tmp_path / "baselines.json").read_text(encoding="utf-8") == before

    def fitted(*_: object) -> Iterator[Baseline]:
        yield majority(parts_of(open_index(text_shards), load_split(open_index(text_shards))))
        raise KeyboardInterrupt

    monkeypatch.setattr(results, "_fitted", fitted)
    with pytest.raises(KeyboardInterrupt):
        run_baselines(text_shards, "", tmp_path)
    assert (tmp_path / "majority" / "metrics.json").is_file()
    assert not (tmp_path / "baselines.json").exists()


def test_generated_pairs_give_nothing_away(text_shards: Path, tmp_path: Path) -> None:
    """Their labels are balanced over hypotheses, so that one text alone must stay at chance."""
    found = run_baselines(text_shards, "", tmp_path)
    scores = {r.baseline.name: r.splits["test"].accuracy for r in found.results}
    assert abs(scores["hypothesis"] - 1 / 3) < 0.12
    assert abs(scores["bag_of_words"] - 1 / 3) < 0.12


def test_the_command(text_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baselines", str(text_shards), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    for text in ("split official", "Hypothesis only", "family=", f"written: {tmp_path}"):
        assert text in shown


def test_runs_is_where_results_go(text_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other"
    corpus = synthetic_farstail(180, seed=1, steps=TextSteps(True, False, False))
    pack(corpus, other, PackSettings(processes=1))
    save_split(open_index(other), official_split(open_index(other)))
    for shards in (text_shards, other):  # one corpus, packed in two ways: none replaces the other
        assert main(["baselines", str(shards)]) == 0
    for shards in (text_shards, other):
        digest = open_index(shards).manifest.digest
        folder = tmp_path / f"runs/baselines/synthetic-farstail-official-{digest[:8]}"
        assert json.loads((folder / "baselines.json").read_text())["digest"] == digest


def test_wrong_input(text_shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for arguments, message in (
        (["nowhere"], "nowhere: not a packed corpus"),
        ([str(text_shards), "--split", "none"], "has no split 'none'; there are official"),
        ([str(text_shards), "--out", str(tmp_path / "file")], "file"),
    ):
        assert main(["baselines", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.startswith("error: ") and error.count("\n") == 1


def test_parts_that_cannot_be_used_are_refused(text_shards: Path) -> None:
    index = open_index(text_shards)
    codes = load_split(index).codes.copy()
    codes[codes == 2] = -1
    with pytest.raises(InputError, match="its test part is empty"):
        parts_of(index, Split("no-test", codes, "cut"))
    codes = load_split(index).codes.copy()
    codes[(codes == 0) & (np.asarray(index.label) == 1)] = -1
    with pytest.raises(InputError, match="train part has no sample of class"):
        parts_of(index, Split("no-class", codes, "cut"))


def pack_pairs(folder: Path, labels: str, hypothesis: str, premise: str = "او آمد") -> Path:
    """Shards of 30 pairs with these labels in turn, hypotheses all alike."""
    header = "premise,hypothesis,label,split"
    splits = ("train", "train", "train", "validation", "test")
    rows = [f"{premise},{hypothesis},{labels[n % len(labels)]},{splits[n // 6]}" for n in range(30)]
    (folder / "pairs.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    assert main(["pack", "manifest", str(folder / "pairs.csv"), "--out", str(folder / "shards")]) == 0
    return folder / "shards"


def test_one_class_is_nothing_to_tell_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = pack_pairs(tmp_path, "e", "او رفت")
    capsys.readouterr()
    assert main(["baselines", str(shards), "--out", str(tmp_path / "out")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "all of its train part is of one class, 'e'; a classifier needs two" in line
    assert not (tmp_path / "out").exists()


def test_bags_without_a_word_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = pack_pairs(tmp_path, "ec", "؟!")
    capsys.readouterr()
    assert main(["baselines", str(shards), "--out", str(tmp_path / "out")]) == 0
    why = "Hypothesis only: no hypothesis of the train part has a word"
    assert f"left out: {why}\n" in capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "baselines.json").read_text(encoding="utf-8"))
    assert summary["left_out"] == [why]
    names = [entry["name"] for entry in summary["baselines"]]
    assert names == ["majority", "overlap", "bag_of_words"]  # the premises have words

    own = parts([0, 1, 0, 1], [0, 1], [1], 2)
    empty = {part: [("…", "؟")] * len(codes) for part, codes in own.codes.items()}
    left_out = [str(one) for one in text_baselines(empty, own) if isinstance(one, LeftOut)]
    both = "Bag of words: no premise and no hypothesis of the train part has a word"
    assert left_out == [why, both]


def test_the_page_of_a_study_names_what_is_left_out(tmp_path: Path) -> None:
    shards = pack_pairs(tmp_path, "ec", "؟!")
    runs = tmp_path / "runs"
    run = text_run(runs, "good", 1, 0.7)
    on_shards(run, shards, "official", flipped=1)
    folder = build_study(runs, [study_part("only", [member(run)])], baselines=True)
    why = "official is left out: Hypothesis only: no hypothesis of the train part has a word"
    for _ in range(2):  # computed, and read from what was kept
        text = page_of(folder)[1]
        assert why in text and "| Bag of words |" in text and "| Hypothesis only |" not in text


def test_farstail(shared_data: Path, tmp_path: Path) -> None:
    """The published subsets of the test file are where these baselines fail."""
    from data_shards.corpora.farstail import list_corpus
    from data_shards.protocols import official_split
    from data_shards.text import TextSteps

    corpus = list_corpus([shared_data / "farstail"], TextSteps(False, False, False))
    pack(corpus, tmp_path / "shards", PackSettings(processes=1))
    index = open_index(tmp_path / "shards")
    save_split(index, official_split(index))
    found = {r.baseline.name: r for r in run_baselines(index.root, "", tmp_path / "out").results}
    scores = {name: result.splits["test"].accuracy for name, result in found.items()}
    assert scores["majority"] == pytest.approx(535 / 1564)
    assert 0.60 < scores["overlap"] < 0.70
    assert 0.45 < scores["hypothesis"] < 0.56
    hard = found["hypothesis"].subsets["hard_hypothesis=1"]["accuracy"]
    assert hard < found["hypothesis"].subsets["hard_hypothesis=0"]["accuracy"] - 0.2
    hard = found["overlap"].subsets["hard_overlap=1"]["accuracy"]
    assert hard < found["overlap"].subsets["hard_overlap=0"]["accuracy"] - 0.3


def test_emodb_speakers(shared_data: Path, tmp_path: Path) -> None:
    """Functionals tell emotions of unheard speakers; who speaks tells nothing."""
    emotions = {
        "W": "anger",
        "L": "boredom",
        "E": "disgust",
        "A": "fear",
        "F": "happiness",
        "T": "sadness",
        "N": "neutral",
    }
    lines = ["path,label,speaker"]
    for wav in sorted((shared_data / "emodb").glob("*.wav")):
        lines.append(f"{wav},{emotions[wav.name[5]]},{wav.name[:2]}")
    (tmp_path / "emodb.csv").write_text("\n".join(lines), encoding="utf-8")
    shards = tmp_path / "shards"
    assert main(["pack", "manifest", str(tmp_path / "emodb.csv"), "--out", str(shards)]) == 0
    found = run_baselines(shards, "speaker", tmp_path / "out")
    scores = {r.baseline.name: r.splits for r in found.results}
    assert scores["speaker_majority"]["test"].uar == pytest.approx(1 / 7)
    pooled = [scores["functionals"][part].uar for part in ("validation", "test")]
    assert np.mean(pooled) > 0.5
