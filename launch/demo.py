"""``sokhan demo`` (and ``make run``): the whole path on generated corpora, in a few minutes on a laptop."""

from __future__ import annotations

import time
from pathlib import Path

from configs.load import load_recipe, run_folder
from launch.command_job import run_command

SPEECH = "demo/hubert"
TEXT = [f"demo/bert_{regime}" for regime in ("full", "freeze", "embeddings_last", "intermediate", "heads")]


def run(folder: Path, ranks: int) -> int:
    """Pack two corpora, train a HuBERT and five BERT regimes, report. Returns the exit code."""
    started = time.monotonic()
    speech, text = folder / "shards" / "synthetic-shemo", folder / "shards" / "synthetic-farstail"
    runs = folder / "runs"
    recipes = [SPEECH, *TEXT]
    steps = [
        [
            *"pack synthetic-shemo --samples 600 --seconds-scale 0.4 --overwrite --out".split(),
            str(speech),
        ],
        ["pack", "synthetic-farstail", "--samples", "6000", "--out", str(text), "--overwrite"],
        ["inspect", str(speech)],
        ["train", SPEECH, "--data.shards", str(speech), *_common(runs, ranks)],
        ["train", *TEXT, "--data.shards", str(text), *_common(runs, ranks)],
        [
            "report",
            *(str(_run(recipe, speech, text, runs)) for recipe in recipes),
            "--out",
            str(folder),
        ],
    ]
    for number, step in enumerate(steps, 1):
        code = _step(number, len(steps), step, started)
        if code:
            return code
    print(
        f"\nDone in {time.monotonic() - started:.0f} s. The corpora were generated, so the figures only "
        "show that everything works.\n"
        "Next, with your own data (`. .venv/bin/activate` if there is no `sokhan` yet):\n"
        "  sokhan pack farstail FarsTail/data --out shards/farstail\n"
        "  sokhan train farstail/parsbert_full --ranks 2\n"
        "  sokhan pack shemo male.zip female.zip --out shards/shemo\n"
        "  sokhan train shemo/hubert_base_speaker --ranks 2\n"
        "  sokhan recipes                # all recipes; README.md explains them"
    )
    return 0


def _common(runs: Path, ranks: int) -> list[str]:
    return ["--ranks", str(ranks), "--overwrite", "--output.folder", str(runs)]


def _run(recipe: str, speech: Path, text: Path, runs: Path) -> Path:
    shards = speech if recipe == SPEECH else text
    return run_folder(load_recipe(recipe, ["--data.shards", str(shards), "--output.folder", str(runs)]))


def _step(number: int, total: int, arguments: list[str], started: float) -> int:
    """Run one ``sokhan`` command, saying which."""
    print(
        f"\n[{number}/{total}, {time.monotonic() - started:.0f} s] sokhan {' '.join(arguments)}",
        flush=True,
    )
    return run_command(arguments)
