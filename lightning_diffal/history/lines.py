"""The lines of a journal on disk: each with a checksum, so that damage is an error and never a wrong label."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lightning_diffal.exceptions import ResumeError

__all__ = [
    "FORMAT",
    "KNOWN_FORMATS",
    "Event",
    "JournalFile",
    "encode_line",
    "read_events",
    "read_journal",
    "same_event",
]

FORMAT = 2
"""What is written: one JSON object per line, with a checksum as its last entry."""
KNOWN_FORMATS = (1, 2)
"""What is read; lines of format 1 have no checksum, until a version that writes them goes on with the run."""

Event = dict[str, Any]

_CHECKSUM = re.compile(rb',"sum":"([0-9a-f]{8})"}$')
_DETAIL_KINDS = "biufU"
_LARGEST = np.iinfo(np.int64).max


class JournalFile(NamedTuple):
    """What a file holds."""

    events: list[Event]
    """Its whole lines, the header first; empty where the header itself was never written to its end."""
    torn: bytes
    """What a process that died left behind the last whole line."""
    size: int
    """Bytes of the whole lines, blank ones at the end left out."""


def encode_line(event: Mapping[str, Any], number: int) -> bytes:
    r"""One line. Its checksum covers its number too, so that a line taken out or moved is noticed.

    Args:
        event: of plain types.
        number: counted from 1.

    Example:
        >>> encode_line({"kind": "skip", "indices": [3]}, 2)
        b'{"kind":"skip","indices":[3],"sum":"04f73b2e"}\n'
    """
    body = json.dumps(event, separators=(",", ":")).encode()
    return body[:-1] + b',"sum":"%s"}\n' % _checksum(body, number)


def read_journal(path: Path) -> JournalFile:
    """All that a journal says, checked; changes nothing.

    Args:
        path: of the file.

    Raises:
        ResumeError: a damaged line, or one that no run has written; with its number.
    """
    try:
        contents = path.read_bytes()
    except OSError as error:
        raise ResumeError(f"{path} cannot be read: {error.strerror or error}.") from error
    whole, _, torn = contents.rpartition(b"\n")
    lines = whole.rstrip(b"\r\n").split(b"\n") if whole.strip() else []  # behind them may be blank ones of an editor
    size = sum(map(len, lines)) + len(lines)
    if _is_whole(torn, len(lines) + 1):  # all but the end of the line reached the disk
        lines, size, torn = [*lines, torn], len(contents), b""
    elif _is_whole(torn[:-1], len(lines) + 1):
        raise _damage(path, len(lines) + 1, "it does not end as it was written")
    events: list[Event] = []
    has_checksums = False
    for number, line in enumerate(lines, start=1):
        try:
            event, is_checked = _parsed(line, number)
            if number == 1:
                has_checksums = _check_header(event, path)
            if has_checksums and not is_checked:
                raise ValueError("its checksum is missing")
        except ValueError as error:
            raise _damage(path, number, str(error)) from None
        has_checksums |= is_checked
        events.append(event)
    return JournalFile(events, torn, size)


def read_events(path: Path) -> tuple[list[Event], bytes]:
    """The lines of a journal, the header first, and what a process left of an unfinished one. Changes nothing.

    Args:
        path: of the file.

    Raises:
        ResumeError: a damaged line, or no header of a known format.
    """
    found = read_journal(path)
    if not found.events:
        raise ResumeError(
            f"{path} does not begin with the header of a journal: the run was ended before it had begun, or the file "
            "was emptied."
        )
    return found.events, found.torn


def _checksum(body: bytes, number: int) -> bytes:
    return b"%08x" % zlib.crc32(body, zlib.crc32(b"%d" % number))


def _parsed(line: bytes, number: int) -> tuple[Event, bool]:
    """The event of a line, and whether a checksum says that it is what was written."""
    found = _CHECKSUM.search(line)
    if found is not None:
        line = line[: found.start()] + b"}"
        if _checksum(line, number) != found[1]:
            raise ValueError("its checksum is another than that of what it says")
    try:
        event = json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(event, dict) or "kind" not in event:
        raise ValueError(f"it says {line[:60]!r}")
    if number > 1:
        _check(event)
    return event, found is not None


def _is_whole(torn: bytes, number: int) -> bool:
    try:
        return _parsed(torn, number)[1]
    except ValueError:
        return False


def _damage(path: Path, number: int, reason: str) -> ResumeError:
    good = "No line before it" if number == 1 else f"The {number - 1} lines before it are good"
    return ResumeError(
        f"Line {number} of {path} is not what a run has written: {reason}. {good}. Restore the file from a backup. "
        f"Without one, keep a copy, delete line {number} and all lines behind it, take `state.ckpt` out of the folder "
        "where it is there, and run again: the rounds up to there are trained once more, and what those lines said is "
        "asked again."
    )


# ------------------------------------------------------------------------------------------- what a line may say


def _check_header(header: Event, path: Path) -> bool:
    """Whether all lines have checksums."""
    if header["kind"] != "header":
        raise ValueError("a journal begins with its header")
    if header.get("format") not in KNOWN_FORMATS:
        raise ResumeError(
            f"{path} is a journal of format {header.get('format')!r}, written by lightning-diffal "
            f"{header.get('version', 'of an unknown version')}; this version reads formats {KNOWN_FORMATS}: install "
            "the version that wrote it."
        )
    if not isinstance(header.get("run"), str):
        raise ValueError("its header names no run")
    return bool(header["format"] > 1)


def _check(event: Event) -> None:
    """Refuse what no version has written, before anything of it is applied.

    Raises:
        ValueError: with the reason.
    """
    kind = event["kind"]
    needed = _ENTRIES.get(kind) if isinstance(kind, str) else None
    if needed is None:
        raise ValueError(f"nothing of the kind {kind!r} is known")
    unknown = set(event) - {*needed, "kind", "ids"}
    missing = set(needed) - set(event)
    if unknown or missing:
        raise ValueError(f"a {kind} has entries {sorted(needed)}, but this one has {sorted(set(event) - {'kind'})}")
    indices = event["indices"]
    if not _are_integers(indices) or len(set(indices)) != len(indices):
        raise ValueError("`indices` has to hold different positions")
    for name in ("ids", "labels", "scores"):
        values = event.get(name)
        if values is not None and (not isinstance(values, list) or len(values) != len(indices)):
            raise ValueError(f"`{name}` has to hold one entry for each of {len(indices)} points")
    if not all(isinstance(name, str) for name in event.get("ids") or ()):
        raise ValueError("`ids` has to hold names")
    if not all(map(_is_label, event.get("labels", ()))):
        raise ValueError("`labels` has to hold classes, or zeros and ones")
    if "round" in needed and not _are_integers([event["round"]]):
        raise ValueError("`round` has to be a number from 0")
    if kind == "query":
        _check_query(event, len(indices))


_ENTRIES: dict[str, tuple[str, ...]] = {
    "query": ("round", "indices", "scores", "details", "summary"),
    "answer": ("round", "indices", "labels"),
    "correction": ("indices", "labels"),
    "skip": ("indices",),
}


def _check_query(event: Event, size: int) -> None:
    details, summary = event["details"], event["summary"]
    if not all(map(_is_number, event["scores"])):
        raise ValueError("`scores` has to hold numbers")
    if not isinstance(summary, dict) or not all(map(_is_number, summary.values())):
        raise ValueError("`summary` has to hold numbers")
    if not isinstance(details, dict):
        raise ValueError("`details` has to hold arrays by name")
    for name, saved in details.items():
        try:
            dtype = np.dtype(saved["dtype"])
            array = np.array(saved["values"], dtype=dtype)
        except (TypeError, ValueError, KeyError, OverflowError):
            raise ValueError(f"`details` holds no array {name!r}") from None
        if dtype.kind not in _DETAIL_KINDS or len(array.reshape(-1)[:1]) != min(size, 1) or len(array) != size:
            raise ValueError(f"`details` holds no {size} values of {name!r}")


def _are_integers(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= _LARGEST for value in values)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_label(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) > 1 and all(type(part) is int and part in (0, 1) for part in value)
    return _are_integers([value])


def same_event(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two lines say the same, of points that are named by ids where both have such.

    Args:
        a: an event.
        b: another one; its data set may have another order.

    Example:
        >>> same_event({"indices": [1], "ids": ["x"]}, {"indices": [7], "ids": ["x"]})
        True
    """
    by_name = bool(a.get("ids")) and bool(b.get("ids"))
    skipped = {"indices"} if by_name else set()
    return {k: v for k, v in a.items() if k not in skipped} == {k: v for k, v in b.items() if k not in skipped}
