"""The file of what people said: append-only lines, each on the disk before anybody is told that it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lightning_diffal.exceptions import AnswerFileError
from lightning_diffal.oracle.page.answers import Answers, Event

__all__ = ["FILENAME", "AnswerLog"]

FILENAME = "answers.jsonl"

_KINDS: dict[str, tuple[tuple[str, type], ...]] = {
    "label": (("key", str), ("who", str), ("label", list), ("names", list), ("effect", str)),
    "skip": (("key", str), ("who", str), ("effect", str)),
    "undo": (("key", str), ("who", str), ("undoes", str)),
    "note": (("key", str), ("who", str), ("note", str)),
    "class": (("name", str),),
}


class AnswerLog:
    """Reads the file as it grows, and appends to it. One process at a time may append.

    Args:
        path: of the file; it need not exist.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = AnswerLog(Path(folder, FILENAME))
        ...     is_new = log.append({"uid": "1", "key": "k", "who": "ann", "action": "skip", "base": 0})
        ...     again = AnswerLog(Path(folder, FILENAME))
        ...     _ = again.read()
        ...     again.answers.of("k").status
        'skipped'
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers = Answers()
        self._read_to = 0
        self._lines = 0

    def read(self) -> bool:
        """Take in what was appended since the last look; half a line at the end is left for the next one.

        Returns:
            Whether there was something.

        Raises:
            AnswerFileError: a line that is not an answer; it names file and line.
        """
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                if size < self._read_to:
                    raise AnswerFileError(
                        f"{self.path} has become shorter since it was read: restore it from a backup, and start again. "
                        "Nothing was applied."
                    )
                if size == self._read_to:
                    return False
                file.seek(self._read_to)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return False
        if not newline:
            return False
        events = [_parsed(line, self.path, self._lines + n) for n, line in enumerate(whole.split(b"\n"), start=1)]
        for event in events:
            self.answers.add(event)
        self._lines += len(events)
        self._read_to += len(whole) + 1
        return True

    def repair(self) -> None:
        """Cut off half a line that a killed process left: nobody was told that it was saved."""
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with self.path.open("rb+") as file:
                file.truncate(whole)
                os.fsync(file.fileno())

    def append(self, event: Event) -> bool:
        """Write an event down; it is on the disk when this returns.

        Args:
            event: with a `uid`; one that is known already is not written again.

        Returns:
            Whether it was new.
        """
        self.read()
        if event["uid"] in self.answers.uids:
            return False
        event = self.answers.decided(event)
        if event["action"] == "label":
            event = {"names": [], **event}
        line = (json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n").encode(
            "utf-8", "surrogatepass"
        )
        is_new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            start = file.tell()
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), start)  # a full disk must not leave half a line before the next one
                raise
        if is_new and os.name == "posix":
            descriptor = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        self.read()
        return True


def _parsed(line: bytes, path: Path, number: int) -> Event:
    where = f"{path}, line {number}"
    try:
        event: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise AnswerFileError(f"{where}: not JSON: {line[:80]!r}. Restore the file. Nothing was applied.") from None
    fields = _KINDS.get(str(event.get("action"))) if isinstance(event, dict) else None
    if fields is None or not isinstance(event.get("uid"), str):
        raise AnswerFileError(f"{where}: not an answer: {line[:80]!r}. Restore the file. Nothing was applied.")
    wrong = [name for name, kind in fields if not isinstance(event.get(name), kind)]
    label = event.get("label") or []
    if wrong or not all(isinstance(c, int) and not isinstance(c, bool) and c >= 0 for c in label):
        raise AnswerFileError(
            f"{where}: an answer without a usable {', '.join(wrong) or 'label'}. Nothing was applied."
        )
    found: Event = event
    return found
