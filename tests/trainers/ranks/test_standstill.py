"""A rank that nobody waits for and that does not go on: processes of their own, since it ends them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs.rank_status import FAILED, STATUS

ALONE = """
import time
from datetime import timedelta
from trainers.ranks.standstill import ended_at_standstill
from trainers.ranks.world import join_world

def hang_in_a_device():
    time.sleep(3600)

world = join_world(timedelta(seconds={timeout}))
world.at("step 12")
"""
HANGS = """
with ended_at_standstill(world):
    world.sum([1.0])
    hang_in_a_device()
"""
GOES_ON = """
with ended_at_standstill(world):
    for _ in range(12):
        time.sleep(0.25)
        world.barrier()
time.sleep(3)
"""


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", STATUS)}
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def check_told(text: str) -> None:
    lines = text.splitlines()
    assert lines[-1].startswith("error: rank 0 has not gone on for 0.05 min at step 12: it hangs")
    assert any("in hang_in_a_device" in line for line in lines[:-1])


@pytest.mark.parametrize("supervised", [True, False])
def test_a_lone_rank_that_hangs_is_ended_and_tells_where(supervised: bool, tmp_path: Path) -> None:
    told = {STATUS: str(tmp_path)} if supervised else {}
    ended = run(ALONE.format(timeout=3) + HANGS, **told)
    assert ended.returncode == FAILED, ended.stderr
    if not supervised:
        check_told(ended.stderr[ended.stderr.index("Traceback") :])
        return
    assert "hangs" not in ended.stderr, "told twice"
    (word,) = tmp_path.glob("rank-0.json")
    status = json.loads(word.read_text())
    assert (status["state"], status["code"]) == ("hung_peer", FAILED)
    check_told(status["text"])


def test_a_rank_that_goes_on_is_let_alone() -> None:
    """Also when what may hang is over."""
    assert run(ALONE.format(timeout=2) + GOES_ON).returncode == 0
