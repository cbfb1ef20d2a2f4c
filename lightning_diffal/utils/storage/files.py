"""Writing files so that a reader, or a killed process, never meets half of one."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from lightning_diffal.exceptions import StorageError

__all__ = [
    "check_writable",
    "escape_cell",
    "remove_temporaries",
    "replacing",
    "unescape_cell",
    "write_csv",
    "write_rows",
]

# What a spreadsheet runs as a formula, in full width too; an apostrophe before it was written by `escape_cell`.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_FULL = {errno.ENOSPC, errno.EFBIG, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)}
_HARMLESS = re.compile(r"[\w ./\[\]]*")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`, which takes the place of `path` once the block has ended well.

    Missing folders are made. After an exception `path` is as it was and the temporary file is gone.

    Args:
        path: the file to write.

    Raises:
        StorageError: the path cannot be written, or the disk is full.

    Yields:
        The path to write to, on the same file system and with the same suffix.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     target = Path(folder) / "runs" / "history.csv"
        ...     with replacing(target) as temporary:
        ...         _ = temporary.write_text("round")
        ...     target.read_text()
        'round'
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{target} could not be written: {error.strerror}. Give another folder.") from error
    if target.is_dir():
        raise StorageError(f"{target} could not be written: it is a folder. Give the name of a file in it.")
    # Not tempfile.mkstemp: its files are readable by their owner only, and would stay so.
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())  # a rename may otherwise outlive the contents it points to
        temporary.replace(target)
    except BaseException as error:
        with suppress(OSError):  # what went wrong first is what counts
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL:
            raise StorageError(f"{target} could not be written: {error.strerror}. Make room, and run again.") from error
        if isinstance(error, PermissionError) and not isinstance(error, StorageError):
            raise StorageError(
                f"{target} could not be written: {error.strerror}. Close the program that holds it, see to its "
                "permissions, or give another name."
            ) from error
        raise


def check_writable(folder: str | os.PathLike[str], argument: str) -> None:
    """Refuse a folder that nobody can make or write to, before anything depends on it. Nothing is made.

    Args:
        folder: may not be there yet.
        argument: what the caller calls it, for the message.

    Raises:
        StorageError: what is in the way, and what to give instead.

    Example:
        >>> check_writable("/dev/null/runs", "run_dir")
        Traceback (most recent call last):
        lightning_diffal.exceptions.StorageError: `run_dir`: /dev/null/runs cannot be written to, since /dev/null is \
not a folder. Give another folder.
    """
    wanted = Path(folder).absolute()
    there = next((place for place in (wanted, *wanted.parents) if _exists(place)), wanted)
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return
    why = "may not be written to by this process" if there.is_dir() else "is not a folder"
    raise StorageError(
        f"`{argument}`: {wanted} cannot be written to, since {there} {why}. Give another folder"
        f"{', or see to its permissions' if there.is_dir() else ''}."
    )


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:  # a part of the path is not a folder, or may not be looked into
        return False


def remove_temporaries(path: str | os.PathLike[str]) -> None:
    """Remove what `replacing` left of a file because the process was killed meanwhile.

    Args:
        path: that was to be written. Nobody may be writing it now.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, ".history.0123abcd.csv").write_text("half of")
        ...     remove_temporaries(folder + "/history.csv")
        ...     list(Path(folder).iterdir())
        []
    """
    target = Path(path)
    leftover = re.compile(rf"\.{re.escape(target.stem)}\.[0-9a-f]{{8}}{re.escape(target.suffix)}")
    for found in list(target.parent.iterdir()):
        if leftover.fullmatch(found.name):
            found.unlink(missing_ok=True)


def write_csv(path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table, at once or not at all. Text that a spreadsheet would run as a formula is escaped.

    Args:
        path: the file to write.
        header: names of the columns.
        rows: one sequence per line.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_csv(folder + "/a.csv", ["id", "label"], [("=1+1", 3)])
        ...     print(Path(folder, "a.csv").read_text())
        id,label
        "'=1+1",3
    """
    # half a surrogate pair, as in names of files that could not be decoded, is escaped
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        write_rows(file, (header, *rows))


def write_rows(file: TextIO, rows: Iterable[Sequence[object]], delimiter: str = ",") -> None:
    """Write rows of a table; the only place where cells are made safe.

    Text is quoted where it holds anything but letters, digits and a few harmless characters: else a spreadsheet that
    splits at semicolons, or at a carriage return, would find the beginning of a formula behind one. Text that it would
    run as a formula is escaped.

    Args:
        file: opened with `newline=""`.
        rows: of text, numbers and `None`.
        delimiter: between cells.
    """
    file.writelines(delimiter.join(map(_written, row)) + "\n" for row in rows)


def _written(cell: object) -> str:
    """A cell as it stands in a file, quoted unless every character of it is harmless wherever a cell is split."""
    text = "" if cell is None else str(escape_cell(cell))
    if _HARMLESS.fullmatch(text) or (not isinstance(cell, str) and "," not in text):
        return text
    return '"' + text.replace('"', '""') + '"'


def escape_cell(cell: object) -> object:
    """The cell with an apostrophe before it where a spreadsheet would run it as a formula.

    Args:
        cell: text; anything else is as harmless as it is.

    Example:
        >>> escape_cell("=1+1"), escape_cell("a=1"), escape_cell(-3)
        ("'=1+1", 'a=1', -3)
    """
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def unescape_cell(cell: str) -> str:
    """The text that `escape_cell` made this of; text that it did not touch stays as it is.

    Args:
        cell: as it stands in the file.

    Example:
        >>> [unescape_cell(str(escape_cell(text))) for text in ("=1", "'=1", "'a", "-")]
        ['=1', "'=1", "'a", '-']
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
