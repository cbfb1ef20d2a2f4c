"""TypiClust: the most typical point of every cluster that holds no label yet."""

from __future__ import annotations

import heapq

import numpy as np

from lightning_diffal.neighbors.nearest import nearest_neighbors
from lightning_diffal.samplers.base import Query, QueryData, QuerySampler
from lightning_diffal.samplers.baselines.kmeans import kmeans
from lightning_diffal.samplers.points import METRICS, KeyedPoints, check_choice, check_count, keyed_points
from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = ["TypiClustSampler", "mean_neighbor_distances"]


_SMALL = 5  # clusters of so few points come last


def mean_neighbor_distances(points: FloatArray, n_neighbors: int) -> FloatArray:
    r"""The inverse of the typicality: the mean distance to the nearest neighbours.

    .. math:: \operatorname{Typicality}(x) = \Big( \frac{1}{K} \sum_{x_i \in K\text{-NN}(x)} \lVert x - x_i \rVert
        \Big)^{-1}

    Hacohen, Dekel and Weinshall, "Active learning on a budget: opposite strategies suit high and low budgets", ICML
    2022, equation 4.

    Args:
        points: `(M, D)` of one cluster, in random order.
        n_neighbors: `K`; half of the points where the cluster is small, as in the authors' code.

    Returns:
        `(M,)`; 0 for a point alone.

    Example:
        >>> mean_neighbor_distances(np.float32([[0], [1], [3], [4]]), 2).tolist()
        [2.0, 1.5, 1.5, 2.0]
    """
    if len(points) < 2:
        return np.zeros(len(points), np.float32)
    _, distances = nearest_neighbors(points, max(1, min(n_neighbors, len(points) // 2)))
    means: FloatArray = distances.mean(axis=1, dtype=np.float64).astype(np.float32)
    return means


class TypiClustSampler(QuerySampler):
    """Asks typical points of different clusters; made for the first few labels.

    The features are clustered by k-means into as many clusters as there will be labels (at most `max_clusters`).
    Again and again the cluster with the fewest labelled, pending and picked points gives its most typical candidate,
    the largest cluster first; clusters of five points or fewer come last. Hacohen, Dekel and Weinshall, ICML 2022,
    algorithm 1 and its authors' code. Neighbours are sought among all points of the cluster, labelled ones too.

    Scores are typicalities (see `mean_neighbor_distances`). `Query.details` holds `cluster_size`.

    Args:
        n_neighbors: for the typicality, 20 in the paper.
        max_clusters: 500 in the paper.
        metric: `"euclidean"`, or `"cosine"` for chords between directions.

    Raises:
        ConfigurationError: an argument out of range.

    Example:
        >>> features = np.array([[0, 2, 3, 4, 6, 7, 18, 19, 20, 20.5, 22, 24]]).T
        >>> data = QueryData(features=features, labelled=[2], labels=[0])
        >>> TypiClustSampler().select(data, 1, np.random.default_rng(0)).indices
        array([8])
    """

    requires: frozenset[str] = frozenset({"features"})

    def __init__(self, n_neighbors: int = 20, *, max_clusters: int = 500, metric: str = "euclidean") -> None:
        check_count("n_neighbors", n_neighbors)
        check_count("max_clusters", max_clusters)
        check_choice("metric", metric, METRICS)
        self.n_neighbors = n_neighbors
        self.max_clusters = max_clusters
        self.metric = metric

    def select(self, data: QueryData, query_size: int, generator: np.random.Generator) -> Query:
        """Choose `min(query_size, M)` of the candidates.

        Args:
            data: needs `features`, `(N, D)`.
            query_size: how many points to choose.
            generator: draws one key per point of the data set, which breaks ties, then the seeds of k-means.

        Returns:
            The chosen points in the order of choice.

        Raises:
            ConfigurationError: no features, or a `query_size` below 1.
        """
        check_count("query_size", query_size)
        space = keyed_points(data, self.metric, generator)
        size = min(query_size, len(space.candidates))
        # keys are `generator.random(N)`; an inner generator keeps other draws apart from them
        inner = np.random.default_rng(int(generator.integers(2**62)))
        clusters = kmeans(space.points, min(len(space.held) + size, self.max_clusters), inner)
        rows, lengths = self._pick(space, clusters, size)
        with np.errstate(over="ignore"):
            typicality = np.ldexp(1 / np.maximum(lengths.astype(np.float64), 1e-30), -space.exponent)
        scores = np.minimum(typicality, np.finfo(np.float32).max)
        return Query(space.order[rows], scores, details={"cluster_size": np.bincount(clusters)[clusters[rows]]})

    def _pick(self, space: KeyedPoints, clusters: IntArray, size: int) -> tuple[IntArray, FloatArray]:
        """Rows in the order of choice, and the mean distance to their neighbours."""
        members = np.split(np.argsort(clusters, kind="stable"), np.cumsum(np.bincount(clusters))[:-1])
        covered = np.bincount(clusters[space.held], minlength=len(members))
        is_candidate = np.zeros(len(clusters), dtype=bool)
        is_candidate[space.candidates] = True
        # of equally large clusters the one with the first row comes first: a random key
        queue = [
            (len(rows) <= _SMALL, int(covered[cluster]), -len(rows), int(rows[0]), cluster)
            for cluster, rows in enumerate(members)
            if len(rows) and is_candidate[rows].any()
        ]
        heapq.heapify(queue)
        waiting: dict[int, list[tuple[int, float]]] = {}  # of each cluster met so far, the most typical one last
        picked: list[tuple[int, float]] = []
        while len(picked) < size:
            small, count, negative_size, first, cluster = heapq.heappop(queue)
            if cluster not in waiting:
                rows = members[cluster]
                lengths = mean_neighbor_distances(space.points[rows], self.n_neighbors)
                order = np.argsort(lengths, kind="stable")[::-1]
                waiting[cluster] = [(int(rows[i]), float(lengths[i])) for i in order if is_candidate[rows[i]]]
            picked.append(waiting[cluster].pop())
            if waiting[cluster]:
                heapq.heappush(queue, (small, count + 1, negative_size, first, cluster))
        return np.array([row for row, _ in picked], np.int64), np.array([length for _, length in picked], np.float32)
