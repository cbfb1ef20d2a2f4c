"""The run's journal: every query and every label, on disk the moment it is given.

Append-only JSON lines, each flushed to the disk before anything acts on it. A checkpoint knows how many lines it has
seen; what stands behind them happened after it, and is replayed instead of being computed or bought again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal._lightning import rank_zero_warn
from lightning_diffal.exceptions import ResumeError
from lightning_diffal.samplers.base import Query

__all__ = ["FILENAME", "FORMAT", "Journal", "query_event", "query_from_event", "read_events"]

FILENAME = "journal.jsonl"
FORMAT = 1

Event = dict[str, Any]


class Journal:
    """One run's lines, and how many of them the present state contains.

    Args:
        path: of the file.
        events: its lines, the header first.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     journal = Journal.create(Path(folder) / FILENAME, {"run": "a1", "n_points": 5})
        ...     journal.record({"kind": "skip", "indices": [3], "round": 1})
        ...     again = Journal.open(Path(folder) / FILENAME)
        >>> again.run, len(again), again.behind
        ('a1', 2, 0)
    """

    def __init__(self, path: Path, events: list[Event]) -> None:
        self.path = path
        self.events = events
        self.position = len(events)
        self._size = path.stat().st_size if events else 0  # bytes, to notice whoever else writes

    def __len__(self) -> int:
        return len(self.events)

    @classmethod
    def create(cls, path: Path, header: Mapping[str, Any]) -> Journal:
        """Begin a journal.

        Args:
            path: a file that does not exist yet; missing folders are made.
            header: which run and which data set this is.

        Raises:
            ResumeError: the file exists.
        """
        if path.exists():
            raise ResumeError(f"{path} holds the journal of another run: give another `run_dir`.")
        path.parent.mkdir(parents=True, exist_ok=True)
        journal = cls(path, [])
        journal._append({"kind": "header", "format": FORMAT, **header})
        _sync_folder(path.parent)
        return journal

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Read a journal. A last line that a killed process left unfinished is dropped, with a warning.

        Raises:
            ResumeError: a line that is no event, or no header of a known format.
        """
        events, torn = read_events(path)
        if torn:
            rank_zero_warn(
                f"The last line of {path} was cut off when the run was killed, and is dropped: {torn[:80]!r}"
            )
            with path.open("rb+") as file:
                file.truncate(path.stat().st_size - len(torn))
                os.fsync(file.fileno())
        return cls(path, events)

    @property
    def header(self) -> Event:
        """The first line."""
        return self.events[0]

    @property
    def run(self) -> str:
        """The run's id."""
        return str(self.header["run"])

    @property
    def behind(self) -> int:
        """How many lines happened after the present state."""
        return len(self.events) - self.position

    def rewind(self, position: int) -> None:
        """Go back to where a checkpoint was written; what follows will be replayed.

        Raises:
            ResumeError: the journal is shorter than it was then.
        """
        if not 1 <= position <= len(self.events):
            raise ResumeError(
                f"The checkpoint has seen {position} lines of the journal, but {self.path} holds {len(self.events)}: "
                "it is not the journal of this run, or lines were taken out of it."
            )
        self.position = position

    def record(self, event: Event) -> None:
        """Write down what happens now. While the run is behind its journal, it must be what happened then.

        Raises:
            ResumeError: it is something else.
        """
        if self.behind:
            if self.events[self.position] != event:
                raise ResumeError(
                    f"Line {self.position + 1} of {self.path} says that something else happened here "
                    f"({self.events[self.position]['kind']}, not {event['kind']}): resume from the last checkpoint, or "
                    'take another course with `ActiveLearning(on_journal_ahead="branch")`.'
                )
            self.position += 1
            return
        self._append(event)

    def next_event(self, kinds: Sequence[str], round_: int | None = None) -> Event | None:
        """The next line to replay if it is of one of these kinds; it counts as replayed then.

        Args:
            kinds: that are wanted.
            round_: where a line says of which round it is, it must be this one.
        """
        event = self.events[self.position] if self.behind else None
        if event is None or event["kind"] not in kinds or (round_ is not None and event.get("round", round_) != round_):
            return None
        self.position += 1
        return event

    def _append(self, event: Event) -> None:
        line = (json.dumps(event, separators=(",", ":")) + "\n").encode()
        with self.path.open("ab") as file:
            if file.tell() != self._size:
                raise ResumeError(
                    f"Another process has written to {self.path} since this one read it: let one run at a time write "
                    "there, and start this one again, which then goes on from what the other did."
                )
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._size += len(line)
        self.events.append(json.loads(line))
        self.position += 1


def read_events(path: Path) -> tuple[list[Event], bytes]:
    """The lines of a journal, the header first, and what a process left of an unfinished one. Changes nothing.

    Args:
        path: of the file.

    Raises:
        ResumeError: a line that is no event, or no header of a known format.
    """
    whole, _, torn = path.read_bytes().rpartition(b"\n")
    events = [_parsed(line, path, number) for number, line in enumerate(whole.split(b"\n") if whole else [], start=1)]
    if not events or events[0].get("kind") != "header" or events[0].get("format") != FORMAT:
        raise ResumeError(f"{path} does not begin with the header of a journal of format {FORMAT}.")
    return events, torn


def query_event(query: Query, round_: int, ids: Sequence[str] | None) -> Event:
    """A query as a line of the journal.

    Example:
        >>> event = query_event(Query([4], [0.5], {"margin": np.array([0.25], np.float32)}), 2, ["img/4.png"])
        >>> query_from_event(event).details["margin"]
        array([0.25], dtype=float32)
    """
    return {
        "kind": "query",
        "round": round_,
        "indices": query.indices.tolist(),
        "ids": None if ids is None else list(ids),
        "scores": query.scores.tolist(),
        "details": {name: {"dtype": v.dtype.str, "values": v.tolist()} for name, v in query.details.items()},
        "summary": {name: float(value) for name, value in query.summary.items()},
    }


def query_from_event(event: Event) -> Query:
    """The query that `query_event` wrote, with the types it had."""
    details: dict[str, npt.NDArray[Any]] = {
        name: np.array(saved["values"], dtype=np.dtype(saved["dtype"])) for name, saved in event["details"].items()
    }
    return Query(event["indices"], event["scores"], details, event["summary"])


def _parsed(line: bytes, path: Path, number: int) -> Event:
    try:
        event = json.loads(line)
    except ValueError as error:
        raise ResumeError(f"Line {number} of {path} is no event: {error}. Restore the file from a backup.") from None
    if not isinstance(event, dict) or "kind" not in event:
        raise ResumeError(f"Line {number} of {path} is no event: {line[:80]!r}. Restore the file from a backup.")
    return event


def _sync_folder(folder: Path) -> None:
    """Make a new file's name last, where the operating system lets a folder be synced."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
