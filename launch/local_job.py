"""One member on this machine: ``python -m launch.local_job SUBMISSION MEMBER``, begun and ended as a
job of the cluster is, but never requeued."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from configs.access import writing_run
from configs.beginning import add_options, read_options
from configs.errors import InputError
from configs.rank_status import JOB, STOPPED, TRAINED, WRONG_INPUT
from launch.last_words import errors
from launch.local import train
from launch.slurm.attempt import begin, close
from launch.slurm.submission import Attempt, Member, Submission
from launch.slurm.verdict import Verdict


def main(folder: Path, number: int) -> int:
    """Train the member; returns the exit code of `sokhan train`."""
    submission = Submission(folder)
    member = submission.members[number]
    with writing_run(folder):
        attempt = begin(submission, member)
    if attempt.end:
        return int(attempt.end["code"])
    os.environ[JOB] = submission.start_id(member)
    parser = argparse.ArgumentParser()
    add_options(parser)
    options = parser.parse_args(attempt.start["flags"])
    words = ""
    try:
        code = train(
            [str(member.recipe_file)],
            [],
            ranks=member.ranks,
            beginning=read_options(options, [member]),
            command=submission.settings["command"],
            words=attempt.folder,
        )
    except InputError as error:
        code, words = WRONG_INPUT, f"error: {error}"
        print(words, file=sys.stderr)
    with writing_run(folder):
        close(attempt, _verdict(attempt, member, code, words), told=True)
    return code


def _verdict(attempt: Attempt, member: Member, code: int, words: str) -> Verdict:
    if code == TRAINED:
        return Verdict("finished", code)
    if code == STOPPED:
        return Verdict("saved", code)
    said = attempt.statuses(member.ranks).values()
    failed = [word for word in said if word.state in ("failed", "hung_peer")]
    if failed or words:
        return Verdict("failed", code, words or "\n".join(errors(failed)))
    return Verdict("killed", code, "error: a rank ended without a word, perhaps killed")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
