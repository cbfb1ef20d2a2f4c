"""Files of numpy arrays whose header is not what the file holds: refused before memory is asked for."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np

from lightning_diffal.exceptions import ConfigurationError

__all__ = ["check_array_sizes"]

_MOST_DEFLATED = 1100  # times that an archive can be smaller than what it holds: deflate reaches 1032
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def check_array_sizes(path: str | os.PathLike[str]) -> None:
    """Refuse an `.npy` or `.npz` file that says it holds more than it can.

    Args:
        path: of the file; what is neither is let pass.

    Raises:
        ConfigurationError: a header of gigabytes in a file of kilobytes, say.
    """
    file = Path(path)
    if not file.is_file():
        return
    with suppress(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):  # its reader says so
        if zipfile.is_zipfile(file):
            _check_archive(file)
        else:
            with file.open("rb") as opened:
                _check(opened, file.stat().st_size, file, "")


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.filename.endswith(".npy"):
                continue
            if entry.file_size > max(entry.compress_size, 1) * _MOST_DEFLATED:
                raise _damage(path, entry.filename, entry.file_size, entry.compress_size)
            with archive.open(entry) as opened:
                _check(opened, entry.file_size, path, entry.filename)


def _check(opened: IO[bytes], size: int, path: Path, name: str) -> None:
    try:
        version = np.lib.format.read_magic(opened)
        if version not in _HEADERS:
            return
        shape, _, dtype = _HEADERS[version](opened)
    except ValueError:  # no array; whoever reads it says so
        return
    needed = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and needed > size - opened.tell():
        raise _damage(path, name, needed, size)


def _damage(path: Path, name: str, needed: int, size: int) -> ConfigurationError:
    inside = f" in {path}" if name else ""
    return ConfigurationError(
        f"{name or path}{inside} says that it holds {needed:,} bytes, but there are {size:,}: it is damaged. Copy or "
        "write it again."
    )
