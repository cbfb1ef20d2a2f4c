"""From a shortlist to the nearest: distances by direct subtraction, ties by key."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.threads import each, slices

__all__ = ["direct_distances", "nearest_in_common", "nearest_of"]

_CACHED_VALUES = 2**18  # values of a block that is read three times: it stays in the cache
_COMMON = 4096  # rows whose shortlists are read at once
_READ = 2048  # points read by one thread at a time
_VANISHING = 1e-30  # squares so small that float32 may have lost some of their terms


def direct_distances(rows: FloatArray, others: FloatArray) -> npt.NDArray[np.float64]:
    """Euclidean distances by direct subtraction, summed in float64: exactly 0 between equal rows.

    Args:
        rows: `(B, D)`.
        others: `(B, M, D)` points to compare each with. Overwritten.

    Returns:
        `(B, M)`.

    Example:
        >>> direct_distances(np.float32([[1, 2]]), np.float32([[[1, 2], [4, 6]]]))
        array([[0., 5.]])
    """
    others -= rows[:, None]
    wide = others.astype(np.float64)
    distances: npt.NDArray[np.float64] = np.sqrt(np.einsum("ijk,ijk->ij", wide, wide))
    return distances


def nearest_of(
    points: Any, rows: IntArray, found: npt.NDArray[Any], k: int, *, keys: IntArray | None = None
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """The `k` nearest out of a shortlist, by distance and then by key, on all cores.

    Args:
        points: `(N, D)`; whatever gives rows for arrays of positions.
        rows: `(R,)` positions of the points whose neighbours are wanted.
        found: `(R, w)` positions of others. The point itself does not count, nor does -1, a gap.
        k: at most `w`.
        keys: `(N,)` break ties. Default: the positions.

    Returns:
        indices: `(R, k)` of the type of `found`.
        distances: `(R, k)`; infinite where the shortlist holds fewer.

    Example:
        >>> points = np.float32([[0], [1], [3]])
        >>> nearest_of(points, np.array([1]), np.array([[2, 1, 0]]), 2)
        (array([[0, 2]]), array([[1., 2.]]))
    """
    n_rows, width = found.shape
    indices, distances = np.empty((n_rows, k), found.dtype), np.empty((n_rows, k))

    def refine(part: slice) -> None:
        lists = found[part]
        exact = direct_distances(points[rows[part]], points[np.maximum(lists, 0)])
        exact[(lists < 0) | (lists == rows[part, None])] = np.inf
        closest = _order(exact, lists if keys is None else keys[lists])[:, :k]
        indices[part] = np.take_along_axis(lists, closest, axis=1)
        distances[part] = np.take_along_axis(exact, closest, axis=1)

    each(refine, slices(n_rows, max(16, _CACHED_VALUES // max(1, width * points.shape[1]))))
    return indices, distances


def nearest_in_common(
    faiss: Any,
    points: Any,
    rows: IntArray,
    found: IntArray,
    k: int,
    *,
    keys: npt.NDArray[Any],
    places: npt.NDArray[np.int32],
) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """`nearest_of` for rows near each other, whose shortlists have most points in common: each is read once.

    Direct differences as there, summed in float32.

    Args:
        faiss: the module.
        points: `(N, D)`; whatever gives rows for arrays of positions.
        rows: `(R,)` positions of the points whose neighbours are wanted.
        found: `(R, w)` positions of others. The point itself does not count, nor does -1, a gap.
        k: at most `w`.
        keys: `(N,)` break ties.
        places: `(N,)` room to work in.

    Returns:
        indices: `(R, k)`.
        distances: `(R, k)`; infinite where the shortlist holds fewer.
    """
    indices, distances = np.empty((len(rows), k), np.int64), np.empty((len(rows), k))
    for part in slices(len(rows), _COMMON):
        own = rows[part]
        lists = np.where(found[part] < 0, own[:, None], found[part])
        everyone = np.concatenate([own, lists.ravel()])
        numbers = np.arange(len(everyone), dtype=np.int32)
        places[everyone] = numbers  # of several that are the same point, one leaves its number
        distinct = np.sort(everyone[places[everyone] == numbers])  # files are read from their beginning to their end
        places[distinct] = numbers[: len(distinct)]
        values = np.empty((len(distinct), points.shape[1]), np.float32)

        def read(some: slice, values: FloatArray = values, distinct: IntArray = distinct) -> None:
            values[some] = points[distinct[some]]

        each(read, slices(len(distinct), _READ))
        of_rows, of_lists = values[places[own]], places[lists].astype(np.int64)
        squared = np.empty(lists.shape, np.float32)
        arrays = (faiss.swig_ptr(array) for array in (squared, of_rows, values, of_lists))
        faiss.fvec_L2sqr_by_idx(*arrays, values.shape[1], len(own), lists.shape[1])
        squared[lists == own[:, None]] = np.inf
        closest = _order(squared, keys[lists])[:, :k]
        indices[part] = np.take_along_axis(lists, closest, axis=1)
        distances[part] = np.sqrt(np.take_along_axis(squared, closest, axis=1), dtype=np.float64)
        tiny = np.flatnonzero(squared.min(axis=1) < _VANISHING)
        if len(tiny):
            again = part.start + tiny
            indices[again], distances[again] = nearest_of(points, rows[again], found[again], k, keys=keys)
    return indices, distances


def _order(distances: npt.NDArray[Any], keys: npt.NDArray[Any]) -> IntArray:
    """Each row's order by distance, then key."""
    order = distances.argsort(axis=1)
    ordered = np.take_along_axis(distances, order, axis=1)
    tied = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))  # few: sorting twice takes longer
    if len(tied):
        order[tied] = np.lexsort((keys[tied], distances[tied]), axis=1)
    return order
