"""Who has which point before them: two people at once get different ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

__all__ = ["Leases"]


class Leases:
    """Each point is leased to one person, and returns after a while.

    Args:
        seconds: until a point returns to whoever asks next.
        clock: seconds that only grow.

    Example:
        >>> now = [0.0]
        >>> leases = Leases(60, clock=lambda: now[0])
        >>> leases.next(["a", "b"], "ann"), leases.next(["a", "b"], "bob"), leases.next(["a", "b"], "eve")
        ('a', 'b', None)
        >>> now[0] = 61
        >>> leases.next(["a", "b"], "eve")
        'a'
    """

    def __init__(self, seconds: float = 120.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._held: dict[str, tuple[str, float]] = {}

    def next(self, keys: Iterable[str], who: str, avoid: frozenset[str] = frozenset()) -> str | None:
        """The first point that nobody else has, leased from now on; one that the person has already goes first.

        Args:
            keys: of open points, in the order of choice.
            who: asks.
            avoid: points that are put off, or wait in the person's browser to be sent.
        """
        now = self._clock()
        self._held = {key: (whose, until) for key, (whose, until) in self._held.items() if until > now}
        free = [key for key in keys if key not in avoid and self._held.get(key, (who, 0.0))[0] == who]
        mine = [key for key in free if key in self._held]  # as after a reload
        found = next(iter(mine or free), None)
        if found is not None:
            self._held[found] = (who, now + self.seconds)
        return found

    def renew(self, key: str, who: str) -> bool:
        """Keep a point; `False` where it has gone to somebody else."""
        whose, until = self._held.get(key, (who, 0.0))
        if whose != who and until > self._clock():
            return False
        self._held[key] = (who, self._clock() + self.seconds)
        return True

    def release(self, key: str, who: str) -> None:
        """Give a point back."""
        if self._held.get(key, ("", 0.0))[0] == who:
            del self._held[key]

    def holder(self, key: str) -> str | None:
        """Who has a point."""
        whose, until = self._held.get(key, ("", 0.0))
        return whose if until > self._clock() else None
