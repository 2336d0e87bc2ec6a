"""The exceptions that users see: one line naming the file, row or key and what to do about it."""


class InputError(ValueError):
    """Something the user gave is wrong. The message is a single line; commands print it and exit 2."""

    def __init__(self, message: object) -> None:
        """What the message quotes may hold line breaks and what terminals obey: they are spelled out."""
        super().__init__("".join(_shown(mark) for mark in str(message)))


class MachineFault(RuntimeError):
    """A fault of a machine or of the scheduler, not of the training or of what the user gave: the same
    start may well do later. The message is a single line, too."""


def _shown(mark: str) -> str:
    # Persian words hold zero-width non-joiners.
    plain = mark.isprintable() or mark == "\u200c"
    return mark if plain else mark.encode("unicode_escape").decode()
