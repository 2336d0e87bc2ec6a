"""`sokhan predict`: what a run's own evaluation says, from the raw files; and what is refused.

Runs are trained for a step or two on corpora packed from manifests, and applied to these manifests.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs.errors import InputError
from data_shards.corpora.manifest import list_corpus
from data_shards.corpora.synthetic_text import synthetic_farstail
from data_shards.index import open_index
from data_shards.pack import PackSettings, pack
from data_shards.protocols import official_split
from data_shards.splits import save_split
from launch.cli import main
from tests.data_shards.clips import encoded, tone
from tests.ranks import RankPool
from tests.trainers.jobs import train_recipe
from tests.trainers.test_run import read_csv, speech_recipe, text_recipe
from tests.trainers.tiny_models import hubert_folder
from trainers.predict import predict

Ranks = Callable[[int], RankPool]
Train = Callable[..., Path]
ROUNDING = 2e-6
"""Files hold 6 decimals; sums of another batch are taken in another order."""
BF16 = 2**-8
"""One unit in the last place of a number near 1 in bfloat16."""


def packed(folder: Path, manifest: Path) -> Path:
    """Shards of a manifest with a column split, beside it."""
    shards = folder / "shards"
    pack(list_corpus(manifest), shards, PackSettings(processes=1))
    index = open_index(shards)
    save_split(index, official_split(index))
    return shards


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 noisy tones, stereo, at two rates, some longer than what the run reads."""
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(5)
    rows = ["path,label,split"]
    for n in range(48):
        rate = 22_050 if n % 2 else 16_000
        sound = tone(0.2 + 0.03 * n, rate, 150.0 + 40 * (n % 3))
        sound = np.stack([sound, 0.5 * sound], 1) + 0.02 * rng.standard_normal((len(sound), 2))
        clip = folder / "clips" / f"{n % 4}" / f"clip {n:02d}.wav"
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.write_bytes(encoded(sound, rate))
        part = ("train", "train", "validation", "test")[n // 3 % 4]
        rows.append(f"{clip.relative_to(folder)},{('glad', 'sad', 'calm')[n % 3]},{part}")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return packed(folder, folder / "clips.csv").parent


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """180 generated pairs, through all of hazm's steps."""
    folder = tmp_path_factory.mktemp("text")
    with (folder / "pairs.tsv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t")
        writer.writerow(["premise", "hypothesis", "label", "split"])
        for pair in synthetic_farstail(180, seed=1).items:
            writer.writerow([pair.premise, pair.hypothesis, pair.label, pair.split])
    return packed(folder, folder / "pairs.tsv").parent


@pytest.fixture(scope="module")
def trained(ranks: Ranks, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Train a recipe for two steps with settings of its own."""

    def train(recipe: Callable[..., list[str]], name: str, corpus: Path, *more: str) -> Path:
        out = tmp_path_factory.mktemp("runs")
        overrides = recipe(corpus / "shards", out, "--data.split", "official", *more)
        overrides += ["--loop.epochs", "1", "--loop.max_steps", "2", "--optim.lr", "3e-3"]
        return Path(ranks(1).run(train_recipe, name, overrides)[0])

    return train


@pytest.fixture(scope="module")
def speech_run(trained: Train, speech: Path) -> Path:
    return trained(speech_recipe, "demo/hubert", speech)


@pytest.fixture(scope="module")
def text_run(trained: Train, text: Path) -> Path:
    return trained(text_recipe, "demo/bert_full", text)


def check_same(run: Path, table: list[dict[str, str]], tolerance: float = ROUNDING) -> None:
    """The rows of a table are those of the run's evaluation, for all samples of the corpus."""
    found = {row["key"]: row for row in table}
    told = [
        row for part in ("validation", "test") for row in read_csv(run / "eval" / f"predictions-{part}.csv")
    ]
    assert len(told) >= 20
    for row in told:
        ours = found[row["key"]]
        assert ours.keys() == row.keys() and ours["label"] == row["label"]
        numbers = [name for name in row if name == "loss" or name.startswith("p(")]
        for name in numbers:
            assert float(ours[name]) == pytest.approx(float(row[name]), abs=tolerance), row["key"]
        shares = sorted(float(row[name]) for name in numbers if name != "loss")
        if shares[-1] - shares[-2] > 2 * tolerance:
            assert ours["prediction"] == row["prediction"]
    numbers = [float(row["p(sad)" if "p(sad)" in row else "p(e)"]) for row in told]
    spread = max(numbers) - min(numbers)
    assert spread > 15 * ROUNDING and spread > 7 * tolerance, "a model that tells nothing apart"


def predictions(tmp_path: Path, run: Path, manifest: Path, *more: str) -> list[dict[str, str]]:
    out = tmp_path / "out.csv"
    assert main(["predict", str(run), str(manifest), "--out", str(out), *more]) == 0
    return read_csv(out)


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        ("", ROUNDING),
        ("--model.head attentive", ROUNDING),
        ("--model.trains head --model.cache true --data.balance none", ROUNDING),
        # bfloat16 rounds otherwise in batches of other shapes.
        ("--model.head weighted --model.max_seconds 0.5 --engine.precision bf16_autocast", BF16),
        ("--engine.precision bf16", BF16),
    ],
    ids=["linear", "attentive", "cached", "weighted-autocast", "bf16"],
)
def test_clips_are_told_as_by_the_runs_evaluation(
    settings: str, tolerance: float, trained: Train, speech: Path, tmp_path: Path
) -> None:
    run = trained(speech_recipe, "demo/hubert", speech, *settings.split())
    table = predictions(tmp_path, run, speech / "clips.csv", "--batch", "5")
    assert [row["key"] for row in table] == [f"clips-{n % 4}-clip_{n:02d}" for n in range(48)]
    check_same(run, table, tolerance)
    logits = torch.from_numpy(predict(run, [speech / "clips.csv"]).logits)
    in_bfloat16 = torch.equal(logits, logits.bfloat16().float())
    assert in_bfloat16 == ("bf16" in settings), "not in the run's precision"


