"""Kinds of arguments that several commands take."""

from __future__ import annotations

import argparse

__all__ = ["count", "fractions"]


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
