"""Sparse matrices of many rows: some of the rows without copying them, their sums, and products on all cores."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp

from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.threads import each, number_of_threads

__all__ = ["multiplier", "rows_of", "sums_of_rows"]

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
    blocks = [(slice(start, stop), rows_of(matrix, slice(start, stop))) for start, stop in pairwise(bounds)]

    def multiply(other: FloatArray) -> FloatArray:
        result = np.empty((matrix.shape[0], other.shape[1]), np.float32)

        def part(block: tuple[slice, sp.csr_matrix]) -> None:
            result[block[0]] = block[1] @ other

        each(part, blocks)
        return result

    return multiply


def rows_of(matrix: sp.csr_matrix, part: slice) -> sp.csr_matrix:
    """Some rows of a matrix; neither their values nor their places are copied.

    Args:
        matrix: `(N, M)`.
        part: which rows, from its start to its stop.

    Example:
        >>> matrix = sp.csr_matrix(np.float32([[1, 0], [0, 2], [3, 0]]))
        >>> some = rows_of(matrix, slice(1, 3))
        >>> some.toarray().tolist(), np.shares_memory(some.data, matrix.data)
        ([[0.0, 2.0], [3.0, 0.0]], True)
    """
    pointers = matrix.indptr[part.start : part.stop + 1]
    span = slice(int(pointers[0]), int(pointers[-1]))
    rows = sp.csr_matrix((part.stop - part.start, matrix.shape[1]), dtype=matrix.dtype)
    # set one by one: the constructor copies what is a small part of a larger array
    rows.data, rows.indices, rows.indptr = matrix.data[span], matrix.indices[span], pointers - pointers[0]
    return rows


def sums_of_rows(values: FloatArray, pointers: IntArray) -> FloatArray:
    """Sums of consecutive values from each pointer to the next, in double precision: equal rows have equal sums.

    Args:
        values: `(nnz,)`.
        pointers: `(R + 1,)`, as of a matrix in CSR format.

    Returns:
        `(R,)`.

    Example:
        >>> sums_of_rows(np.float32([1, 2, 4]), np.array([0, 2, 2, 3]))
        array([3., 0., 4.], dtype=float32)
    """
    sums = np.zeros(len(pointers) - 1, np.float32)
    filled = np.flatnonzero(np.diff(pointers))
    if len(filled):
        sums[filled] = np.add.reduceat(values, pointers[:-1][filled], dtype=np.float64)
    return sums
