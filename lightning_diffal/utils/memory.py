"""Memory that is free in this process, but not yet for others."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

__all__ = ["give_back_memory"]


def give_back_memory() -> None:
    """Give freed memory back to the system where glibc keeps it, as it does of an index of thousands of lists.

    Example:
        >>> give_back_memory()
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
