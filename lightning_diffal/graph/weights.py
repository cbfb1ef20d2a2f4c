"""The graph that labels diffuse on: distinct points, self-tuning weights, transition matrix, centrality.

Pure functions on numpy arrays and scipy CSR matrices, one an equation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.products import rows_of
from lightning_diffal.utils.numeric.rows import read_when_needed
from lightning_diffal.utils.numeric.threads import each, slices
from lightning_diffal.utils.storage.stages import counted, each_counted

__all__ = ["centrality", "collapse_duplicates", "self_tuning_weights", "transition_matrix"]
# The rest, on rows of the matrices, is for `lightning_diffal.processes.shards`.


_LARGEST_EXPONENT = 40.0
_BLOCK_VALUES = 2**22
_READ_VALUES = 2**16  # hashed at a time: what is made of them stays in the cache
_READ_BLOCKS = 1024
_ROWS = 2**16  # of a matrix at a time
_PARTS = 16


def collapse_duplicates(features: Any) -> tuple[IntArray, IntArray, IntArray]:
    """Group exactly equal rows into nodes (`-0.0` equals `0.0`).

    Exact duplicates are each other's nearest neighbours, so that a group of more than `k` copies would become an
    island which no label reaches. The nodes come in an order that depends on their content only: permuting
    the rows leaves the list of nodes as it is.

    Args:
        features: `(N, D)` finite numbers. Where they are read from files when needed, the nodes stay in their order,
            so that files are read from their beginning to their end.

    Returns:
        representatives: `(U,)` the first row of each node.
        inverse: `(N,)` the node of each row.
        multiplicity: `(U,)` how many rows each node holds.

    Raises:
        ConfigurationError: not a matrix.

    Example:
        >>> _, inverse, multiplicity = collapse_duplicates([[0.0, 1.0], [2.0, 3.0], [-0.0, 1.0]])
        >>> bool(inverse[0] == inverse[2]), sorted(multiplicity.tolist())
        (True, [1, 2])
    """
    if read_when_needed(features):
        return _in_order(features)
    matrix = np.asarray(features)
    if matrix.ndim != 2:
        raise ConfigurationError(f"Expected argument `features` of shape (N, D), but got {matrix.shape}.")
    if matrix.dtype not in (np.float32, np.float64):
        matrix = matrix.astype(np.float32 if matrix.dtype == np.float16 else np.float64)
    _, first, inverse, multiplicity = np.unique(
        _row_hashes(matrix), return_index=True, return_inverse=True, return_counts=True
    )
    inverse = inverse.reshape(-1)
    if not _equal_rows(matrix, first[inverse]):  # a collision, once in 2^64 pairs: sort the rows themselves
        _, first, inverse, multiplicity = np.unique(
            matrix + 0.0, axis=0, return_index=True, return_inverse=True, return_counts=True
        )
        inverse = inverse.reshape(-1)
    return first.astype(np.int64), inverse.astype(np.int64), multiplicity.astype(np.int64)


def _in_order(rows: Any) -> tuple[IntArray, IntArray, IntArray]:
    hashes = np.empty(len(rows), np.uint64)

    def read(part: slice) -> None:
        hashes[part] = _row_hashes(np.asarray(rows[part], np.float32))

    each_counted("reading features", read, len(rows), max(1, _READ_VALUES // rows.shape[1]), at_once=_READ_BLOCKS)
    _, first, inverse, multiplicity = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    copies = np.flatnonzero(first[inverse] != np.arange(len(rows)))
    for part in slices(len(copies), max(1, _BLOCK_VALUES // rows.shape[1])):
        if not np.array_equal(rows[copies[part]], rows[first[inverse[copies[part]]]]):
            raise RuntimeError("Two different rows have the same hash of 64 bits. Load the features into memory.")
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order].astype(np.int64), rank[inverse].astype(np.int64), multiplicity[order].astype(np.int64)


def self_tuning_weights(indices: npt.ArrayLike, distances: npt.ArrayLike) -> sp.csr_matrix:
    r"""Edge weights that adapt to the local scale.

    .. math:: w_{ij} = \exp\Big(-\min\big(\frac{d_{ij}^2}{s_i s_j}, 40\big)\Big)

    where :math:`s_i` is the distance from `i` to its 7th neighbour, or to number `k // 2` for small `k`. Zelnik-Manor
    and Perona, "Self-tuning spectral clustering", NIPS 2004, equation 2. The floor keeps the row of a far outlier from
    vanishing; the union of the neighbour lists makes the matrix symmetric. Where :math:`s_i` would be 0 (coincident
    points), the smallest positive distance of the list stands in; without any, only coincident points are near.

    Args:
        indices: `(N, k)` neighbours of each point, itself excluded, nearest first.
        distances: `(N, k)` their distances.

    Returns:
        `(N, N)` float32, exactly symmetric, without a diagonal.

    Raises:
        ConfigurationError: shapes that differ, positions out of range, or a distance that is negative or not finite.

    Example:
        >>> weights = self_tuning_weights([[1], [0], [1]], [[1.0], [1.0], [2.0]])
        >>> weights.toarray().round(4)
        array([[0.    , 0.3679, 0.    ],
               [0.3679, 0.    , 0.1353],
               [0.    , 0.1353, 0.    ]], dtype=float32)
    """
    neighbours, lengths = checked_lists(indices, distances)
    scale = local_scale(lengths)
    return symmetric_weights(directed_weights(neighbours, lengths, scale, scale))


def checked_lists(indices: npt.ArrayLike, distances: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Neighbour lists that a graph can be made of.

    Args:
        indices: `(N, k)`.
        distances: `(N, k)`.

    Returns:
        indices: of an integer type.
        distances: float32 or float64.

    Raises:
        ConfigurationError: as `self_tuning_weights`.
    """
    neighbours, lengths = np.asarray(indices), np.asarray(distances)
    if not np.issubdtype(neighbours.dtype, np.integer):
        neighbours = neighbours.astype(np.int64)
    if lengths.dtype != np.float32:
        lengths = lengths.astype(np.float64)
    if neighbours.ndim != 2 or neighbours.shape != lengths.shape:
        raise ConfigurationError(
            "Expected arguments `indices` and `distances` of one shape (N, k), "
            f"but got {neighbours.shape} and {lengths.shape}."
        )
    if not (np.isfinite(lengths).all() and (lengths >= 0).all()):
        raise ConfigurationError("Expected argument `distances` to be finite and at least 0.")
    if neighbours.size and not (neighbours.min() >= 0 and neighbours.max() < len(neighbours)):
        raise ConfigurationError(
            f"Expected argument `indices` to hold positions from 0 to {len(neighbours) - 1}, but got some from "
            f"{neighbours.min()} to {neighbours.max()}."
        )
    return neighbours, lengths


