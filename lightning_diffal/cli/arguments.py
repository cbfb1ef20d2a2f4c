"""Kinds of arguments that several commands take."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_seeds", "count", "fractions", "older_spelling"]


def add_seeds(parser: Any) -> None:
    """Add `--seeds`, which names several, and `--seed`, which names one: as everywhere, a seed and no number of them.

    Args:
        parser: a parser, or a group of one.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_seeds(parser)
        >>> parser.parse_args(["--seeds", "5-14"]).seeds, parser.parse_args(["--seed", "7"]).seeds
        ('5-14', '7,')
    """
    parser.add_argument("--seeds", help="5 for the seeds 0 to 4, or 5-14, or 3,7,11 (default: 5)")
    parser.add_argument(
        "--seed", dest="seeds", type=_one_seed, default=argparse.SUPPRESS, metavar="N", help="this one seed alone"
    )


def _one_seed(text: str) -> str:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, but got {text!r}")
    return f"{text},"


def older_spelling(parser: Any, name: str, **settings: Any) -> None:
    """Take an option under the name that it had, without telling of it.

    Args:
        parser: a parser, or a group of one.
        name: as it was typed.
        **settings: of `add_argument`.
    """
    parser.add_argument(name, help=argparse.SUPPRESS, default=argparse.SUPPRESS, **settings)


def count(text: str) -> int:
    """A whole number of at least 1.

    Args:
        text: as it was typed.

    Raises:
        ArgumentTypeError: anything else.

    Example:
        >>> count("12")
        12
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, but got {text!r}")
    return int(text)


def fractions(text: str) -> tuple[float, ...]:
    """Numbers between 0 and 1, separated by commas.

    Args:
        text: as it was typed.

    Raises:
        ArgumentTypeError: anything else.

    Example:
        >>> fractions("0.8,0.95")
        (0.8, 0.95)
    """
    try:
        found = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        found = ()
    if not found or not all(0 < value <= 1 for value in found):
        raise argparse.ArgumentTypeError(f"expected numbers between 0 and 1, such as 0.8,0.9, but got {text!r}")
    return found
