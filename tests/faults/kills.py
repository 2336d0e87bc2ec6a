"""Kill trainings at seeded points, start them again, and compare what comes out with a run that was
never killed.

    python -m tests.faults.kills --kills 200 --seed 1 [--recipes bert-fp32 ...] [--folder FOLDER]

Everything is real: `sokhan train` on one or two ranks, signals to its processes from outside. A chain
is one run that is killed some times, each time started again by the same command. Its metrics, weights
and predictions must come out bit for bit, and each start must end in time, with the right exit code,
and leave no process. One line a kill; exit 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from tests.faults.reference import RECIPES, KilledRecipe, Reference, make_shards, results, untidy
from tests.faults.watching import LOOK, Moment, Shape, Watched, tags, wait_for
from tests.launch.launched import Launched, launched

TIME_OUT = 600.0
"""Seconds for a start, or for what is left of it after a kill; more is a hang."""
VANISH = 60.0
"""Seconds that ranks have to save and go after their `sokhan train` was killed."""

Victim = Literal["rank 0", "rank 1", "sokhan", "launcher"]
"""``launcher`` is DeepSpeed's, between `sokhan train` and the ranks."""
KILL, TERM = signal.SIGKILL, signal.SIGTERM


@dataclass(frozen=True)
class Kill:
    """Who is sent what, and when."""

    victim: Victim
    signals: tuple[signal.Signals, ...]
    moment: Moment
    number: int = 1
    """At which occurrence of the moment in this start."""
    delay: float = 0.0
    """Seconds after it has begun."""

    def __str__(self) -> str:
        return f"{self.victim:8} {self.what:9} {self.moment}"

    @property
    def on_rank(self) -> bool:
        """Whether the victim is a rank."""
        return self.victim.startswith("rank")

    @property
    def what(self) -> str:
        """The signals in short."""
        return "+".join(number.name.removeprefix("SIG") for number in self.signals)


@dataclass
class Start:
    """One start of a run and how it ended."""

    kill: Kill | None
    """None: it was let alone, or ended before its kill."""
    step: int
    code: int
    seconds: float
    finished: bool
    """The run has its summary."""
    ending: bool = False
    """It was killed after its last validation, so it may have been too late to stop anything."""
    problems: list[str] = field(default_factory=list)


def draw(drawn: random.Random, reference: Reference, watched: Watched) -> Kill:
    """A kill that can still be placed in a run."""
    moments: dict[Moment, int] = {"start-up": 1, "opening": 1, "final": 3}
    if watched.validated() < reference.shape.validations:
        moments = {
            "start-up": 2,
            "opening": 2,
            "step": 5,
            "save": 5,
            "commit": 3,
            "validation": 3,
            "final": 2,
        }
    moment = drawn.choices(list(moments), list(moments.values()))[0]
    longest = {
        "start-up": reference.start_up,
        "opening": 0.3,
        "step": 0.2,
        "save": 0.3,
        "commit": 0.03,
        "validation": 0.3,
        "final": reference.final,
    }[moment]
    latest = {"step": 10, "save": 4, "commit": 4, "validation": 2}.get(moment, 1)
    signals = drawn.choices(
        [(KILL,), (TERM,), (signal.SIGUSR1,), (signal.SIGUSR2,), (TERM, TERM)], [12, 3, 2, 2, 1]
    )[0]
    victims: tuple[Victim, ...] = ("rank 0", "sokhan", "rank 1", "launcher")
    there = 4 if reference.recipe.ranks == 2 else 2
    victim = drawn.choices(victims[:there], [3, 2, 3, 1][:there])[0]
    return Kill(victim, signals, moment, drawn.randint(1, latest), drawn.uniform(0, longest))


def run_chain(
    reference: Reference,
    out: Path,
    next_kill: Callable[[Watched, int], Kill | None],
    tell: Callable[[Start], None] = lambda start: None,
) -> list[Start]:
    """Start a run again and again until it has finished or something was wrong. ``next_kill`` is given
    the run and the number of kills that have been placed in it."""
    out.mkdir(parents=True)
    run = reference.recipe.run(out)
    command = reference.recipe.command(reference.shards, out)
    starts: list[Start] = []
    while not starts or not (starts[-1].finished or starts[-1].problems):
        watched = Watched(run, reference.shape)
        newest = tags(run)[:1]
        placed = sum(start.kill is not None for start in starts)
        with launched(command, out / f"start-{len(starts) + 1}.txt") as started:
            start = _see_through(started, watched, next_kill(watched, placed))
        start.problems += _went_on(run, watched, newest)
        start.problems += compare(run, start, reference)
        starts.append(start)
        tell(start)
    return starts