def local_scale(distances: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The scale `s_i` of some points, each by its own list.

    Args:
        distances: `(R, k)` nearest first.

    Returns:
        `(R,)`; 0 where only coincident points are near.

    Example:
        >>> local_scale(np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 2.0]]))
        array([2., 2.])
    """
    k = distances.shape[1]
    if k == 0:
        return np.zeros(len(distances))
    scale = distances[:, min(7, max(1, k // 2)) - 1].astype(np.float64)
    flat = scale == 0
    if flat.any():
        positive = np.where(distances[flat] > 0, distances[flat], np.inf).min(axis=1)
        scale[flat] = np.where(np.isfinite(positive), positive, 0.0)
    return scale


def directed_weights(
    neighbours: npt.NDArray[Any],
    distances: npt.NDArray[Any],
    scale: npt.NDArray[np.float64],
    scale_of_all: npt.NDArray[np.float64],
) -> sp.csr_matrix:
    """Edge weights of some points to their own neighbours, before the union of the lists.

    Args:
        neighbours: `(R, k)`.
        distances: `(R, k)`.
        scale: `(R,)` of these points.
        scale_of_all: `(N,)`.

    Returns:
        `(R, N)` float32, its indices int32 where they fit.

    Example:
        >>> directed_weights(np.array([[1]]), np.array([[0.0]]), np.ones(1), np.ones(3)).toarray()
        array([[0., 1., 0.]], dtype=float32)
    """
    n_rows, k = neighbours.shape
    values = np.empty((n_rows, k), np.float32)

    def weigh(part: slice) -> None:
        # s_i s_j in float64 can neither overflow nor vanish for float32 distances
        lengths = distances[part].astype(np.float64)
        products = scale[part, None] * scale_of_all[neighbours[part]]
        exponents = np.full(lengths.shape, _LARGEST_EXPONENT)
        np.divide(lengths**2, products, out=exponents, where=products > 0)
        exponents[lengths == 0] = 0.0
        values[part] = np.exp(-np.minimum(exponents, _LARGEST_EXPONENT))

    each(weigh, slices(n_rows, _ROWS))
    narrow = np.int32 if max(n_rows * k, len(scale_of_all)) < 2**31 else np.int64
    pointers = np.arange(n_rows + 1, dtype=narrow) * narrow(k)
    columns = neighbours.astype(narrow, copy=False).ravel()
    return sp.csr_matrix((values.ravel(), columns, pointers), shape=(n_rows, len(scale_of_all)))


def symmetric_weights(directed: sp.csr_matrix, reverse: sp.csr_matrix | None = None) -> sp.csr_matrix:
    """The union of neighbour lists: edges of some points, and the edges that lead to them.

    Args:
        directed: `(R, N)`.
        reverse: `(R, N)` the same rows of the transpose of the `(N, N)` directed weights. Default: `directed` holds all
            of these, and is transposed in parts.

    Returns:
        `(R, N)` with sorted indices.

    Example:
        >>> symmetric_weights(sp.csr_matrix([[0.0, 1.0], [0.5, 0.0]])).toarray()
        array([[0., 1.],
               [1., 0.]])
    """
    n_rows = directed.shape[0]
    longest = directed.nnz + (directed if reverse is None else reverse).nnz
    narrow = np.int32 if max(longest, directed.shape[1]) < 2**31 else np.int64
    # of what is allocated, only what is written to takes memory
    indices, values = np.empty(longest, narrow), np.empty(longest, directed.dtype)
    pointers = np.zeros(n_rows + 1, narrow)
    end = 0
    at_once = max(_ROWS, n_rows // _PARTS)  # rows of the transpose held at a time
    leading, first = reverse, 0
    for part in counted("building the graph", slices(n_rows, _ROWS), n_rows):
        if reverse is None and (part.start == 0 or part.stop > first + at_once):
            first = part.start
            leading = directed[:, first : max(first + at_once, part.stop)].T.tocsr()
        assert leading is not None, "one is given or made"
        its_rows = rows_of(leading, slice(part.start - first, part.stop - first))
        block = rows_of(directed, part).maximum(its_rows).tocsr()
        block.sort_indices()
        indices[end : end + block.nnz], values[end : end + block.nnz] = block.indices, block.data
        pointers[part.start + 1 : part.stop + 1] = block.indptr[1:] + narrow(end)
        end += block.nnz
    return sp.csr_matrix((values[:end], indices[:end], pointers), shape=directed.shape)


def transition_matrix(weights: sp.csr_matrix, *, start: int = 0) -> sp.csr_matrix:
    r"""The random walk on the graph, :math:`P = D^{-1} W` with :math:`D_{ii} = \sum_j w_{ij}`.

    Kushnir and Venturi, "Diffusion-based deep active learning", 2020, section 3. The degree is summed in float64.
    A point without edges stays where it is, :math:`P_{ii} = 1`, so that every row sums to 1.

    Args:
        weights: `(N, N)` symmetric, not negative; or some of its rows, `(R, N)`.
        start: the point of the first row.

    Returns:
        float32, of the shape of `weights`.

    Example:
        >>> transition_matrix(sp.csr_matrix([[0.0, 1.0, 3.0], [1.0, 0.0, 0.0], [3.0, 0.0, 0.0]])).toarray()
        array([[0.  , 0.25, 0.75],
               [1.  , 0.  , 0.  ],
               [1.  , 0.  , 0.  ]], dtype=float32)
    """
    return normalised(weights, weighted_degree(weights), start=start)


def normalised(
    weights: sp.csr_matrix, degree: npt.NDArray[np.float64], *, start: int = 0, in_place: bool = False
) -> sp.csr_matrix:
    """`transition_matrix` where the degree is known.

    Args:
        weights: `(R, N)`.
        degree: `(R,)` of `weighted_degree`.
        start: the point of the first row.
        in_place: overwrite the weights, which are float32 then.

    Example:
        >>> weights = sp.csr_matrix([[0.0, 1.0], [1.0, 0.0]])
        >>> normalised(weights, np.array([1.0, 1.0])).toarray()
        array([[0., 1.],
               [1., 0.]], dtype=float32)
    """
    isolated = degree == 0
    if isolated.any():
        stay = np.flatnonzero(isolated)
        diagonal = (np.ones(len(stay), weights.dtype), (stay, start + stay))
        weights = (weights + sp.csr_matrix(diagonal, shape=weights.shape)).tocsr()
        degree = np.where(isolated, 1.0, degree)
    values = weights.data if in_place and weights.dtype == np.float32 else np.empty(weights.nnz, np.float32)
    for part in slices(len(degree), _ROWS):
        pointers = weights.indptr[part.start : part.stop + 1]
        span = slice(int(pointers[0]), int(pointers[-1]))
        values[span] = weights.data[span] / np.repeat(degree[part], np.diff(pointers))
    return sp.csr_matrix((values, weights.indices, weights.indptr), shape=weights.shape)


def centrality(weights: sp.csr_matrix) -> FloatArray:
    r"""How central each point is: the rank of its weighted degree, :math:`\operatorname{rank}(d_i) / N`.

    Equal degrees share their average rank. The rank and not :math:`d_i / \max_j d_j`, which hangs on a single hub.

    Args:
        weights: `(N, N)` symmetric, not negative.

    Returns:
        `(N,)` float32 in `(0, 1]`.

    Example:
        >>> centrality(sp.csr_matrix([[0.0, 1.0, 3.0], [1.0, 0.0, 0.0], [3.0, 0.0, 0.0]])).round(2)
        array([1.  , 0.33, 0.67], dtype=float32)
    """
    return degree_rank(weighted_degree(weights))


def degree_rank(degree: npt.NDArray[np.float64]) -> FloatArray:
    """The ranks behind `centrality`.

    Args:
        degree: `(N,)` of `weighted_degree`.

    Returns:
        `(N,)` float32 in `(0, 1]`.

    Example:
        >>> degree_rank(np.array([4.0, 1.0, 1.0, 6.0]))
        array([0.75 , 0.375, 0.375, 1.   ], dtype=float32)
    """
    _, inverse, counts = np.unique(degree, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    result: FloatArray = (ranks[inverse.reshape(-1)] / max(1, len(degree))).astype(np.float32)
    return result


def weighted_degree(weights: sp.csr_matrix) -> npt.NDArray[np.float64]:
    """Sums of the rows in float64.

    Args:
        weights: `(N, N)`, or some of its rows.

    Returns:
        `(N,)`, one for each row given.

    Example:
        >>> weighted_degree(sp.csr_matrix([[0.0, 1.0, 3.0]]))
        array([4.])
    """
    degree, ones = np.empty(weights.shape[0]), np.ones(weights.shape[1])
    for part in slices(len(degree), _ROWS):  # of which a product makes a copy in float64
        degree[part] = rows_of(weights, part) @ ones
    return degree


def _row_hashes(matrix: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """`(N,)` 64-bit hashes of the rows: every value is mixed with its column, then all are added."""
    n_rows, n_columns = matrix.shape
    unsigned = np.uint32 if matrix.itemsize == 4 else np.uint64
    columns = _mix(np.arange(1, n_columns + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)
    hashes = np.empty(n_rows, dtype=np.uint64)

    def read(part: slice) -> None:
        bits = (matrix[part] + 0.0).view(unsigned).astype(np.uint64)  # + 0.0 makes -0.0 positive
        bits *= columns
        bits += columns
        hashes[part] = _mix(bits).sum(axis=1, dtype=np.uint64)

    each(read, slices(n_rows, max(1, _READ_VALUES // max(1, n_columns))))
    return _mix(hashes)


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: SplitMix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _equal_rows(matrix: npt.NDArray[Any], others: IntArray) -> bool:
    copies = np.flatnonzero(others != np.arange(len(matrix)))
    parts = slices(len(copies), max(1, _BLOCK_VALUES // max(1, matrix.shape[1])))
    return all(np.array_equal(matrix[copies[part]], matrix[others[copies[part]]]) for part in parts)
