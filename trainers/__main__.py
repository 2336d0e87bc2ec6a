"""One rank: ``python -m trainers --config RECIPE... [--field.sub value ...]``.

Started alone it is a one-rank run; ``sokhan train``, ``deepspeed --module trainers``, torchrun and
srun start one a rank.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from configs.errors import InputError
from configs.lifetime import end_with_parent
from configs.load import AnyRecipe, load_recipe, to_yaml

LAST_WORDS = 2.0
"""Seconds that a failed rank stays, so that others learn that the error has been told."""


# Idle OpenMP threads must sleep, not spin: on shared cores spinning costs many times the work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main() -> int:
    """Exit code 0: trained; 1: training failed; 2: the user's input is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m trainers", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--config", nargs="+", required=True, metavar="RECIPE", help="files or shipped names"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a finished run of the same name"
    )
    parser.add_argument(
        "--print_config", action="store_true", help="print the whole recipe and stop"
    )
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)  # DeepSpeed's launcher adds it
    options, overrides = parser.parse_known_args()
    try:
        recipes = [load_recipe(name, overrides) for name in options.config]
        if options.print_config:
            print("---\n".join(map(to_yaml, recipes)), end="")
            return 0
        return _train(recipes, options.overwrite)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2


def _train(recipes: list[AnyRecipe], overwrite: bool) -> int:
    """Train one recipe after the other in these processes."""
    from trainers.loop import TrainingFailed
    from trainers.run import train
    from trainers.world import join_world, leave_world

    if "SOKHAN_END_WITH_PARENT" in os.environ:
        end_with_parent()
    world = join_world()
    try:
        for recipe in recipes:
            folder = train(recipe, world, overwrite)
            (folder / "ranks" / f"{world.rank}.done").touch()
    except (InputError, TrainingFailed) as error:
        if world.first_to_fail():
            print(f"error: {error}", file=sys.stderr, flush=True)
        time.sleep(LAST_WORDS * (world.size > 1))
        return 2 if isinstance(error, InputError) else 1
    except RuntimeError:
        # A peer that has failed closes its connections; it has said why.
        if world.first_to_fail():
            raise
        return 1
    leave_world()
    # All is written and closed. Tearing down the interpreter under DeepSpeed's ZeRO 3 aborts now
    # and then, which a launcher would take for a failed training.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
