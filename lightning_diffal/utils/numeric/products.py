"""Sparse matrices of many rows: products on all cores, and blocks of rows put together without a second copy."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lightning_diffal.utils.aliases import FloatArray
from lightning_diffal.utils.numeric.threads import each, number_of_threads

__all__ = ["StackedRows", "multiplier"]

_ROOM = 2  # times what the rows so far let expect
_LARGE = 500_000  # values of a matrix from which on threads save more than they cost


def multiplier(matrix: Any) -> Callable[[FloatArray], FloatArray]:
    """A function that multiplies a matrix with others, again and again.

    scipy multiplies on one core. Here each thread takes some of the rows; every row is summed in the same order, so
    the product is the same bit for bit.

    Args:
        matrix: `(N, N)` in CSR format; whatever else knows `@` is asked for its own product.

    Returns:
        A function from `(N, C)` to `(N, C)` float32.

    Example:
        >>> multiplier(sp.csr_matrix(np.float32([[0, 2], [1, 0]])))(np.float32([[1], [3]])).tolist()
        [[6.0], [1.0]]
    """
    threads = number_of_threads()
    if not sp.issparse(matrix) or matrix.format != "csr" or matrix.nnz < _LARGE or threads == 1:
        return lambda other: matrix @ other
    # rows of about as many values each
    cuts = np.searchsorted(matrix.indptr, np.linspace(0, matrix.nnz, 2 * threads + 1)[1:-1])
    bounds = np.unique(np.concatenate([[0], cuts, [matrix.shape[0]]])).tolist()
    blocks = []
    for start, stop in pairwise(bounds):
        pointers = matrix.indptr[start : stop + 1]
        span = slice(int(pointers[0]), int(pointers[-1]))
        block = sp.csr_matrix(
            (matrix.data[span], matrix.indices[span], pointers - pointers[0]), shape=(stop - start, matrix.shape[1])
        )
        blocks.append((slice(start, stop), block))

    def multiply(other: FloatArray) -> FloatArray:
        result = np.empty((matrix.shape[0], other.shape[1]), np.float32)

        def part(block: tuple[slice, sp.csr_matrix]) -> None:
            result[block[0]] = block[1] @ other

        each(part, blocks)
        return result

    return multiply


class StackedRows:
    """A matrix made from its first row to its last, in blocks, of which no second copy is held at the end.

    Args:
        n_rows: of the whole.
        n_columns: of the whole.

    Example:
        >>> stacked = StackedRows(2, 3)
        >>> stacked.append(sp.csr_matrix(np.float32([[0, 5, 0]])))
        >>> stacked.append(sp.csr_matrix(np.float32([[1, 0, 2]])))
        >>> stacked.matrix().toarray().tolist()
        [[0.0, 5.0, 0.0], [1.0, 0.0, 2.0]]
    """

    def __init__(self, n_rows: int, n_columns: int) -> None:
        self._shape = (n_rows, n_columns)
        self._pointers = np.zeros(n_rows + 1, np.int64)
        self._indices: npt.NDArray[Any] = np.empty(0, np.int32 if n_columns < 2**31 else np.int64)
        self._values: npt.NDArray[Any] = np.empty(0, np.float32)
        self._row = 0

    def append(self, block: sp.csr_matrix) -> None:
        """Add the next rows.

        Args:
            block: `(R, n_columns)`.
        """
        begin = int(self._pointers[self._row])
        end, row = begin + block.nnz, self._row + block.shape[0]
        if end > len(self._values):
            # of what is allocated, only what is written to takes memory
            room = max(end, int(_ROOM * end * self._shape[0] / max(1, row)))
            self._indices, self._values = _longer(self._indices, begin, room), _longer(self._values, begin, room)
        self._indices[begin:end], self._values[begin:end] = block.indices, block.data
        self._pointers[self._row + 1 : row + 1] = block.indptr[1:] + begin
        self._row = row

    def matrix(self) -> sp.csr_matrix:
        """The whole, once all rows are there."""
        end = int(self._pointers[-1])
        pointers = self._pointers.astype(self._indices.dtype if end < 2**31 else np.int64)
        return sp.csr_matrix((self._values[:end], self._indices[:end], pointers), shape=self._shape)


def _longer(array: npt.NDArray[Any], used: int, length: int) -> npt.NDArray[Any]:
    longer = np.empty(length, array.dtype)
    longer[:used] = array[:used]
    return longer
