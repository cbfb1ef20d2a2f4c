"""Long work says what it is doing, to whoever is listening.

Samplers, the neighbour search and the feature pass call `announce`; they know nothing of terminals. In a run,
`lightning_diffal.monitor` listens and shows it. Without a listener a call costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["Listener", "announce", "listening"]

Listener = Callable[[str, int | None, int | None], None]
"""Gets what is being done, and how many of how many units of it are done where that is known."""

_listener: ContextVar[Listener | None] = ContextVar("lightning_diffal_phases", default=None)


def announce(words: str, done: int | None = None, total: int | None = None) -> None:
    """Say what begins now, or how far it is.

    Args:
        words: what is being done, in a few words: `"searching neighbours"`.
        done: how many units are done.
        total: of how many.

    Example:
        >>> with listening(lambda words, done, total: print(words, done, total)):
        ...     announce("reading features", 640, 1297)
        reading features 640 1297
    """
    listener = _listener.get()
    if listener is not None:
        listener(words, done, total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hear what is announced inside.

    Args:
        listener: called with the arguments of `announce`.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
