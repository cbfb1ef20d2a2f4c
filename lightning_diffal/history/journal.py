"""The run's journal: every query and every label, on disk the moment it is given.

Append-only lines, each flushed to the disk before anything acts on it. A checkpoint knows how many lines it has seen;
what stands behind them happened after it, and is replayed instead of being computed or bought again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning_diffal._lightning import rank_zero_warn
from lightning_diffal.exceptions import ResumeError, StorageError
from lightning_diffal.history.lines import FORMAT, Event, encode_line, read_events, read_journal, same_event
from lightning_diffal.history.queries import IN_JOURNAL
from lightning_diffal.samplers.base import Query
from lightning_diffal.utils.storage.files import replacing
from lightning_diffal.utils.storage.locks import FileLock

__all__ = ["FILENAME", "FORMAT", "LOCK", "Journal", "query_event", "query_from_event", "read_events"]

FILENAME = "journal.jsonl"
LOCK = "writer.lock"
"""The file beside it that its writer locks."""

_PATIENCE = 3.0  # seconds for a writer that is just ending


class Journal:
    """One run's lines, and how many of them the present state contains. Only one process at a time may hold it.

    Args:
        path: of the file.
        events: its lines, the header first.
        size: bytes of these lines.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     journal = Journal.create(Path(folder) / FILENAME, {"run": "a1", "n_points": 5})
        ...     journal.record({"kind": "skip", "indices": [3]})
        ...     again = Journal.open(Path(folder) / FILENAME)
        >>> again.run, len(again), again.behind
        ('a1', 2, 0)
    """

    def __init__(self, path: Path, events: list[Event], size: int) -> None:
        self.path = path
        self.events = events
        self.position = len(events)
        self.lock = FileLock(path.with_name(LOCK))
        self._size = size  # bytes, to notice whoever else writes
        self._has_failed = False  # to write a line, or to take half of one back

    def __len__(self) -> int:
        return len(self.events)

    @classmethod
    def create(cls, path: Path, header: Mapping[str, Any]) -> Journal:
        """Begin a journal, and hold it.

        Args:
            path: a file that does not exist yet, or whose header was never written to its end; missing folders are
                made.
            header: which run and which data set this is.

        Raises:
            ResumeError: the file holds a journal, or another process holds it.
            StorageError: it cannot be written.
        """
        journal = cls(path, [], 0)
        event = {"kind": "header", "format": FORMAT, **header}
        line = encode_line(event, 1)
        with journal._holding():
            if path.exists() and read_journal(path).events:
                raise ResumeError(f"{path} holds the journal of another run: give another `run_dir`.")
            with storing(path), replacing(path) as temporary:
                temporary.write_bytes(line)
            with suppress(OSError):  # a file system that cannot
                _sync_folder(path.parent)
        journal._take_in(event, line)
        journal.position = 1
        return journal

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Hold a journal and read it. A last line that a killed process left unfinished is dropped, with a warning.

        Raises:
            ResumeError: another process holds it; a damaged line, or no header of a known format.
            StorageError: it cannot be mended.
        """
        journal = cls(path, [], 0)
        with journal._holding():
            read_events(path)  # refuses one that has no header
            journal._mend()
        journal.position = len(journal.events)
        return journal

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

    def where(self) -> str:
        """The line that was replayed last, in words."""
        return f"Line {self.position} of {self.path}"

    def hold(self) -> None:
        """Become its only writer, until `release` or until this process ends.

        Raises:
            ResumeError: another process is.
            StorageError: the folder cannot be written to.
        """
        with storing(self.lock.path):
            if not self.lock.acquire(_PATIENCE):
                raise ResumeError(
                    f"The run in {self.path.parent} is being written by another process ({self.lock.holder()}): let "
                    "it end, or end it; this one then goes on from where it was."
                )
        if not self.lock.is_supported:
            rank_zero_warn(
                f"The file system of {self.path.parent} cannot lock files, so see to it that one process at a time "
                "works with this run."
            )

    @contextmanager
    def _holding(self) -> Iterator[None]:
        """Hold it from here on, unless something fails inside."""
        self.hold()
        try:
            yield
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let others write; what is recorded all the same is written where nobody has done so."""
        self.lock.release()

    def resume(self) -> None:
        """Hold it again in a later fit of the same process; what others wrote meanwhile is there to be replayed.

        Raises:
            ResumeError: another process holds it, or it was changed otherwise than by going on.
        """
        self.hold()
        if self._has_failed or self._size_on_disk() != self._size:
            known = list(map(json.dumps, self.events))
            with self._holding():
                self._mend()
            if list(map(json.dumps, self.events[: len(known)])) != known:
                raise ResumeError(
                    f"{self.path} is not what it was when this process read it: start the script again, or give "
                    "another `run_dir`."
                )

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
            StorageError: it cannot be written. Nothing may act on it then.
        """
        if self.behind:
            if not same_event(self.events[self.position], event):
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
        line = encode_line(event, len(self.events) + 1)
        with self._writing():
            try:
                with storing(self.path):
                    _write(self.path, line)
            except BaseException:  # an interrupt, too: what is on the disk must be what is known here
                self._has_failed = True
                with suppress(OSError, ResumeError):
                    self._mend()
                raise
            self._take_in(event, line)
            self.position += 1

    def _take_in(self, event: Event, line: bytes) -> None:
        self.events.append(json.loads(json.dumps(event)))
        self._size += len(line)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the journal, for one line where it is not held for longer, unless somebody else has gone on with it."""
        held = self.lock.is_held
        if not held:
            self.hold()
        try:
            if self._has_failed:
                self._mend()
            if self.behind or self._size_on_disk() != self._size:
                raise ResumeError(
                    f"Another process has written to {self.path} since this one read it: let one run at a time write "
                    "there, and start this one again, which then goes on from what the other did."
                )
            yield
        finally:
            if not held:
                self.release()

    def _size_on_disk(self) -> int:
        with storing(self.path):
            return self.path.stat().st_size

    def _mend(self) -> None:
        """Read all lines, and take away what a write that failed has left behind the last whole one."""
        found = read_journal(self.path)
        if found.torn.strip():
            rank_zero_warn(
                f"The last line of {self.path} was cut off when it was written, and is dropped: {found.torn[:80]!r}"
            )
        with storing(self.path), self.path.open("rb+", buffering=0) as file:
            if file.seek(0, os.SEEK_END) != found.size:
                file.truncate(found.size)
            file.seek(max(found.size - 1, 0))
            if file.read(1) != b"\n":
                _write(self.path, b"\n")
                found = found._replace(size=found.size + 1)
            os.fsync(file.fileno())
        # lines that are there all the same are behind, to be replayed
        self.events, self._size, self._has_failed = found.events, found.size, False
        self.position = min(self.position, len(self.events))


def query_event(query: Query, round_: int, ids: Sequence[str] | None) -> Event:
    """A query as a line of the journal.

    Example:
        >>> import numpy as np
        >>> event = query_event(Query([4], [0.5], {"margin": np.array([0.25], np.float32)}), 2, ["img/4.png"])
        >>> query_from_event(event).details["margin"]
        array([0.25], dtype=float32)
    """
    named = {"ids": None if ids is None else list(ids)}
    return {"kind": "query", "round": round_, **named, **IN_JOURNAL.encode(query)}


def query_from_event(event: Event) -> Query:
    """The query that `query_event` wrote, with the types it had."""
    return IN_JOURNAL.decode(event)


def _write(path: Path, line: bytes) -> None:
    """Append to a file that exists, and wait until it is on the disk."""
    with path.open("ab", buffering=0) as file:
        rest = memoryview(line)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Say which file could not be written, and why.

    Raises:
        StorageError: for any `OSError` inside.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            f"{path} could not be written: {error.strerror or error}. Nothing is lost that was written before; make "
            "room, or see to the disk, and run again."
        ) from error


def _sync_folder(folder: Path) -> None:
    """Make a new file's name last, where the operating system lets a folder be synced."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