def test_a_source_that_does_not_normalise(trained: Train, speech: Path, tmp_path: Path) -> None:
    source = hubert_folder(tmp_path / "source", "layer")
    (source / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    run = trained(speech_recipe, "demo/hubert", speech, "--model.pretrained", str(source))
    check_same(run, predictions(tmp_path, run, speech / "clips.csv"))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("bert_full", ""),
        ("bert_heads", ""),
        ("bert_intermediate", "--model.text original"),
        ("bert_full", "--model.max_tokens 12 --model.reads hypothesis"),
    ],
    ids=["processed", "removed-heads", "original", "cut-hypothesis"],
)
def test_pairs_are_told_as_by_the_runs_evaluation(
    name: str, settings: str, trained: Train, text: Path, tmp_path: Path
) -> None:
    run = trained(text_recipe, f"demo/{name}", text, *settings.split())
    if name == "bert_heads":
        assert json.loads((run / "model" / "sokhan.json").read_text())["removed_heads"]
    table = predictions(tmp_path, run, text / "pairs.tsv")
    assert table[0]["key"] == "row-00001" and len(table) == 180
    check_same(run, table)


def test_files_and_folders_give_what_their_manifest_gives(
    speech_run: Path, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without labels, to stdout, from an export that lies elsewhere."""
    listed = predict(speech_run, [speech / "clips.csv"])
    by_key = dict(zip(listed.keys, listed.logits, strict=True))
    capsys.readouterr()
    one = speech / "clips" / "2" / "clip 02.wav"
    assert main(["predict", str(speech_run / "model"), str(one), str(speech / "clips")]) == 0
    shown = capsys.readouterr()
    assert "accuracy" not in shown.err
    rows = list(csv.DictReader(shown.out.splitlines()))
    assert list(rows[0]) == ["path", "prediction", "p(calm)", "p(glad)", "p(sad)"]
    assert [row["path"] for row in rows[:2]] == [str(one), str(speech / "clips" / "0" / "clip 00.wav")]
    assert len(rows) == 48, "the one that is named is not told twice"
    for row in rows:
        path = Path(row["path"]).relative_to(speech).with_suffix("")
        logits = by_key["-".join(path.parts).replace(" ", "_")].astype(np.float64)
        shares = np.exp(logits) / np.exp(logits).sum()
        ours = [float(row[f"p({label})"]) for label in ("calm", "glad", "sad")]
        assert ours == pytest.approx(shares.tolist(), abs=ROUNDING)
        assert row["prediction"] == ("calm", "glad", "sad")[int(np.argmax(ours))]


def test_scores_are_told_where_there_are_labels(
    text_run: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = predictions(tmp_path, text_run, text / "pairs.tsv")
    [line] = [line for line in capsys.readouterr().err.splitlines() if "accuracy" in line]
    right = [row["label"] == row["prediction"] for row in table]
    assert line.startswith(f"accuracy {sum(right) / len(right):.4f}, UAR 0.")
    assert line.endswith("(180 labelled)")


def test_pairs_without_labels(text_run: Path, text: Path, tmp_path: Path) -> None:
    with (text / "pairs.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))[:20]
    manifest = tmp_path / "new.jsonl"
    lines = [
        {"premise": r["premise"], "hypothesis": r["hypothesis"], "key": f"k{n}"} for n, r in enumerate(rows)
    ]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    new, old = predict(text_run, [manifest]), predict(text_run, [text / "pairs.tsv"])
    assert new.keys == tuple(f"k{n}" for n in range(20)) and new.truth is None
    np.testing.assert_allclose(new.logits, old.logits[:20], atol=1e-5)


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main(["predict", *map(str, words)]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and shown.err.count("\n") == 1
    return shown.err


def test_what_cannot_be_predicted_of_clips(
    speech_run: Path, speech: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    good = clips / "good.wav"
    good.write_bytes(encoded(tone(0.3)))
    out = tmp_path / "out.csv"
    out.write_text("older")
    options = ("--out", out)

    def told(*inputs: object) -> str:
        return refused(capsys, speech_run, *inputs, *options)

    assert f"{tmp_path}/none.wav: no such file" in told(good, tmp_path / "none.wav")
    (clips / "cut.wav").write_bytes(encoded(tone(0.3))[:-100])
    assert "cut.wav: truncated" in told(clips)
    (clips / "cut.wav").write_bytes(b"")
    assert "cut.wav: the file is empty" in told(clips)
    (tmp_path / "empty").mkdir()
    assert "empty: no audio files in it (.wav, " in told(tmp_path / "empty")
    rows = tmp_path / "rows.csv"
    rows.write_text("path,label\nclips/good.wav,glad\nclips/bad.wav,sad\n")
    assert "rows.csv: line 3: audio file" in told(rows)
    rows.write_text("path,label\nclips/good.wav,happy\n")
    assert "rows.csv: line 2: unknown label 'happy' (labels are calm, glad, sad)" in told(rows)
    rows.write_text("path,label\nclips/good.wav,\n")
    assert "rows.csv: line 2: label is empty; fill it in" in told(rows)
    assert "a manifest must be the only input" in told(rows, good)
    assert "a manifest of text, but the model reads audio" in told(text / "pairs.tsv")
    assert "--batch 0: use 1 or more" in told(good, "--batch", "0")
    assert out.read_text() == "older" and len(list(tmp_path.iterdir())) == 4
    options = ("--out", rows)
    rows.write_text("path\nclips/good.wav\n")
    assert "rows.csv: is an input, too" in told(rows)
    options = ("--out", tmp_path / "none" / "out.csv")
    assert f"there is no folder {tmp_path}/none" in told(good)
    options = ("--out", tmp_path)
    assert "is a folder; name a file in it" in told(good)


def test_what_is_no_model(
    text_run: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = speech / "clips" / "0"
    assert "the model reads pairs of texts: give a csv" in refused(capsys, text_run, clip)
    assert "a manifest of audio" in refused(capsys, text_run, speech / "clips.csv")
    assert "no run directory and no exported classifier" in refused(capsys, tmp_path, clip)
    unfinished = tmp_path / "run"
    unfinished.mkdir()
    shutil.copy(text_run / "config.yaml", unfinished)
    assert "a run without a classifier in model/" in refused(capsys, unfinished, clip)


def test_an_export_that_says_nothing_of_its_texts(
    text_run: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As those of before `sokhan predict`: refused where it matters, read where it does not."""
    older = tmp_path / "model"
    shutil.copytree(text_run / "model", older)
    about: dict[str, Any] = json.loads((older / "sokhan.json").read_text())
    assert about["format"] == 1 and about["precision"] == "fp32"
    assert about["text_steps"]["lemmatise"] is True
    steps = about.pop("text_steps")
    del about["precision"]
    (older / "sokhan.json").write_text(json.dumps(about))
    error = refused(capsys, older, text / "pairs.tsv")
    assert "does not say how the texts were processed" in error and "sokhan export RUN" in error
    about["settings"]["text"] = "original"
    (older / "sokhan.json").write_text(json.dumps(about))
    assert len(predict(older, [text / "pairs.tsv"]).keys) == 180
    about["settings"]["text"] = "processed"
    about["text_steps"] = {**steps, "hazm": "0.0"}
    (older / "sokhan.json").write_text(json.dumps(about))
    [note] = predict(older, [text / "pairs.tsv"]).notes
    assert "processed by hazm 0.0, these by" in note


def test_padding_that_was_averaged_in_is_told(speech_run: Path, speech: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(speech_run / "model", folder)
    about = json.loads((folder / "sokhan.json").read_text())
    about["settings"]["padding"] = "stock"
    (folder / "sokhan.json").write_text(json.dumps(about))
    found, exact = (predict(model, [speech / "clips.csv"], 7) for model in (folder, speech_run))
    np.testing.assert_allclose(found.logits, exact.logits, atol=1e-6)
    assert "padding stock" in found.notes[0] and not exact.notes


def test_an_output_that_is_not_finite_names_its_input(
    speech_run: Path, speech: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "trainers.predict.as_packed",
        lambda audio: audio + np.float32("nan") * (len(audio) > 15_000),
    )
    with pytest.raises(InputError, match=r"clips-\d-clip_\d\d: the model's output is not finite"):
        predict(speech_run, [speech / "clips.csv"])


def test_as_it_is_typed(speech_run: Path, speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    command = [sys.executable, "-m", "launch", "predict", str(speech_run), "clips.csv"]
    done = subprocess.run(
        [*command, "--out", str(out)], capture_output=True, text=True, cwd=speech, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and "(48 labelled)" in done.stderr.splitlines()[-1]
    check_same(speech_run, read_csv(out))
