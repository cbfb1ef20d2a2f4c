"""Files in a folder of answers that look like answers, and are not read."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection
from pathlib import Path

__all__ = ["has_xlsx", "is_of_programs", "unread_answers"]

_TABLES = (".csv", ".jsonl", ".tsv", ".txt", ".json", ".ndjson")
_BOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
_PACKED = (".zip", ".gz", ".7z", ".rar", ".tar")
_OF_PROGRAMS = re.compile(r"[.~].*|.*(~|\.(tmp|bak|swp|part|crdownload))|run\.txt", re.IGNORECASE)
_SHOWN = 3


def has_xlsx() -> bool:
    """Whether workbooks can be read."""
    return importlib.util.find_spec("openpyxl") is not None


def is_of_programs(name: str) -> bool:
    """Whether a file is what programs leave beside those of people: locks, copies, half of a download."""
    return _OF_PROGRAMS.fullmatch(name) is not None


def unread_answers(folder: Path, read: Collection[str]) -> list[str]:
    """Say of each file that somebody may take for answers, and nobody reads, why and what to do.

    Args:
        folder: of the queries.
        read: names of the files that are read.

    Returns:
        The first three, and how many more there are.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "query-000.ods").write_bytes(b"")
        ...     unread_answers(Path(folder), {"query-000.csv"})
        ["query-000.ods, a workbook: save it as 'CSV UTF-8' under a name such as query-000.csv"]
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    except OSError:  # said by whoever reads the answers
        return []
    found = [said for name in names if name not in read and (said := _reason(name)) is not None]
    more = len(found) - _SHOWN
    return found[:_SHOWN] + ([f"and {more} more"] if more > 0 else [])


def _reason(name: str) -> str | None:
    if is_of_programs(name):
        return None
    suffix = Path(name).suffix.lower()
    number = re.match(r"query-(\d+)", name, re.IGNORECASE)
    wanted = f"query-{number[1] if number else '000'}.{'jsonl' if suffix in ('.jsonl', '.ndjson') else 'csv'}"
    if suffix == ".xlsx" and has_xlsx():
        return f"{name}, whose name is not of the form query-{number[1] if number else '000'}.xlsx: rename it"
    if suffix == ".xlsx":
        return f"{name}, a workbook: pip install \"lightning-diffal[xlsx]\", or save it as 'CSV UTF-8' named {wanted}"
    if suffix in _BOOKS:
        return f"{name}, a workbook: save it as 'CSV UTF-8' under a name such as {wanted}"
    if suffix in _PACKED:
        return f"{name}, which is packed: unpack it under a name such as {wanted}, or move a tool's export to `exports`"
    if suffix in _TABLES or number:
        return f"{name}, whose name is not of the form {wanted}: rename it, or copy its labels into that file"
    return None
