"""Matrices as float32, and which of their rows cannot be used."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.threads import slices

__all__ = ["float32_rows"]


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
