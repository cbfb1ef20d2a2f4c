"""Marks that stand where a label would: not answered yet, and nobody can tell."""

from __future__ import annotations

from typing import Final

__all__ = ["PENDING", "SKIP"]


class _Mark:
    """A value that stands for itself, and is the same object everywhere."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        return self.name


PENDING: Final = _Mark("PENDING")
"""What an oracle answers for a point that has no label yet."""

SKIP: Final = _Mark("SKIP")
"""What an oracle answers for a point whose label nobody can tell: it is not asked again."""
