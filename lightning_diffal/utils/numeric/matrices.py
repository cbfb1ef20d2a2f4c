"""Matrices as float32, which of their rows cannot be used, and the blocks of squared distances between two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.threads import slices

__all__ = ["float32_rows", "relative_distances"]


def float32_rows(matrix: npt.NDArray[Any]) -> tuple[FloatArray, IntArray]:
    """The matrix as float32, and the rows that hold NaN or infinity then: a float64 beyond float32 becomes infinite.

    Args:
        matrix: `(N, D)`.

    Example:
        >>> float32_rows(np.array([[1.0], [1e300], [np.nan]]))[1]
        array([1, 2])
    """
    with np.errstate(over="ignore"):
        values: FloatArray = matrix.astype(np.float32, copy=False)
    wrong = [np.flatnonzero(~np.isfinite(values[part]).all(axis=1)) + part.start for part in slices(len(values), 2**16)]
    return values, np.concatenate(wrong) if wrong else np.empty(0, np.int64)


def relative_distances(
    points: npt.NDArray[Any], targets: npt.NDArray[Any], block: int, dtype: npt.DTypeLike
) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
    r"""Squared distances to all targets, each row less a number of its own: enough to tell which is nearest.

    .. math:: \lVert y \rVert^2 - 2 x^\top y = \lVert x - y \rVert^2 - \lVert x \rVert^2

    One product of matrices for each block, changed in place. Rounding decides between targets that are about as far;
    who has to know them apart computes those distances by subtraction.

    Args:
        points: `(M, D)`.
        targets: `(T, D)`, at least one.
        block: rows of a block.
        dtype: in which it is computed.

    Yields:
        Which rows, and `(B, T)`, which the caller may overwrite.

    Example:
        >>> targets = np.array([[1.0, 0.0], [3.0, 3.0]])
        >>> [values.tolist() for _, values in relative_distances(np.eye(2), targets, 1, float)]
        [[[-1.0, 12.0]], [[1.0, 12.0]]]
    """
    sinks = targets.astype(dtype, copy=False)
    norms = np.einsum("ij,ij->i", sinks, sinks)
    for part in slices(len(points), max(1, block)):
        gram = points[part].astype(dtype, copy=False) @ sinks.T
        gram *= -2
        gram += norms
        yield part, gram
