"""What people said of each point, and what it amounts to: open, labelled, skipped or in conflict. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Answers", "Event", "PointAnswers", "Status"]

Status = Literal["open", "labelled", "skipped", "conflict"]
Event = dict[str, Any]

_ANSWERS = ("label", "skip")


@dataclass
class PointAnswers:
    """What stands for one point.

    Args:
        key: of the point.
        version: how many events concern it: who answers says which version they saw.
        standing: by person, the classes they gave; `None` for "nobody can tell".
        note: the last one that somebody wrote.
    """

    key: str
    version: int = 0
    standing: dict[str, tuple[int, ...] | None] = field(default_factory=dict)
    note: str = ""

    @property
    def status(self) -> Status:
        """Open, labelled, skipped, or in conflict where two people said different things."""
        values = set(self.standing.values())
        if not values:
            return "open"
        if len(values) > 1:
            return "conflict"
        return "skipped" if values == {None} else "labelled"

    @property
    def label(self) -> tuple[int, ...] | None:
        """The classes, where the point is labelled."""
        return next(iter(self.standing.values())) if self.status == "labelled" else None


class Answers:
    """All events in their order, and what they amount to.

    An answer to a point that somebody else has answered otherwise in the meantime is a conflict: neither counts until
    somebody who has seen both settles it. Whoever has seen what stands may replace it.

    Example:
        >>> answers = Answers()
        >>> for who, label in (("ann", [0]), ("bob", [1])):
        ...     event = {"uid": who, "key": "k", "who": who, "action": "label", "label": label, "base": 0}
        ...     answers.add(answers.decided(event))
        >>> answers.of("k").status
        'conflict'
        >>> answers.add(answers.decided({**event, "uid": "3", "base": 2}))
        >>> answers.of("k").status, answers.of("k").label
        ('labelled', (1,))
    """

    def __init__(self) -> None:
        self.uids: set[str] = set()
        self.classes: list[str] = []
        """Names of classes that were added on the page."""
        self._events: dict[str, list[Event]] = {}
        self._undone: set[str] = set()
        self._points: dict[str, PointAnswers] = {}
        self._by_person: dict[str, list[Event]] = {}

    def of(self, key: str) -> PointAnswers:
        """What stands for a point."""
        return self._points.get(key) or PointAnswers(key)

    @property
    def points(self) -> Mapping[str, PointAnswers]:
        """All points that somebody said something of."""
        return self._points

    def decided(self, event: Event) -> Event:
        """The event with its effect on what stands: it is written down so, and means the same whenever it is read.

        Args:
            event: not known yet.
        """
        if event["action"] not in _ANSWERS:
            return event
        point = self.of(event["key"])
        others = {who: said for who, said in point.standing.items() if who != event["who"]}
        said = _said(event)
        blind = event["base"] != point.version and any(other != said for other in others.values())
        agrees = bool(others) and all(other == said for other in others.values())
        return {**event, "effect": "beside" if blind or agrees else "replace"}

    def add(self, event: Event) -> None:
        """Take in an event. One that is known already changes nothing."""
        if event["uid"] in self.uids:
            return
        self.uids.add(event["uid"])
        if event["action"] == "class":
            self.classes.append(event["name"])
            return
        key = event["key"]
        self._events.setdefault(key, []).append(event)
        if event["action"] == "undo":
            self._undone.add(event["undoes"])
        else:
            self._by_person.setdefault(event["who"], []).append(event)
        self._points[key] = self._folded(key)

    def last_of(self, who: str) -> Event | None:
        """The last answer of a person that was not undone."""
        said = self._by_person.get(who, [])
        while said and said[-1]["uid"] in self._undone:
            said.pop()
        return next((e for e in reversed(said) if e["uid"] not in self._undone and e["action"] in _ANSWERS), None)

    def count_of(self, who: str) -> int:
        """How many points a person has answered."""
        return sum(who in point.standing for point in self._points.values())

    def _folded(self, key: str) -> PointAnswers:
        events = self._events[key]
        point = PointAnswers(key, version=len(events))
        for event in events:
            if event["uid"] in self._undone or event["action"] == "undo":
                continue
            if event.get("note") is not None:
                point.note = event["note"]
            if event["action"] not in _ANSWERS:
                continue
            if event["effect"] == "replace":
                point.standing.clear()
            point.standing[event["who"]] = _said(event)
        return point


def _said(event: Event) -> tuple[int, ...] | None:
    return tuple(event["label"]) if event["action"] == "label" else None
