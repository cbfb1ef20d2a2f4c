"""Work in blocks on all cores: numpy and scipy let go of Python's lock in their loops."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["Each", "each", "number_of_threads", "slices", "team"]

Each = Callable[[Callable[[Any], None], Iterable[Any]], None]
"""A function like `each`."""

T = TypeVar("T")


def number_of_threads() -> int:
    """How many threads a search or a product takes: `OMP_NUM_THREADS` where it is set, else all cores allowed.

    Example:
        >>> number_of_threads() >= 1
        True
    """
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if told.isdecimal() and int(told):
        return int(told)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows do not bind processes to cores
        return os.cpu_count() or 1


def slices(size: int, block: int) -> list[slice]:
    """Consecutive slices that cover a range.

    Args:
        size: of the range.
        block: length of each but the last.

    Example:
        >>> slices(5, 2)
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + block, size)) for start in range(0, size, block)]


def each(action: Callable[[T], None], parts: Iterable[T]) -> None:
    """Call a function for every part, on all cores. What it writes must not overlap; the order is open.

    Args:
        action: spends its time in numpy or scipy.
        parts: its arguments.

    Raises:
        Exception: the first one that `action` raised.

    Example:
        >>> import numpy as np
        >>> squares = np.zeros(4)
        >>> def square(part): squares[part] = np.arange(4)[part] ** 2
        >>> each(square, slices(4, 2))
        >>> squares
        array([0., 1., 4., 9.])
    """
    parts = list(parts)
    if min(number_of_threads(), len(parts)) <= 1:
        _in_order(action, parts)
        return
    with team() as together:  # a kept one would be dead in forked processes
        together(action, parts)


@contextmanager
def team() -> Iterator[Each]:
    """`each` with threads that stay for as long as the block lasts: to start them takes a millisecond or two.

    Example:
        >>> import numpy as np
        >>> squares = np.zeros(4)
        >>> def square(part): squares[part] = np.arange(4)[part] ** 2
        >>> with team() as together: together(square, slices(4, 2))
        >>> squares
        array([0., 1., 4., 9.])
    """
    threads = number_of_threads()
    if threads <= 1:
        yield _in_order
        return
    with ThreadPoolExecutor(threads) as pool:

        def together(action: Callable[[Any], None], parts: Iterable[Any]) -> None:
            parts = list(parts)
            if len(parts) <= 1:
                _in_order(action, parts)
                return
            for _ in pool.map(action, parts):
                pass

        yield together


def _in_order(action: Callable[[Any], None], parts: Iterable[Any]) -> None:
    for part in parts:
        action(part)