def _see_through(started: Launched, watched: Watched, kill: Kill | None) -> Start:
    """Place the kill, wait for the end, and judge it."""
    began = time.monotonic()
    placed = kill if kill and _place(started, watched, kill) else None
    ending = watched.validated() == watched.shape.validations
    problems = []
    try:
        code = started.process.wait(TIME_OUT)
    except subprocess.TimeoutExpired:
        code, problems = -1, [f"still running after {TIME_OUT:g} s"]
    if not problems:
        problems = _left(started, VANISH if code < 0 else 0.0)
    finished = (watched.run / "summary.json").is_file()
    seconds = time.monotonic() - began
    start = Start(placed, watched.step(), code, seconds, finished, ending, problems)
    if not problems:
        start.problems += judge(start, started.output)
    return start


def _place(started: Launched, watched: Watched, kill: Kill) -> bool:
    """Wait for the moment and send the signals. False: the training ended first."""
    end = time.monotonic() + TIME_OUT

    def alive() -> bool:
        return started.process.poll() is None and time.monotonic() < end

    victim = None
    while alive() and victim is None:
        victim = _find(started, kill.victim)
        time.sleep(LOOK if victim else 0.1)
    if victim is None or not wait_for(watched, kill.moment, kill.number, kill.delay, alive):
        return False
    sent = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for number in kill.signals:
            time.sleep(min(kill.delay, 0.3) if sent else 0)
            victim.send_signal(number)
            sent += 1
    return sent > 0


def _find(started: Launched, victim: Victim) -> psutil.Process | None:
    with contextlib.suppress(psutil.Error, StopIteration):
        if victim == "sokhan":
            return psutil.Process(started.process.pid)
        if victim == "launcher":
            return started.launcher()
        return started.ranks().get(int(victim[-1]))
    return None


def _left(started: Launched, patience: float) -> list[str]:
    """Processes that outlive the command."""
    end = time.monotonic() + patience
    while (left := started.marked()) and time.monotonic() < end:
        time.sleep(0.1)
    return [f"process left: {process}" for process in left]


STOPPED = ("stopped after saving: ", "stopped before there was anything to save: ")
"""What a training says that was asked to stop, after its first step and before."""


def judge(start: Start, output: str) -> list[str]:
    """Is it the right exit code, and does the command say the right thing?"""
    kill, code, finished = start.kill, start.code, start.finished
    saved = any(words in output for words in STOPPED)
    if kill is None:
        right = code == 0 and finished
    elif finished and not start.ending:
        right = False
    elif code == 0:
        right = finished
    elif code == 75:
        right = saved and not finished and not (kill.on_rank and KILL in kill.signals)
    elif kill.victim == "sokhan":
        right = code in _codes_of_sokhan(kill)
    else:
        # A rank has no handlers yet in its first moments; launch.py's death may find it so, too.
        unprepared = kill.moment == "start-up" or kill.victim == "launcher"
        right = code == 1 and (kill.signals == (KILL,) or unprepared) and not saved
    problems = [] if right else [f"exit code {code}"]
    if code == 1 and kill is not None and kill.on_rank:
        problems += _names_victim(kill, output)
    if "Traceback" in output:
        problems.append("a traceback")
    return problems


def _codes_of_sokhan(kill: Kill) -> set[int]:
    """Exit codes of `sokhan train` when it is itself sent signals and does not say 0 or 75."""
    if KILL in kill.signals:
        return {-KILL}
    if len(kill.signals) > 1:
        return {128 + kill.signals[0]}
    if kill.moment == "start-up":  # it has no handlers yet, or there was nothing to save
        return {-kill.signals[0], 128 + kill.signals[0]}
    return set()


def _names_victim(kill: Kill, output: str) -> list[str]:
    """A rank that was killed must be named in the last line."""
    number = kill.victim[-1]
    last = output.rstrip().rpartition("\n")[2]
    words = (f"error: rank {number} (process ", f"error: rank(s) [{number}] did not start")
    return [] if last.startswith(words) else [f"rank {number} is not named: {last!r}"]


def _went_on(run: Path, watched: Watched, newest: Sequence[str]) -> list[str]:
    """Was the newest checkpoint used, if this start has come to use one?"""
    if not watched.listed():
        return []
    used = json.loads((run / "run.json").read_text())["starts"][-1]["checkpoint"]
    name = [Path(used).name] if used else []
    return [] if name == list(newest) else [f"went on from {name}, not {list(newest)}"]


