"""Points as the searches read them, a block at a time: float32, of magnitudes that no square overflows."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_diffal.exceptions import ConfigurationError, FeatureError
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.matrices import float32_rows
from lightning_diffal.utils.numeric.threads import slices

__all__ = ["SearchedRows", "finite_rows", "scaled_points"]

_BLOCK_VALUES = 2**22
_TAME = 30  # exponents up to which squares and sums of squares in float32 are safe: nothing needs scaling


def finite_rows(features: Any) -> FloatArray:
    """`(N, D)` float32 out of an array or a tensor of any floating type; refuses NaN and infinity."""
    if hasattr(features, "detach"):  # duck typing keeps torch out of this module
        features = features.detach().cpu().float().numpy()
    matrix = np.asarray(features)
    if matrix.ndim != 2 or not len(matrix):
        raise ConfigurationError(f"Expected argument `features` of shape (N, D) with N >= 1, but got {matrix.shape}.")
    values, wrong = float32_rows(matrix)
    if len(wrong):
        rows = wrong[:5].tolist()
        raise FeatureError(f"Expected argument `features` to be finite, but rows {rows} hold NaN or infinity.")
    return values


def scaled_points(matrix: FloatArray, metric: str) -> tuple[FloatArray, int]:
    """Scale by a power of two (exact) to magnitudes of at most 1; for cosine, scale every row to length 1.

    Args:
        matrix: `(N, D)`.
        metric: `"euclidean"` or `"cosine"`.

    Returns:
        points: `(N, D)`, or `(N, D + 1)` for the cosine where rows of zeros get an axis of their own.
        exponent: a distance of the matrix is `ldexp(distance, exponent)`; 0 for the cosine.

    Example:
        >>> scaled_points(np.float32([[6.0, 0.5]]), "euclidean")
        (array([[0.75  , 0.0625]], dtype=float32), 3)
    """
    if metric == "cosine":
        return _unit_rows(matrix, extra_axis=bool((~matrix.any(axis=1)).any())), 0
    largest = np.abs(matrix).max(initial=0.0)
    exponent = int(np.frexp(largest)[1]) if largest > 0 else 0
    return np.ldexp(matrix, -exponent), exponent


def _unit_rows(matrix: FloatArray, *, extra_axis: bool) -> FloatArray:
    largest = np.abs(matrix).max(axis=1, keepdims=True, initial=0.0)
    points = np.ldexp(matrix, -np.frexp(largest)[1]).astype(np.float64)
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    points /= np.where(norms == 0, 1, norms)
    if extra_axis:
        points = np.hstack([points, norms == 0])
    return np.asarray(points, np.float32)


class SearchedRows:
    """Rows of an array that may be larger than memory, as `scaled_points` makes them; nothing is copied as a whole.

    Args:
        features: `(N, D)` finite numbers; whatever has `shape` and gives rows for slices and arrays of positions.
        metric: `"euclidean"` or `"cosine"`.

    Example:
        >>> rows = SearchedRows(np.array([[3.0, 4.0], [0.0, 0.0]], np.float16), "cosine")
        >>> rows.shape, rows[0:2].tolist()
        ((2, 3), [[0.6000000238418579, 0.800000011920929, 0.0], [0.0, 0.0, 1.0]])
    """

    def __init__(self, features: Any, metric: str) -> None:
        self._features = features
        self._cosine = metric == "cosine"
        n_points, n_dimensions = features.shape
        self.block = max(1, _BLOCK_VALUES // max(1, n_dimensions))
        largest, zero = 0.0, False
        for part in slices(n_points, self.block):
            block = np.asarray(features[part], np.float32)
            highest = max(float(block.max(initial=0.0)), -float(block.min(initial=0.0)))
            if not np.isfinite(highest):
                rows = (part.start + np.flatnonzero(~np.isfinite(block).all(axis=1)))[:5].tolist()
                raise FeatureError(f"Expected argument `features` to be finite, but rows {rows} hold NaN or infinity.")
            largest = max(largest, highest)
            if self._cosine:
                zero = zero or not bool(block.any(axis=1).all())
        exponent = int(np.frexp(largest)[1]) if largest > 0 and not self._cosine else 0
        self.exponent = 0 if abs(exponent) <= _TAME else exponent
        self._zeros = zero
        self.shape = (n_points, n_dimensions + int(zero))

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, key: slice | IntArray) -> FloatArray:
        if isinstance(key, slice):
            return self._prepared(self._features[key])
        return self._prepared(self._features[key.reshape(-1)]).reshape(*key.shape, self.shape[1])

    def _prepared(self, rows: Any) -> FloatArray:
        block: FloatArray = np.asarray(rows, np.float32)
        if self._cosine:
            return _unit_rows(block, extra_axis=self._zeros)
        return np.ldexp(block, -self.exponent) if self.exponent else block
