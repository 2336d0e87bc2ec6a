"""The parser of every command: an option is given by its whole name, and wrong words are told in one line
with the nearest right one."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from configs.rank_status import WRONG_INPUT


class Command(argparse.ArgumentParser):
    """`sokhan` or one of its commands. ``parser`` of what it parses is the innermost one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})
        self.set_defaults(parser=self)
        self.typed: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but remembers what was typed, for `error`."""
        self.typed = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """One line, and the exit code of wrong input."""
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        if choice and (hint := did_you_mean(choice[1], re.findall(r"[\w.-]+", choice[2]))):
            message = message.partition(" (choose from")[0] + hint
        if "required" in message:  # what is missing may be there, misspelt
            near = ((word, did_you_mean(word, self._options())) for word in self._unknown(self.typed))
            message = next((f"unknown option {word}{hint}" for word, hint in near if hint), message)
        self.exit(WRONG_INPUT, f"error: {self.prog}: {message}; see `{self.prog} --help`\n")

    def refuse(self, words: Sequence[str]) -> NoReturn:
        """What no option or argument of the command takes."""
        if unknown := self._unknown(words):
            self.error(f"unknown option {unknown[0]}{did_you_mean(unknown[0], self._options())}")
        self.error(f"does not take {' '.join(words)}")

    def _unknown(self, words: Iterable[str]) -> list[str]:
        flags = [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
        return [flag for flag in flags if flag not in self._options()]

    def _options(self) -> list[str]:
        """All options by their names, as the help lists them."""
        listed = re.findall(r"^ {2}(-.*?)(?: {2}|$)", self.format_help(), re.MULTILINE)
        return [option for line in listed for option in re.findall(r"(?:^|, )(--?[\w.-]+)", line)]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about a word that nobody knows."""
    near = difflib.get_close_matches(word, list(known), 1, 0.6)
    return f"; did you mean {near[0]}?" if near else ""
