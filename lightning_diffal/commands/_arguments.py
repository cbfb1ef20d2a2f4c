"""Kinds of arguments that several commands take."""

from __future__ import annotations

import argparse

__all__ = ["count"]


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
