"""Points in the order of random keys, and the few distances that greedy samplers need; nothing of N x N."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.neighbors.rows import scaled_points
from lightning_diffal.samplers.query_data import QueryData
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.matrices import relative_distances

__all__ = [
    "KeyedPoints",
    "check_choice",
    "check_count",
    "check_features",
    "check_positive",
    "count_within",
    "keyed_points",
    "nearest_squared",
    "row_keys",
    "squared_distances",
]


METRICS = ("euclidean", "cosine")

_CACHED_VALUES = 2**18  # of a temporary that is read again at once: it stays in the cache
_BLOCK_VALUES = 2**22  # of a product of matrices


class KeyedPoints(NamedTuple):
    """The data set in the order of its random keys.

    The first of equals is then a random one, and whatever is computed on the rows follows a permutation of the data
    set (with its keys) bit for bit, sums and products of matrices included.

    Attributes:
        points: `(N, D)` features scaled by a power of two to magnitudes of about 1, so that no square overflows, and
            centred, so that the Gram form loses little.
        order: `(N,)` the data set index of each row.
        candidates: `(M,)` rows that may be asked, ascending.
        held: `(H,)` rows that are labelled or pending, ascending.
        exponent: of the scale: a distance of the features is `ldexp(distance, exponent)`.
    """

    points: FloatArray
    order: IntArray
    candidates: IntArray
    held: IntArray
    exponent: int

    def true_lengths(self, squared: npt.ArrayLike) -> FloatArray:
        """Distances of the features from squared distances of the rows."""
        lengths = np.ldexp(np.sqrt(np.asarray(squared, np.float64)), self.exponent)
        return np.minimum(lengths, np.finfo(np.float32).max).astype(np.float32)


def keyed_points(data: QueryData, metric: str, generator: np.random.Generator) -> KeyedPoints:
    r"""Draw one key per point and order the data set by it.

    Args:
        data: needs `features`.
        metric: `"euclidean"`, or `"cosine"`: the rows then have length 1, so that their distances are chords
            :math:`\sqrt{2 (1 - \cos)}`.
        generator: draws the keys, and nothing else.

    Raises:
        ConfigurationError: no features.
    """
    features = check_features(data)
    order = np.argsort(generator.random(data.num_points), kind="stable")
    row = np.empty_like(order)
    row[order] = np.arange(len(order))
    points, exponent = scaled_points(features[order], metric)
    if len(points):
        points -= np.median(points[:4096], axis=0)  # a mean would follow outliers
    held = np.concatenate([data.labelled, data.pending])
    return KeyedPoints(points, order, np.sort(row[data.candidates]), np.sort(row[held]), exponent)


def squared_distances(points: FloatArray, centre: FloatArray) -> FloatArray:
    """Squared distances to one point by direct subtraction: exactly 0 between equal rows.

    Args:
        points: `(M, D)`.
        centre: `(D,)`.

    Returns:
        `(M,)`.

    Example:
        >>> squared_distances(np.float32([[1, 2], [4, 6]]), np.float32([1, 2]))
        array([ 0., 25.], dtype=float32)
    """
    result = np.empty(len(points), np.float32)
    block = max(1, _CACHED_VALUES // max(1, points.shape[1]))
    for start in range(0, len(points), block):
        difference = points[start : start + block] - centre
        np.einsum("ij,ij->i", difference, difference, out=result[start : start + block])
    return result


def nearest_squared(
    points: FloatArray, targets: FloatArray, apart: tuple[IntArray, IntArray] | None = None
) -> FloatArray:
    """Squared distance of each point to its nearest target; infinite where there is none.

    The nearest is found by the Gram form in float64, its distance computed by direct subtraction.

    Args:
        points: `(M, D)`.
        targets: `(T, D)`.
        apart: `(M,)` and `(T,)` groups of both: targets of a point's own group do not count.

    Returns:
        `(M,)`.

    Example:
        >>> nearest_squared(np.float32([[0], [5]]), np.float32([[1], [7]]))
        array([1., 4.], dtype=float32)
    """
    result = np.full(len(points), np.inf, np.float32)
    if not len(targets):
        return result
    block = _BLOCK_VALUES // (len(targets) + points.shape[1])
    for rows, gram in relative_distances(points, targets, block, np.float64):
        part = points[rows]
        if apart is not None:
            gram[apart[0][rows, None] == apart[1]] = np.inf
        nearest = gram.argmin(axis=1)
        difference = part - targets[nearest]
        squared = np.einsum("ij,ij->i", difference, difference)
        result[rows] = np.where(gram[np.arange(len(part)), nearest] < np.inf, squared, np.inf)
    return result


def count_within(points: FloatArray, targets: FloatArray, squared_radius: float) -> IntArray:
    """How many targets lie within a radius of each point, by the Gram form in float32.

    Args:
        points: `(M, D)`, centred.
        targets: `(T, D)`.
        squared_radius: of the ball, its border included (up to rounding).

    Returns:
        `(M,)`.

    Example:
        >>> count_within(np.float32([[0], [5]]), np.float32([[-1], [1], [7]]), 1.5)
        array([2, 0])
    """
    counts = np.zeros(len(points), np.int64)
    if not len(targets):
        return counts
    norms = np.einsum("ij,ij->i", targets, targets)
    right = np.concatenate([-2 * targets, norms[:, None]], axis=1).T
    block = max(1, _BLOCK_VALUES // len(targets))
    for start in range(0, len(points), block):
        part = points[start : start + block]
        gram = np.concatenate([part, np.ones((len(part), 1), np.float32)], axis=1) @ right  # |y|^2 - 2 x.y
        limit = np.float32(squared_radius) - np.einsum("ij,ij->i", part, part)
        counts[start : start + block] = np.count_nonzero(gram <= limit[:, None], axis=1)
    return counts


def row_keys(matrix: FloatArray) -> npt.NDArray[np.uint64]:
    """A number for each row that follows from its values alone; equal rows have equal ones.

    Args:
        matrix: `(N, D)`.

    Returns:
        `(N,)`, as good as random, the same in every process.

    Example:
        >>> keys = row_keys(np.float32([[1, 2], [2, 1], [1, 2]]))
        >>> bool(keys[0] == keys[2] != keys[1])
        True
    """
    factors = np.random.default_rng(0).integers(1, 2**63, matrix.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(
        1
    )
    keys = np.empty(len(matrix), np.uint64)
    block = max(1, _CACHED_VALUES // max(1, matrix.shape[1]))
    for start in range(0, len(matrix), block):
        rows = np.ascontiguousarray(matrix[start : start + block], np.float32) + np.float32(0)  # no negative zero
        bits = rows.view(np.uint32).astype(np.uint64)
        bits *= np.uint64(0x9E3779B97F4A7C15)
        bits ^= bits >> np.uint64(29)
        keys[start : start + block] = (bits * factors).sum(axis=1, dtype=np.uint64)
    keys ^= keys >> np.uint64(31)
    keys *= np.uint64(0xBF58476D1CE4E5B9)
    return keys ^ (keys >> np.uint64(27))


def check_features(data: QueryData) -> FloatArray:
    """The features, or an error where there are none."""
    if data.features is None:
        raise ConfigurationError("Expected argument `data` to hold `features`, but got None.")
    return data.features


def check_count(name: str, value: Any, expected: str = "an integer of at least 1") -> None:
    """Refuse what is not a positive integer."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ConfigurationError(f"Expected argument `{name}` to be {expected}, but got {value!r}.")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse what is none of the choices."""
    if value not in choices:
        raise ConfigurationError(f"Expected argument `{name}` to be one of {choices}, but got {value!r}.")


def check_positive(name: str, value: Any, expected: str = "a finite number above 0") -> None:
    """Refuse what is not a finite positive number."""
    is_number = isinstance(value, (int, float, np.floating)) and not isinstance(value, bool)
    if not is_number or not 0 < value < np.inf:
        raise ConfigurationError(f"Expected argument `{name}` to be {expected}, but got {value!r}.")
