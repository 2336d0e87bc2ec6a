"""A training that is killed again and again comes out bit for bit as if it had never been."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.kills import Kill, Start, compare, judge, make_reference, run_chain
from tests.faults.reference import RECIPES, Reference
from tests.faults.watching import Watched

KILL, TERM = signal.SIGKILL, signal.SIGTERM
CHAINS = [
    (
        Kill("rank 1", (KILL,), "save", number=2, delay=0.02),
        Kill("sokhan", (KILL,), "commit"),
        Kill("rank 0", (KILL,), "step", number=3),
    ),
    (
        Kill("rank 1", (KILL,), "validation", delay=0.02),
        Kill("rank 0", (TERM, TERM), "step", number=2, delay=0.05),
        Kill("rank 0", (KILL,), "final", delay=0.1),
    ),
]
"""`make faults` draws others."""


@pytest.fixture(scope="module")
def reference(text_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A run that nobody kills. Without reading processes, whose start takes longer than all else."""
    recipe = RECIPES["bert-fp32"]
    overrides = (*recipe.overrides, "--loop.epochs", "2", "--data.workers", "0")
    short = replace(recipe, overrides=overrides)
    return make_reference(short, text_shards, tmp_path_factory.mktemp("kills") / "reference")


@pytest.mark.parametrize("kills", CHAINS, ids=["early", "late"])
def test_kills_leave_no_trace(kills: tuple[Kill, ...], reference: Reference, tmp_path: Path) -> None:
    def next_kill(watched: Watched, placed: int) -> Kill | None:
        return kills[placed] if placed < len(kills) else None

    out = tmp_path / "killed"
    starts: list[Start] = run_chain(reference, out, next_kill)
    assert [start.problems for start in starts] == [[] for _ in starts]
    assert [start.kill for start in starts] == [*kills, None]
    assert starts[-1].finished

    # What was compared above does tell runs apart.
    run = reference.recipe.run(out)
    weights = run / "model" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "model/model.safetensors" in compare(run, starts[-1], reference)[0]
    weights.write_bytes(content)
    metrics = run / "metrics.jsonl"
    first, rest = reference.metrics.split(b"\n", 1)
    metrics.write_bytes(b"\n".join([first, first, rest]))
    assert "metrics.jsonl differs" in compare(run, starts[-1], reference)[0]


STEP = Kill("rank 1", (KILL,), "step")
NAMED = "error: rank 1 (process 7) was killed (signal 9)\n"
SAVED = "stopped after saving: step 5; the same command goes on\n"
EARLY = "stopped before there was anything to save: step 0; the same command starts it again\n"


@pytest.mark.parametrize(
    ("kill", "code", "finished", "output", "right"),
    [
        (None, 0, True, "", True),
        (None, 1, False, "", False),
        (STEP, 1, False, NAMED, True),
        (STEP, 1, False, NAMED.replace("1", "0"), False),
        (STEP, 1, False, "Traceback\n" + NAMED, False),
        (STEP, 0, False, "", False),
        (STEP, 0, True, "", False),
        (STEP, 75, False, SAVED, False),
        (replace(STEP, signals=(TERM,)), 75, False, SAVED, True),
        (replace(STEP, signals=(TERM,), moment="start-up"), 75, False, EARLY, True),
        (replace(STEP, signals=(TERM,)), 75, False, "", False),
        (replace(STEP, signals=(TERM,)), 1, False, NAMED, False),
        (replace(STEP, signals=(TERM,), moment="final"), 0, True, "", True),
        (replace(STEP, signals=(TERM,), moment="final"), 0, False, "", False),
        (replace(STEP, victim="sokhan"), -9, False, "", True),
        (replace(STEP, victim="sokhan"), -9, True, "", False),
        (replace(STEP, victim="sokhan"), 1, False, "", False),
        (replace(STEP, victim="sokhan", signals=(TERM,)), 143, False, "", False),
        (replace(STEP, victim="sokhan", signals=(TERM, TERM)), 143, False, "", True),
        (replace(STEP, victim="launcher"), 75, False, SAVED, True),
        (replace(STEP, victim="launcher"), 0, False, "", False),
    ],
)
def test_wrong_exit_codes_are_seen(
    kill: Kill | None, code: int, finished: bool, output: str, right: bool
) -> None:
    ending = kill is not None and kill.moment == "final"
    problems = judge(Start(kill, 5, code, 1.0, finished, ending), output)
    assert (problems == []) == right
