"""Messages of the package with the options of the command line in place of arguments of Python."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence

__all__ = ["options_of", "typed_options", "with_options"]

_OTHER_NAMES = {"callback_kwargs": "callback", "path": "data"}  # argument of Python: destination of the option


def options_of(parser: argparse.ArgumentParser, command: str) -> dict[str, str]:
    """The option that gives each argument, as it is typed in full.

    Args:
        parser: of `diffal`.
        command: one of its commands.
    """
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            own = [one for one in action.choices[command]._actions if one.option_strings]
            known: dict[str, str] = {}
            for one in own:
                if one.help != argparse.SUPPRESS:  # no older spelling
                    known.setdefault(one.dest, one.option_strings[-1])
            return known | {name: known[dest] for name, dest in _OTHER_NAMES.items() if dest in known}
    return {}


def typed_options(arguments: Sequence[str]) -> dict[str, str]:
    """The option that gave each argument of a class, of those that were typed: `--active.query_size` of `query_size`.

    Args:
        arguments: the command line.

    Example:
        >>> typed_options(["--active.query_size", "0", "--active.sampler.n_neighbors=3"])
        {'query_size': '--active.query_size', 'n_neighbors': '--active.sampler.n_neighbors'}
    """
    typed = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    return {name.rpartition(".")[2]: name for name in typed if "." in name}


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
