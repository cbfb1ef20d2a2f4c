"""ProbCover: cover as many points as possible with balls of one radius."""

from __future__ import annotations

import numpy as np

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.neighbors.rows import scaled_points
from lightning_diffal.samplers.base import Query, QueryData, QuerySampler
from lightning_diffal.samplers.baselines.kmeans import kmeans
from lightning_diffal.samplers.points import (
    METRICS,
    check_choice,
    check_count,
    check_features,
    count_within,
    keyed_points,
    nearest_squared,
    row_keys,
    squared_distances,
)
from lightning_diffal.utils.aliases import BoolArray, FloatArray, IntArray

__all__ = ["ProbCoverSampler", "greedy_cover", "pure_radius", "radius_of"]


_PURITY_SAMPLE = 2048
_SHORT = 0.999  # of the distance at which a ball would touch another cluster


def pure_radius(points: FloatArray, n_clusters: int, purity: float, generator: np.random.Generator) -> float:
    r"""The largest radius at which a share of the balls is pure, as a squared distance.

    .. math:: \delta^* = \max \{\delta : P(B_\delta(x) \text{ holds points of one cluster only}) \ge \alpha\}

    Yehuda, Dekel, Hacohen and Weinshall, "Active learning through a covering lens", NeurIPS 2022, section 3.3, where
    clusters of k-means stand for the unknown classes. A ball is pure as long as it ends before the nearest point of
    another cluster, so the radius is a quantile of those distances and no radii have to be tried. Balls hold their
    border, so the radius stops a thousandth short of it.

    Args:
        points: `(N, D)` in random order; 2,048 of them are looked at.
        n_clusters: the number of classes.
        purity: :math:`\alpha`, 0.95 in the paper.
        generator: seeds k-means.

    Returns:
        Infinite where all points are in one cluster.

    Example:
        >>> points = np.float32([[0], [7], [1], [8], [2], [9]])
        >>> squared = pure_radius(points, 2, 0.95, np.random.default_rng(0))  # 2 and 7 are 5 apart
        >>> round(squared**0.5, 4)
        4.995
    """
    clusters = kmeans(points, n_clusters, generator)
    nearest = nearest_squared(points[:_PURITY_SAMPLE], points, (clusters[:_PURITY_SAMPLE], clusters))
    return _SHORT**2 * float(np.quantile(nearest, 1 - purity, method="lower")) if len(nearest) else np.inf


def radius_of(features: FloatArray, n_clusters: int, *, purity: float, metric: str, n_points: int) -> float:
    """The radius of `pure_radius`, as a function of the features alone: in whatever order, round and process.

    Args:
        features: `(N, D)`.
        n_clusters: the number of classes.
        purity: of the balls.
        metric: `"euclidean"` or `"cosine"`.
        n_points: on how many points, as good as random ones, the clusters are formed at most.

    Returns:
        In the units of the features.

    Example:
        >>> features = np.float32([[0], [7], [1], [8], [2], [9]])
        >>> round(radius_of(features[::-1], 2, purity=0.95, metric="euclidean", n_points=9), 4)
        4.995
    """
    order = np.argsort(row_keys(features), kind="stable")[:n_points]
    points, exponent = scaled_points(features[order], metric)
    if len(points):
        points -= np.median(points[:4096], axis=0)  # as `keyed_points` does, but the same in every query
    squared = pure_radius(points, n_clusters, purity, np.random.default_rng(0))
    return float(np.ldexp(np.sqrt(squared), exponent))


