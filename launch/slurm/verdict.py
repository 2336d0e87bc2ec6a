"""How a start of a member has ended, judged from its ranks' own words and from what was saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from configs.load import SUMMARY
from configs.rank_status import FAILED, STOPPED, TRAINED, RankStatus
from launch.last_words import errors
from launch.slurm.submission import Attempt, Member, Outcome, Submission

FRUITLESS = 3
"""So many starts in a row that save nothing new, and the job is not started again."""


@dataclass(frozen=True)
class Verdict:
    """How a start has ended."""

    outcome: Outcome
    code: int
    words: str = ""
    again: bool = False
    """Whether the member is to be started again."""


def judge(submission: Submission, member: Member, attempt: Attempt, code: int | None) -> Verdict:
    """``code`` is srun's: the highest of all ranks, so it only explains what they do not say. None: the
    batch script was killed, and srun with it, while ranks may still be saving."""
    words = attempt.statuses(member.ranks)
    failed = [word for word in words.values() if word.state == "failed"]
    if failed:
        return Verdict("failed", failed[0].code, "\n".join(errors(failed)))
    if (member.run / SUMMARY).is_file() and "finished" in {word.state for word in words.values()}:
        return Verdict("finished", TRAINED)
    if any(word.state == "saved" for word in words.values()):
        return Verdict("saved", STOPPED, again=True)
    hung = [word for word in words.values() if word.state == "hung_peer"]
    lines = errors(hung) or (
        ["error: the batch script was killed"] if code is None else _silent(words, member.ranks, code)
    )
    failures = sum(earlier.end.get("cause") == "failure" for earlier in submission.attempts(member))
    allowed = int(submission.settings["failures"])
    if failures >= allowed:
        lines.append(f"error: not started again after {failures} failures (--slurm.failures)")
    return Verdict("killed", FAILED, "\n".join(lines), again=failures < allowed)


def fruitless(attempts: Sequence[Attempt], checkpoint: str | None) -> bool:
    """Whether the last starts have left the run where they found it."""
    found = [attempt.start.get("checkpoint") for attempt in attempts[-FRUITLESS:]]
    return len(found) == FRUITLESS and set(found) == {checkpoint}


def _silent(words: Mapping[int, RankStatus], ranks: int, code: int) -> list[str]:
    quiet = [rank for rank in range(ranks) if rank not in words or words[rank].state == "started"]
    names = ", ".join(map(str, quiet[:8])) + (" ..." if len(quiet) > 8 else "")
    if quiet:
        return [f"error: rank {names} ended without a word, perhaps killed or out of memory (srun {code})"]
    return [f"error: ranks lost their connections to each other (srun {code})"]
