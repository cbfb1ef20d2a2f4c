"""Arrays that may be larger than memory, to be filled: in a file that is gone when nobody reads it any longer."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from lightning_diffal.exceptions import StorageError
from lightning_diffal.utils.aliases import FloatArray

__all__ = ["MAPPED_FROM", "lies_in_file", "room_for"]

MAPPED_FROM = 2**31
"""Bytes from which on arrays lie in files and not in memory."""


def room_for(shape: tuple[int, int], folder: Path) -> FloatArray:
    """An array to write to: in memory if it is small, else mapped from a file.

    The file has no name any longer where the system allows that (Linux and macOS), so that nothing of it is left when
    the array goes, or the process is killed. Elsewhere the next one takes its place.

    Args:
        shape: `(N, D)`.
        folder: where the file lies.

    Returns:
        `(N, D)` float32.

    Raises:
        StorageError: the disk has no room for it. Nothing was written.

    Example:
        >>> room_for((2, 3), Path("nowhere")).shape
        (2, 3)
    """
    size = 4 * shape[0] * shape[1]
    if size < MAPPED_FROM:
        return np.empty(shape, np.float32)
    path = folder / "features.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.unlink()
        with path.open("w+b") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # else a full disk ends the process when pages are written
            else:
                file.truncate(size)
            array: FloatArray = np.memmap(file, np.float32, mode="r+", shape=shape)
        with suppress(PermissionError):  # Windows, as long as it is mapped
            path.unlink()
    except OSError as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise StorageError(
            f"Features of {shape[0]:,} points in {shape[1]:,} dimensions need a file of {size / 2**30:.1f} GiB in "
            f"{folder}, which cannot be made: {error.strerror or error}. Make room there, or choose `features` of "
            "fewer dimensions."
        ) from error
    return array


def lies_in_file(array: Any) -> bool:
    """Whether an array's values are mapped from a file, also where it is a view.

    Args:
        array: of numpy.

    Example:
        >>> lies_in_file(np.zeros(3))
        False
    """
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False