def greedy_cover(
    points: FloatArray, others: FloatArray, covered: BoolArray, squared_radius: float, size: int
) -> tuple[IntArray, IntArray]:
    r"""Pick again and again the point whose ball holds the most points that no earlier ball holds.

    .. math:: c = \arg\max_x \lvert B_\delta(x) \setminus \textstyle\bigcup_{j \in s} B_\delta(x_j) \rvert

    Yehuda et al., NeurIPS 2022, algorithm 1. The authors hold the graph of all pairs within the radius, which is
    quadratic in dense regions. Here only the degrees are held: they are counted once in blocks, and the points that a
    pick newly covers are subtracted in blocks. Every point is covered once, so all picks together cost no more time
    than the first count, and no pair is ever dropped to save memory.

    Args:
        points: `(M, D)` to pick from, centred.
        others: `(T, D)` to cover.
        covered: `(T,)` what is covered from the start.
        squared_radius: of the balls.
        size: how many to pick, at most `M`.

    Returns:
        positions: `(size,)` in the order of choice; of equally good ones the first.
        gains: `(size,)` how many points each newly covered.

    Example:
        >>> points = np.float32([[0], [1], [2], [9]])
        >>> greedy_cover(points, points, np.zeros(4, bool), 1.5, 2)
        (array([1, 3]), array([3, 1]))
    """
    covered = covered.copy()
    positions, gains = np.empty(size, np.int64), np.empty(size, np.int64)
    degree = count_within(points, others[~covered], squared_radius)
    taken = np.zeros(len(points), dtype=bool)
    for place in range(size):
        best = int(np.where(taken, -1, degree).argmax())
        positions[place], gains[place], taken[best] = best, degree[best], True
        new = np.flatnonzero(~covered & (squared_distances(others, points[best]) <= squared_radius))
        covered[new] = True
        degree -= count_within(points, others[new], squared_radius)
        np.maximum(degree, 0, out=degree)  # a pair on the border may be rounded to either side
    return positions, gains


class ProbCoverSampler(QuerySampler):
    """Asks the points whose balls cover the most points not covered yet; made for the first few labels.

    Labelled and pending points cover their balls from the start; see `greedy_cover` and `pure_radius`. When
    everything is covered, the remaining picks are random. Scores are the shares of the data set newly covered.
    `Query.summary` holds `delta` and `covered`, the share of the data set in balls after the query.

    The radius follows from the features alone, so one radius holds for a whole run, as in the paper, wherever the
    features stay the same: a frozen backbone, or `ActiveLearning(features="inputs")`. Features of a network that is
    trained anew have another scale in each round, and the radius follows it; ProbCover was not made for them.

    Time grows with the square of the data set, memory does not. Past `max_covered` points coverage is counted on as
    many random ones, which bounds the time as well; every candidate may still be picked.

    Args:
        delta: the radius; `None`: chosen from the features by `pure_radius`.
        purity: for the choice of the radius, 0.95 in the paper.
        max_covered: on how many points coverage is counted at most.
        metric: `"euclidean"`, or `"cosine"` for chords between directions, as on the normalised features of the
            paper; `delta` is then a chord too.

    Raises:
        ConfigurationError: an argument out of range.

    Example:
        >>> data = QueryData(features=np.array([[0.0], [1.0], [2.0], [9.0], [10.0]]), labelled=[1], labels=[0])
        >>> query = ProbCoverSampler(delta=1.5).select(data, 1, np.random.default_rng(0))
        >>> int(query.indices[0]) in (3, 4), query.scores.tolist(), query.summary["covered"]
        (True, [0.4000000059604645], 1.0)
    """

    requires: frozenset[str] = frozenset({"features"})

    def __init__(
        self,
        delta: float | None = None,
        *,
        purity: float = 0.95,
        max_covered: int = 50_000,
        metric: str = "euclidean",
    ) -> None:
        for name, value, top in (("delta", delta, np.inf), ("purity", purity, 1)):
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (is_number and 0 < value < top) and not (name == "delta" and value is None):  # type: ignore[operator]
                kind = "a number above 0, or None" if name == "delta" else "a number between 0 and 1"
                raise ConfigurationError(f"Expected argument `{name}` to be {kind}, but got {value!r}.")
        check_count("max_covered", max_covered)
        check_choice("metric", metric, METRICS)
        self.delta = delta
        self.purity = purity
        self.max_covered = max_covered
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
        others = space.points[: self.max_covered]  # rows come in random order
        delta = self.delta
        if delta is None:
            delta = radius_of(
                check_features(data),
                max(2, data.num_classes),
                purity=self.purity,
                metric=self.metric,
                n_points=self.max_covered,
            )
        with np.errstate(over="ignore"):
            squared_radius = float(np.ldexp(np.float64(delta), -space.exponent) ** 2)
        covered = nearest_squared(others, space.points[space.held]) <= squared_radius
        covered &= len(space.held) > 0  # an infinite radius holds even what is infinitely far
        positions, gains = greedy_cover(
            candidates, others, covered, squared_radius, min(query_size, len(space.candidates))
        )
        total = max(1, len(others))
        return Query(
            space.order[space.candidates[positions]],
            (gains / total).astype(np.float32),
            summary={
                "delta": float(space.true_lengths(squared_radius)),
                "covered": min(1.0, float(covered.sum() + gains.sum()) / total),
            },
        )
