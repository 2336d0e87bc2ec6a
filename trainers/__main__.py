"""One rank: ``python -m trainers --config RECIPE... [--field.sub value ...]``.

Started alone it is a one-rank run; ``sokhan train``, ``deepspeed --module trainers``, torchrun and
srun start one a rank. Exit codes: 0 trained; 1 training failed; 2 the user's input is wrong; 75
stopped by a signal, all saved, to be started again to go on; 130 ended at once by a second Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
import traceback
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from configs.beginning import Beginning, add_options, read_options
from configs.errors import InputError, MachineFault
from configs.lifetime import end_with_parent
from configs.load import AnyRecipe, left_to_train, load_recipe, run_folder, to_yaml
from configs.rank_status import (
    FAILED,
    LAUNCHED_BY,
    STOPPED,
    TRAINED,
    WRONG_INPUT,
    State,
    report,
    withdraw,
)
from trainers.ranks.stopping import Stopped, StoppedEarly, watch_signals

if TYPE_CHECKING:
    from trainers.ranks.world import World

LAST_WORDS = 2.0
"""Seconds that a failed rank stays, so that others learn that the error has been told."""
_INTERRUPTED = 130
_STARTED_BY = os.getppid()


# Idle OpenMP threads must sleep, not spin: on shared cores spinning costs many times the work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@dataclass(frozen=True)
class Ending:
    """How this rank ends."""

    state: State
    code: int
    text: str = ""
    """What went wrong: one line, or a traceback."""


def main() -> int:
    """Train; returns the exit code."""
    watch_signals()
    if LAUNCHED_BY in os.environ:
        # The parent is DeepSpeed's launcher, which leads the session that `sokhan train` has made.
        end_with_parent(os.getsid(0))
    parser = argparse.ArgumentParser(prog="python -m trainers", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", nargs="+", required=True, metavar="RECIPE", help="files or shipped names")
    add_options(parser)
    parser.add_argument("--print_config", action="store_true", help="print the whole recipe and stop")
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)  # DeepSpeed's launcher adds it
    options, overrides = parser.parse_known_args(_told_apart(sys.argv[1:]))
    report("started")
    try:
        recipes = [load_recipe(name, overrides) for name in options.config]
        beginning = read_options(options, recipes)
    except InputError as error:
        _leave(Ending("failed", WRONG_INPUT, f"error: {error}"), None)
    if options.print_config:
        print("---\n".join(map(to_yaml, recipes)), end="")
        return TRAINED
    _train(recipes, beginning)


def _told_apart(words: list[str]) -> list[str]:
    """``--key=value`` with white space in its value, as two words: argparse takes a word that it does
    not know, and that holds a space, for one more recipe."""
    told: list[str] = []
    for word in words:
        split = word.startswith("--") and "=" in word and " " in word
        told += word.split("=", 1) if split else [word]
    return told


def _train(recipes: list[AnyRecipe], beginning: Beginning) -> NoReturn:
    """Train one recipe after the other in these processes, and leave."""
    sys.stdout, sys.stderr = _Output(sys.stdout), _Output(sys.stderr)  # type: ignore[assignment]
    world: World | None = None
    flags = " ".join(beginning.flags())
    try:
        from trainers.files.disk import telling_of_disks
        from trainers.ranks.world import join_world, leave_world
        from trainers.run import train

        world = join_world(timedelta(minutes=max(r.engine.timeout_minutes for r in recipes)))
        try:
            # Rank 0 decides: a run may be finished, or seen as such, between two ranks' looks.
            left = world.on_main(lambda: left_to_train(recipes, beginning.overwrite))
            for recipe in left:
                with telling_of_disks(run_folder(recipe)):
                    train(recipe, world, beginning)
            ending = Ending("finished", TRAINED)
        except Stopped as stopped:
            ending = Ending("saved", STOPPED)
            if world.main:
                print(_stopping(stopped, flags), flush=True)
        leave_world(world)
    except KeyboardInterrupt:
        ending = Ending("failed", _INTERRUPTED, "stopped at once: what was not saved is lost")
    except Exception as error:
        ending = _failure(error, world)
    _leave(ending, world)


def _stopping(stopped: Stopped, flags: str) -> str:
    """How a stopped run goes on. With nothing saved the flags still mean what they meant: an older run
    may still be there."""
    if isinstance(stopped, StoppedEarly):
        return f"stopped before there was anything to save: {stopped}; the same command starts it again"
    how = f"the same command{' without ' + flags if flags else ''} goes on"
    return f"stopped after saving: {stopped}; {how}"


def _failure(error: Exception, world: World | None) -> Ending:
    """What an error says: wrong input, a failed training, or the trouble of a machine or of another
    rank."""
    if isinstance(error, InputError):
        return Ending("failed", WRONG_INPUT, f"error: {error}")
    text = "".join(traceback.format_exception(error)).rstrip()
    if world is not None:
        from trainers.loop import TrainingFailed

        if isinstance(error, TrainingFailed):
            return Ending("failed", FAILED, f"error: {error}")
        if (hung := world.hung_ranks(error)) is not None:
            error = hung
        elif world.lost_peer(error):
            return Ending("lost_peer", FAILED, text)
    if isinstance(error, MachineFault):
        return Ending("hung_peer", FAILED, f"error: {error}")
    return Ending("failed", FAILED, text)


class _Output:
    """A text stream whose reader may go (a closed terminal, a killed ``tee``): that must not end a
    training."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _leave(ending: Ending, world: World | None) -> NoReturn:
    """Tell how it ended and end this process.

    At once: all is written and closed, and tearing the interpreter down under DeepSpeed's ZeRO 3
    aborts now and then, and waits for ever for helpers that are hung.
    """
    told = report(ending.state, ending.text, ending.code)
    if told and os.getppid() not in (_STARTED_BY, int(os.environ.get(LAUNCHED_BY, "0"))):
        withdraw()  # `sokhan train` was killed, and has left this rank to the system
        told = False
    if ending.text and not told:
        speaks = world.first_to_fail() if world else os.environ.get("RANK", "0") == "0"
        if speaks:
            print(ending.text, file=sys.stderr)
    if ending.text and world and world.size > 1:
        time.sleep(LAST_WORDS)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ending.code)


if __name__ == "__main__":
    sys.exit(main())
