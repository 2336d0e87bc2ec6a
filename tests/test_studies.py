"""The demo studies, as they are typed: packed, swept on this machine, and told on their pages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.cli import main

TEXT = ["synthetic-farstail", "--samples", "600", "--processes", "1"]
SPEECH = [
    "synthetic-shemo",
    "--samples",
    "160",
    "--seconds-scale",
    "0.2",
    "--processes",
    "1",
    "--split",
    "reference",
    "--split",
    "speaker",
]
FILES = {
    "demo/report_text": {"pruning.json", "probes.json"},
    "demo/report_speech": {"noise.json", "probes.json"},
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "corpus"), [("demo/report_text", TEXT), ("demo/report_speech", SPEECH)])
def test_a_demo_study_ends_in_a_page(
    name: str,
    corpus: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert main(["pack", *corpus, "--out", f"demo/shards/{corpus[0]}"]) == 0
    command = ["sweep", name, "--cluster", "local", "--ranks", "1", "--tracking.wandb", "off"]
    code = main(command)
    shown, errors = capfd.readouterr()
    assert code == 0, errors
    assert "expected: " in shown and "assumed, not measured" in shown
    folder = Path("runs/sweeps") / name.replace("/", "-").replace("_", "-")
    assert f"page: {folder}/report.html" in shown

    study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    rows = [row for part in study["parts"] for row in part["members"]]
    runs = {row["run"] for row in rows}
    assert len(runs) < len(rows)  # some stand in two parts
    for run in runs:
        assert (Path("runs") / run / "summary.json").is_file(), run
    written = {path.name for run in runs for path in (Path("runs") / run / "eval").glob("*.json")}
    assert written >= FILES[name]
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert study["title"] in page and "SYNTHETIC" in page
    assert [part["title"] for part in study["parts"] if part["title"] not in page] == []
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "<svg" in html or "data:image" in html
    assert "http-equiv" not in html and 'src="http' not in html  # nothing from elsewhere

    assert main(command) == 0
    assert f"{len(runs)} trainings: {len(runs)} finished" in capfd.readouterr().out
