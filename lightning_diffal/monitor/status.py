"""`Status`: what a run is doing now, in one line that never falls silent."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightning_diffal._lightning import pl
from lightning_diffal.monitor.surfaces import PlainSurface, Surface, surface_for
from lightning_diffal.monitor.words import status_line
from lightning_diffal.utils.counts import several
from lightning_diffal.utils.phases import listening

__all__ = ["Status"]

_LEAST_SECONDS = 0.1  # between two pictures of the same phase on a terminal
_PLAIN_SECONDS = 30.0  # between two lines on the same phase in a log


class Status:
    """Shows each phase of a run when it begins, and how far it is. On the first process; others are silent.

    Args:
        place: gives the round, the last round (or `None`) and the number of labels.
        surface: where it appears. Default: nowhere yet; `attach` finds out.
        clock: seconds.
    """

    def __init__(
        self,
        place: Callable[[], tuple[int, int | None, int]],
        surface: Surface | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place
        self._surface: Surface | None = surface
        self._clock = clock
        self._phase = ""
        self._said: set[str] = set()
        self._drawn = float("-inf")

    def attach(self, trainer: pl.Trainer) -> None:
        """Appear where this Trainer's progress does.

        Args:
            trainer: about to fit.
        """
        self._surface = surface_for(trainer) if trainer.is_global_zero else None

    def phase(self, words: str, done: int | None = None, total: int | None = None) -> None:
        """Show what begins now, or how far it is.

        Args:
            words: what is being done; the same words for the same phase.
            done: how many units are done.
            total: of how many.
        """
        surface = self._surface
        if surface is None:
            return
        now = self._clock()
        if words == self._phase and done != total:
            wait = _LEAST_SECONDS if surface.changes else _PLAIN_SECONDS
            if now - self._drawn < wait:
                return
        if words == self._phase and not surface.changes and done == total:
            return  # a log needs no line on an end: the next phase is one
        if not surface.changes and words != self._phase:
            if words in self._said:
                return  # as choosing, which begins again once neighbours are found
            self._said.add(words)
        self._phase, self._drawn = words, now
        surface.show(self._line(words, done, total))

    def wait(self, waiting: int, read: int, seconds: float, deadline: float | None) -> None:
        """Show that people are waited for.

        Args:
            waiting: answers that are missing.
            read: answers read so far.
            seconds: until the next look.
            deadline: `time.monotonic()` at which the waiting ends; `None`: never.
        """
        surface = self._surface
        if surface is None:
            return
        until = "" if deadline is None else f"; until {self._time_of_day(deadline)}"
        phase = f"waiting for {several(waiting, 'answer')} ({read} read"
        if not surface.changes:  # once, and when something has come
            self.phase(f"{phase}{until})")
            return
        self._phase = ""
        surface.show(self._line(f"{phase}; next look in {max(1, round(seconds))} s{until})", None, None))

    def _time_of_day(self, deadline: float) -> str:
        left = datetime.timedelta(seconds=deadline - self._clock())
        now = datetime.datetime.now().astimezone()
        return f"{now + left:%H:%M}" if left < datetime.timedelta(hours=20) else f"{now + left:%d %b %H:%M}"

    def say(self, text: str) -> None:
        """Put down a line that stays, in whole.

        Args:
            text: whole sentences.
        """
        if self._surface is not None:
            self._surface.say(text)

    def training(self) -> None:
        """A round trains now, and Lightning's bar shows how."""
        if self._surface is not None:
            self._phase = ""
            self._said.clear()
            width = None if isinstance(self._surface, PlainSurface) else self._surface.width
            self._surface.head(self._line("training", None, None, width))

    def clear(self) -> None:
        """Nothing is being done any more."""
        self._phase = ""
        if self._surface is not None:
            self._surface.clear()

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Show what is announced inside, and take the line away in the end, also where something fails."""
        surface = self._surface
        if surface is None:
            yield
            return
        surface.open()
        try:
            with listening(self.phase):
                yield
        finally:
            self._phase = ""
            surface.close()

    def _line(self, words: str, done: int | None, total: int | None, width: int | None = None) -> str:
        round_, max_rounds, n_labelled = self._place()
        columns = width if width is not None or self._surface is None else self._surface.width
        return status_line(
            words,
            round_=round_,
            max_rounds=max_rounds,
            n_labelled=n_labelled,
            done=done,
            total=total,
            width=columns,
        )
