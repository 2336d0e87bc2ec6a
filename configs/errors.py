"""The one exception that users see: one line naming the file, row or key and what to do about it."""


class InputError(ValueError):
    """Something the user gave is wrong. The message is a single line; commands print it and exit 2."""