def compare(run: Path, start: Start, reference: Reference) -> list[str]:
    """What must be as in the uninterrupted run: all in the end, and the metrics at every moment."""
    metrics = run / "metrics.jsonl"
    found = metrics.read_bytes() if metrics.is_file() else b""
    whole = found[: found.rfind(b"\n") + 1]
    if not reference.metrics.startswith(whole):
        return [f"metrics.jsonl differs after {len(whole)} bytes"]
    if not start.finished:
        return []
    own = results(run)
    wrong = [n for n in sorted({*own, *reference.files}) if own.get(n) != reference.files.get(n)]
    if wrong:
        return [f"not as in the uninterrupted run: {wrong}"]
    return untidy(run, reference.recipe.ranks if start.code == 0 else 0)


def make_reference(recipe: KilledRecipe, shards: Path, out: Path) -> Reference:
    """Run without any kill."""
    out.mkdir(parents=True)
    run = recipe.run(out)
    watched = Watched(run, Shape(frozenset(), 0, 0))
    began = time.monotonic()
    first = last = 0.0
    validated = 0
    with launched(recipe.command(shards, out), out / "start.txt") as started:
        while started.process.poll() is None:
            now = time.monotonic()
            assert now - began < TIME_OUT, started.output
            first = first or (now if watched.step() else 0.0)
            if watched.validated() > validated:
                validated, last = watched.validated(), now
            time.sleep(0.02)
        final = time.monotonic() - last
        assert started.process.returncode == 0, started.output
        assert not started.marked()
    assert not untidy(run, recipe.ranks), untidy(run, recipe.ranks)
    metrics = (run / "metrics.jsonl").read_bytes()
    return Reference(recipe, shards, metrics, results(run), first - began, final)


def _references(names: Sequence[str], folder: Path) -> Iterator[Reference]:
    """The recipes' references in turn, without end, each made when it is first wanted. Each is run
    twice: if those differed, differences of killed runs would mean nothing."""
    made: dict[str, Reference] = {}
    for name in itertools.cycle(names):
        if name not in made:
            recipe = RECIPES[name]
            shards = folder / recipe.kind
            if not shards.is_dir():
                make_shards(recipe.kind, shards)
            first, again = (make_reference(recipe, shards, folder / f"{name}-{word}") for word in ("a", "b"))
            if first.files != again.files:
                sys.exit(f"{name}: two uninterrupted runs differ: {first.files} {again.files}")
            print(f"{name}: two uninterrupted runs are the same", flush=True)
            made[name] = first
        yield made[name]


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--chain", type=int, default=4, help="kills of one run")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--folder", type=Path, help="where to; stays (default: a temporary one)")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="sokhan-kills-"))
    starts: list[Start] = []
    for chain, reference in enumerate(_references(options.recipes, folder.absolute()), 1):
        left = options.kills - sum(start.kill is not None for start in starts)
        if left <= 0:
            break
        name, limit = f"{options.seed}-{chain}", min(options.chain, left)
        starts += _run_drawn(name, reference, folder.absolute() / name, limit)
    failures = _summarize(starts)
    if not options.folder and not failures:
        shutil.rmtree(folder)
    return 1 if failures else 0


def _run_drawn(name: str, reference: Reference, out: Path, kills: int) -> list[Start]:
    """A chain of drawn kills, seeded by its name. Its files stay if something was wrong."""
    drawn = random.Random(name)

    def next_kill(watched: Watched, placed: int) -> Kill | None:
        return draw(drawn, reference, watched) if placed < kills else None

    starts = run_chain(reference, out, next_kill, lambda start: _print(name, reference, start))
    if not any(start.problems for start in starts):
        shutil.rmtree(out)
    return starts


def _print(chain: str, reference: Reference, start: Start) -> None:
    what = str(start.kill) if start.kill else "not killed"
    end = "finished" if start.finished else ""
    words = "; ".join(start.problems) and f"FAILED: {'; '.join(start.problems)}"
    print(
        f"{chain:6} {reference.recipe.name:15} {what:32} step {start.step:3}  exit {start.code:3} "
        f"{start.seconds:5.1f} s  {end} {words}".rstrip(),
        flush=True,
    )


def _summarize(starts: Sequence[Start]) -> int:
    """Print the counts; returns the number of failures."""
    kills = [start.kill for start in starts if start.kill]
    for title, words in {
        "victim": (kill.victim for kill in kills),
        "signals": (kill.what for kill in kills),
        "moment": (kill.moment for kill in kills),
        "exit code": (str(start.code) for start in starts if start.kill),
    }.items():
        counts = sorted(Counter(words).items())
        print(f"by {title}: {', '.join(f'{word} {count}' for word, count in counts)}")
    failures = sum(bool(start.problems) for start in starts)
    finished = sum(start.finished and not start.problems for start in starts)
    print(
        f"{len(kills)} kills in {len(starts)} starts; {finished} runs came out as if never killed; "
        f"{failures} failures"
    )
    return failures


if __name__ == "__main__":
    sys.exit(main())
