"""Rows of arrays that may be larger than memory, read when they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.utils.aliases import IntArray
from lightning_diffal.utils.numeric.threads import slices

__all__ = ["FileRows", "RowView", "digest_of", "read_when_needed"]


class RowView:
    """Rows of an array in another order, or some of them, without a copy.

    Args:
        array: `(N, D)`, in memory or mapped from a file.
        positions: `(R,)` of the rows.

    Example:
        >>> view = RowView(np.array([[1], [2], [3]]), np.array([2, 0]))
        >>> view.shape, view[0:1].tolist(), np.asarray(view).tolist()
        ((2, 1), [[3]], [[3], [1]])
    """

    def __init__(self, array: Any, positions: IntArray) -> None:
        self._array = array
        self._positions = positions
        self.shape = (len(positions), int(array.shape[1]))
        self.dtype = array.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | IntArray) -> npt.NDArray[Any]:
        return np.asarray(self._array[self._positions[key]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """All of them, copied."""
        return np.asarray(self[:], dtype)


class FileRows:
    """Arrays that lie in files, one after the other, as one array; nothing is read before it is asked for.

    Args:
        parts: `(N_i, D)` each, memory-mapped as a rule.

    Example:
        >>> rows = FileRows([np.array([[1], [2]]), np.array([[3]])])
        >>> rows.shape, rows[1:3].tolist(), rows[np.array([2, 0])].tolist()
        ((3, 1), [[2], [3]], [[3], [1]])
    """

    def __init__(self, parts: Sequence[npt.NDArray[Any]]) -> None:
        self._parts = list(parts)
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape = (int(self._starts[-1]), int(parts[0].shape[1]))
        self.dtype = np.result_type(*(part.dtype for part in parts))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """How much memory it would take as a whole."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def __getitem__(self, key: slice | IntArray) -> npt.NDArray[Any]:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step != 1:
                return self[np.arange(start, stop, step)]
            first = max(0, int(np.searchsorted(self._starts, start, side="right")) - 1)
            found = []
            for part, begin in zip(self._parts[first:], self._starts[first:], strict=False):
                if begin >= stop:
                    break
                found.append(part[max(0, start - begin) : stop - begin])
            return np.concatenate(found) if len(found) != 1 else np.asarray(found[0])
        flat = np.asarray(key).reshape(-1)
        if len(self._parts) == 1:
            return np.asarray(self._parts[0][flat]).reshape(*np.shape(key), self.shape[1])
        result = np.empty((len(flat), self.shape[1]), self.dtype)
        owner = np.searchsorted(self._starts, flat, side="right") - 1
        for number in np.unique(owner):
            mine = np.flatnonzero(owner == number)
            result[mine] = self._parts[number][flat[mine] - self._starts[number]]
        return result.reshape(*np.shape(key), self.shape[1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """All of them, copied."""
        return np.array(self[:], dtype)


def read_when_needed(array: Any) -> bool:
    """Whether an array is one of this module, which nobody should copy as a whole.

    Args:
        array: anything.

    Example:
        >>> read_when_needed(np.zeros((2, 2))), read_when_needed(FileRows([np.zeros((2, 2))]))
        (False, True)
    """
    return isinstance(array, (RowView, FileRows))


def digest_of(array: Any) -> str:
    """A digest of an array's values, read in blocks.

    Args:
        array: `(N, D)`.

    Example:
        >>> values = np.arange(6.0).reshape(3, 2)
        >>> digest_of(values) == digest_of(FileRows([values[:1], values[1:]]))
        True
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in slices(len(array), max(1, 2**22 // max(1, array.shape[1]))):
        digest.update(np.ascontiguousarray(array[part]).data)
    return f"{array.dtype}{tuple(array.shape)}{digest.hexdigest()}"
