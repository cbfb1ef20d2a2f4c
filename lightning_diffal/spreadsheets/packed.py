"""Archives: as tools give their exports."""

from __future__ import annotations

import io
import zipfile
from pathlib import PurePosixPath

from lightning_diffal.exceptions import AnswerFileError

__all__ = ["is_workbook", "members", "only_member"]

_READ = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".xlsx")
_LARGEST = 2**30  # bytes of one file, unpacked


def is_workbook(content: bytes) -> bool:
    """Whether an archive is a workbook, which is one itself."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except (zipfile.BadZipFile, ValueError):
        return True  # half of something: said where it is opened


def members(content: bytes) -> list[tuple[str, bytes]]:
    """The files in an archive that may hold answers, in the order of their names.

    Args:
        content: of the archive.

    Raises:
        AnswerFileError: a damaged or protected one, or a file that is larger than any answers are.
    """
    found = []
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
                name = PurePosixPath(entry.filename)
                hidden = name.name.startswith(".") or "__MACOSX" in name.parts
                if entry.is_dir() or hidden or name.suffix.lower() not in _READ:
                    continue
                if entry.file_size > _LARGEST:
                    raise AnswerFileError(f"{entry.filename} in it is too large ({entry.file_size} bytes)")
                found.append((entry.filename, archive.read(entry)))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, ValueError) as error:
        if isinstance(error, AnswerFileError):
            raise
        raise AnswerFileError(f"no archive, half of one, or a protected one ({error})") from None
    return found


def only_member(content: bytes) -> tuple[bytes, str]:
    """The one file in an archive that may hold answers, and its name.

    Args:
        content: of the archive.

    Raises:
        AnswerFileError: none or several.
    """
    found = members(content)
    if len(found) != 1:
        what = ", ".join(name for name, _ in found[:5]) or "none"
        raise AnswerFileError(f"an archive with {what} to read, where one file is expected: unpack it, and keep one")
    return found[0][1], found[0][0]
