"""Numbers of things, in words."""

from __future__ import annotations

__all__ = ["several"]


def several(count: int, noun: str) -> str:
    """A number of things: of one, the noun stays as it is.

    Args:
        count: how many.
        noun: in the singular; its plural ends in `s`.

    Example:
        >>> several(1, "label"), several(1200, "point")
        ('1 label', '1,200 points')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
