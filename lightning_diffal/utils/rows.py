"""Some rows of a large array, read when they are needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.utils.aliases import IntArray

__all__ = ["RowView"]


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
