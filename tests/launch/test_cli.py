"""The ``sokhan`` command: what it starts, what it refuses, how it exits."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from launch.cli import main
from launch.commands.common import split_recipes

SOKHAN = [sys.executable, "-m", "launch"]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SOKHAN, *arguments], capture_output=True, text=True, timeout=300, cwd=cwd)


def test_recipes_and_grids_are_listed_with_what_they_are_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    recipes, grids = capsys.readouterr().out.split("grids, for `sokhan sweep`:\n")
    assert recipes.startswith("recipes, for `sokhan train`:\n  demo/bert_embeddings_last  ")
    assert (
        "  farstail/parsbert_full             FarsTail with ParsBERT, regime 1: everything trains\n"
        in recipes
    )
    assert (
        "  farstail/regimes                   The five regimes on FarsTail, each with five seeds: 25 t"
        in grids
    )


def test_recipes_come_first() -> None:
    typed = ["train", "a.yaml", "demo/b", "--seed", "1", "--ranks", "2"]
    assert split_recipes(typed) == (
        ["a.yaml", "demo/b"],
        ["train", "--seed", "1", "--ranks", "2"],
    )
    assert split_recipes(["pack", "x"]) == ([], ["pack", "x"])
    assert split_recipes(["train"]) == ([], ["train"])


def test_print_config_shows_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "demo/hubert", "--print_config", "--optim.lr", "0.5"]) == 0
    shown = capsys.readouterr().out
    for text in ("lr: 0.5", "betas:", "specaugment:", "window:", "entity: null"):
        assert text in shown
    assert main(["train", "--print_config"]) == 0
    both = capsys.readouterr().out
    assert "task: emotion" in both and "task: nli" in both


def test_print_config_of_a_job_shows_the_sites_fields(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("recipe: {tracking: {entity: ours}, output: {folder: /scratch/runs}}\n")
    command = ["submit", "demo/hubert", "--site", str(site), "--print_config"]
    assert main([*command, "--output.folder", "elsewhere", "--slurm.nodes", "2"]) == 0
    shown = capsys.readouterr().out
    assert "entity: ours" in shown and "folder: elsewhere" in shown


def test_shards_that_are_missing_are_made_by_the_command_in_the_recipes_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # no SLURM
    assert main(["train", "demo/bert_full"]) == 2
    pack = "`sokhan pack synthetic-farstail --out demo/shards/synthetic-farstail`"
    assert f"make one with {pack}" in capsys.readouterr().err
    assert main(["sweep", "demo/report_text"]) == 2  # of a grid, the one in its own head
    assert (
        "make one with `sokhan pack synthetic-farstail --samples 900 --out demo/" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "no recipe given"),
        (["train", "demo/hubertt"], "no such recipe; the nearest are demo/hubert"),
        (["train", "demo/hubert", "--optim.lrr", "1"], "did you mean 'optim.lr'"),
        (["train", "demo/hubert", "--ranks", "3", "--data.shards", "."], "4 / 3 = 1.33"),
        (["train", "demo/hubert", "--ranks", "0"], "--ranks 0"),
        (["train", "demo/hubert", "--data.shards", "nowhere"], "nowhere: not a packed corpus"),
        (["inspect", "nowhere"], "nowhere: not a packed corpus"),
        (["split", "nowhere", "speaker"], "nowhere: not a packed corpus"),
        (["pack", "farstail", "nowhere", "--out", "never"], "nowhere"),
        (["report", "nowhere"], "nowhere"),
        (["predict", "nowhere", "a.wav"], "nowhere: no run directory and no exported classifier"),
        (["predict", "nowhere", "a.wav", "--out", "never/a.csv"], "there is no folder never"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert not Path("never").exists()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            "report runs --ot x",
            "sokhan report: unknown option --ot; did you mean --out?; see `sokhan report --help`",
        ),
        ("export x --ot=y", "sokhan export: unknown option --ot; did you mean --out?"),
        ("predic x", "sokhan: argument COMMAND: invalid choice: 'predic'; did you mean predict?"),
        ("pack shemoo a.zip", "sokhan pack: argument CORPUS: invalid choice: 'shemoo'; did you mean shemo?"),
        (
            "pack farstail x --no-stopword --out y",
            "sokhan pack farstail: unknown option --no-stopword; did you mean ",
        ),
        ("split x speaker --fold 5", "sokhan split: unknown option --fold; did you mean --folds?"),
        (
            "submit demo/hubert --cluster slrum",
            "sokhan submit: argument --cluster: invalid choice: 'slrum'; did you ",
        ),
        ("--hlep", "sokhan: unknown option --hlep; did you mean --help?"),
        ("logs x --sideways", "sokhan logs: unknown option --sideways; see `sokhan logs --help`"),
        ("split x", "sokhan split: the following arguments are required: protocol; see"),
        ("recipes demo", "sokhan recipes: does not take demo; see"),
    ],
)
def test_misspelt_words_are_told_with_the_nearest(
    typed: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(typed.split())
    assert stopped.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"error: {message}") and errors.count("\n") == 1


def test_the_other_kind_of_shards_is_refused_before_any_process_starts(
    text_shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "demo/hubert", "--data.shards", str(text_shards)]) == 2
    assert "holds text, but recipe 'hubert' (task emotion) reads audio" in capsys.readouterr().err


def test_pack_split_inspect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "shards")
    pack = ["pack", "synthetic-shemo", "--samples", "40", "--seconds-scale", "0.1", "--out", out]
    assert main(pack) == 2  # so few clips that no split has every emotion in every part
    errors = capsys.readouterr().err
    assert "part has no sample of class" in errors and f"shards in {out} are complete" in errors
    pack += ["--allow-empty-class", "--overwrite"]
    assert main(pack) == 0
    shown = capsys.readouterr().out
    assert "split speaker: train" in shown and "40 synthetic audio samples" in shown
    assert main(pack[:-1]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["split", out, "reference", "--allow-empty-class"]) == 0
    assert "warning: speakers occur in two parts" in capsys.readouterr().out
    assert main(["split", out, "speaker", "--folds", "4", "--allow-empty-class"]) == 0
    assert "split speaker4-fold4" in capsys.readouterr().out
    assert main(["split", out, "official"]) == 2
    assert "no split of its own" in capsys.readouterr().err
    again = ["split", out, "speaker", "--folds", "4", "--allow-empty-class"]
    fold = Path(out, "splits", "speaker4-fold4.npy")
    before = fold.stat()
    assert main(again) == 0
    assert "split speaker4-fold4: unchanged, train " in capsys.readouterr().out
    assert fold.stat().st_mtime_ns == before.st_mtime_ns
    tables = [path.read_bytes() for path in sorted(fold.parent.iterdir())]
    other = [*again, "--seed", "1"]
    assert main(other) == 2
    assert "has another split 'speaker4-fold1' already" in capsys.readouterr().err
    assert [path.read_bytes() for path in sorted(fold.parent.iterdir())] == tables
    assert main([*other, "--name", "mine"]) == 0
    assert main([*other, "--overwrite"]) == 0
    assert "split speaker4-fold4: train " in capsys.readouterr().out
    assert main(again) == 2
    for path in fold.parent.glob("speaker4-*.npy"):
        path.write_bytes(b"damaged")  # what does not count is made again
    assert main(again) == 0
    capsys.readouterr()
    plots = tmp_path / "plots"
    assert main(["inspect", out, "--split", "reference", "--plots", str(plots)]) == 0
    shown = capsys.readouterr().out
    assert "SYNTHETIC" in shown and "speaker" in shown and "fear" in shown
    assert list(plots.glob("*.png"))


def test_help_is_light() -> None:
    program = (
        "import sys; from launch.cli import build_parser; build_parser().format_help();"
        "print([m for m in ('torch', 'numpy', 'jsonargparse', 'yaml') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr


def test_an_interrupted_pack_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "shards"
    command = [*SOKHAN, "pack", "synthetic-shemo", "--samples", "3000", "--out", str(out)]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        # A test run may have been started to ignore Ctrl-C (`make test &`).
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    staging = tmp_path / "shards.packing"
    while not staging.is_dir() and process.poll() is None:
        pass
    process.send_signal(2)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped: interrupted" in errors and "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
