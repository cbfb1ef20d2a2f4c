"""Messages of the package with the options of the command line in place of arguments of Python."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping

__all__ = ["options_of", "with_options"]

_OTHER_NAMES = {"callback_kwargs": "callback", "path": "data"}  # argument of Python: destination of the option


def options_of(parser: argparse.ArgumentParser, command: str) -> dict[str, str]:
    """The option that gives each argument, as it is typed in full.

    Args:
        parser: of `diffal`.
        command: one of its commands.
    """
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            known = {own.dest: own.option_strings[-1] for own in action.choices[command]._actions if own.option_strings}
            return known | {name: known[dest] for name, dest in _OTHER_NAMES.items() if dest in known}
    return {}


def with_options(message: str, options: Mapping[str, str]) -> str:
    """A message that names the options instead of the arguments of Python.

    Args:
        message: of an error of this package.
        options: of each argument.

    Example:
        >>> with_options("Expected argument `metric` to be ..., or `key`, but not `seed`", {"metric": "--metric"})
        'Expected --metric to be ..., or `key`, but not `seed`'
    """

    def typed(found: re.Match[str]) -> str:
        return options.get(found[1], found[0])

    return re.sub(r"(?:argument )?`(\w+)`", typed, message)
