"""Core-set selection: cover the data set with the smallest radius."""

from __future__ import annotations

import numpy as np

from lightning_diffal.samplers.base import Query, QueryData, QuerySampler
from lightning_diffal.samplers.points import (
    METRICS,
    check_choice,
    check_count,
    keyed_points,
    nearest_squared,
    squared_distances,
)
from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = ["CoreSetSampler", "k_center_greedy"]


def k_center_greedy(points: FloatArray, nearest: FloatArray, size: int) -> tuple[IntArray, FloatArray]:
    r"""Pick again and again the point farthest from all centres.

    .. math:: u = \arg\max_i \min_{j \in s} \lVert x_i - x_j \rVert^2, \qquad s \leftarrow s \cup \{u\}

    Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018,
    algorithm 1. Each pick costs one pass over the points.

    Args:
        points: `(M, D)` to pick from.
        nearest: `(M,)` squared distance of each to the centres so far; infinite where there is none.
        size: how many to pick, at most `M`.

    Returns:
        positions: `(size,)` in the order of choice; of equally far ones the first.
        squared: `(size,)` how far each was. Where there was no centre, the first pick is given the distance of the
            second.

    Example:
        >>> points = np.float32([[1], [6], [10]])
        >>> k_center_greedy(points, np.float32([1, 36, 100]), 2)
        (array([2, 1]), array([100.,  16.], dtype=float32))
    """
    nearest = nearest.copy()
    positions, squared = np.empty(size, np.int64), np.empty(size, np.float32)
    for place in range(size):
        farthest = int(nearest.argmax())
        positions[place], squared[place] = farthest, nearest[farthest]
        np.minimum(nearest, squared_distances(points, points[farthest]), out=nearest)
        if place == 0 and np.isinf(squared[0]):
            squared[0] = nearest.max()
        nearest[farthest] = -1  # never again
    return positions, squared


class CoreSetSampler(QuerySampler):
    """Asks the points that are farthest from all labelled, pending and picked ones: greedy k-centre.

    See `k_center_greedy`. With no label at all the first pick is a random one. Scores are the distances to the
    nearest centre at the time of the pick, so they never rise, and the last one bounds the radius of the cover.

    Args:
        metric: `"euclidean"`, or `"cosine"` for chords between directions.

    Raises:
        ConfigurationError: an unknown metric.

    Example:
        >>> data = QueryData(features=np.array([[0.0], [1.0], [6.0], [10.0]]), labelled=[0], labels=[0])
        >>> query = CoreSetSampler().select(data, 2, np.random.default_rng(0))
        >>> query.indices.tolist(), query.scores.tolist()
        ([3, 2], [10.0, 4.0])
    """

    requires: frozenset[str] = frozenset({"features"})

    def __init__(self, *, metric: str = "euclidean") -> None:
        check_choice("metric", metric, METRICS)
        self.metric = metric

    def select(self, data: QueryData, query_size: int, generator: np.random.Generator) -> Query:
        """Choose `min(query_size, M)` of the candidates.

        Args:
            data: needs `features`, `(N, D)`.
            query_size: how many points to choose.
            generator: draws one key per point of the data set, which breaks ties.

        Returns:
            The chosen points in the order of choice.

        Raises:
            ConfigurationError: no features, or a `query_size` below 1.
        """
        check_count("query_size", query_size)
        space = keyed_points(data, self.metric, generator)
        candidates = space.points[space.candidates]
        nearest = nearest_squared(candidates, space.points[space.held])
        positions, squared = k_center_greedy(candidates, nearest, min(query_size, len(candidates)))
        return Query(space.order[space.candidates[positions]], space.true_lengths(squared))
