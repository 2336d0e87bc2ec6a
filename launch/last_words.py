"""What ranks said at their end, as it is to be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from configs.rank_status import RankStatus


def errors(failed: Iterable[RankStatus]) -> list[str]:
    """Each different error once; a traceback's last line says whose it is."""
    failed = list(failed)
    return [_words(failed, text) for text in dict.fromkeys(status.text for status in failed)]


def last_line(words: str | None) -> str:
    """The last line of an error that is not blank; empty if there is none."""
    lines = [line.strip() for line in (words or "").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _words(failed: Sequence[RankStatus], text: str) -> str:
    if last_line(text).startswith("error: "):
        return text
    first = next(status for status in failed if status.text == text)
    return f"{text}\nerror: rank {first.rank} (process {first.pid}) failed: {last_line(text)}"
