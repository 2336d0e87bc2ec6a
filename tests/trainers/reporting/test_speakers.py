"""Whose voices the intervals of a study resample."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_shards.splits import Split, save_split
from tests.data_shards.tiny import tiny_index
from tests.trainers.reporting.study_directory import on_shards
from tests.trainers.run_directory import build_run
from trainers.reporting.runs.read import read_run
from trainers.reporting.study.speakers import speakers_of


def test_speakers_that_train_does_not_name_are_not_missed(tmp_path: Path) -> None:
    """Of a sample that is tested the speaker must be known, of others not."""
    index = tiny_index(
        tmp_path / "shards", [f"k{n}" for n in range(6)], list("ababab"), ["", "s", "t", "s", "t", "s"]
    )
    unknown = int(np.flatnonzero(index.speaker < 0)[0])
    for name, tested in (("known", False), ("unknown", True)):
        codes = np.zeros(len(index), np.int8)
        codes[(np.arange(len(index)) == unknown) == tested] = 2
        save_split(index, Split(name, codes, "by hand"))
        run = build_run(tmp_path / "runs", task="emotion", recipe=name, name="x")
        on_shards(run, index.root, name, flipped=0)
        rows = np.flatnonzero(codes == 2)
        document = (run / "data.json").read_text()
        (run / "data.json").write_text(document.replace('"kind": "text"', '"kind": "audio"'))
        found = speakers_of(read_run(run), [index.key(row) for row in rows.tolist()])
        if tested:
            assert found is None
        else:
            assert found is not None and found.tolist() == index.speaker[rows].tolist()
