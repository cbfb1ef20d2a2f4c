"""DropQuery: points whose prediction changes when their features are dropped, spread by clusters."""

from __future__ import annotations

import numpy as np

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.neighbors.rows import scaled_points
from lightning_diffal.samplers.base import Query, QueryData, QuerySampler
from lightning_diffal.samplers.baselines.kmeans import kmeans, nearest_to_means
from lightning_diffal.samplers.baselines.linear_head import LinearHead, fit_linear_head
from lightning_diffal.samplers.baselines.uncertainty import checked_probabilities
from lightning_diffal.samplers.points import METRICS, check_choice, check_count, check_features, keyed_points
from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = ["DropQuerySampler", "count_changes"]

_BLOCK_VALUES = 2**20  # of the features dropped at a time


def count_changes(
    features: FloatArray, head: LinearHead, rate: float, n_drops: int, generator: np.random.Generator
) -> IntArray:
    r"""How often the prediction of each point changes when a share of its features is dropped.

    .. math:: \sum_{m=1}^{M} 1\big[\hat y(\operatorname{dropout}_\rho(h)) \ne \hat y(h)\big]

    What is kept is scaled by :math:`1 / (1 - \rho)`. Gupte, Aklilu, Nirschl and Yeung-Levy, "Revisiting active learning
    in the era of vision foundation models", TMLR 2024, section 3.

    Args:
        features: `(M, D)`.
        head: what predicts.
        rate: :math:`\rho`, the share dropped.
        n_drops: :math:`M`, how often.
        generator: draws what is dropped.

    Returns:
        `(M,)` from 0 to `n_drops`.

    Example:
        >>> head = LinearHead(np.float32([[1, -1]]), np.float32([-0.5, 0.5]), False)
        >>> count_changes(np.float32([[-1], [-1]]), head, 0.5, 4, np.random.default_rng(0))
        array([0, 0])
    """
    counts = np.zeros(len(features), np.int64)
    scale = np.float32(1 / (1 - rate))
    block = max(1, _BLOCK_VALUES // max(1, features.shape[1]))
    for start in range(0, len(features), block):
        rows = features[start : start + block]
        for _ in range(n_drops):
            kept = generator.random(rows.shape, dtype=np.float32) >= rate
            counts[start : start + block] += head.disagrees(rows, np.where(kept, scale * rows, 0))
    return counts


class DropQuerySampler(QuerySampler):
    """Asks points whose prediction does not survive dropout on the features, one from each cluster of them.

    Three times a share of every candidate's features is dropped; candidates whose prediction changes more often than
    not are clustered by k-means into as many clusters as are asked, and the one nearest to the centre of each is
    picked, those of the largest clusters first. Gupte, Aklilu, Nirschl and Yeung-Levy, "Revisiting active learning in
    the era of vision foundation models", TMLR 2024, for a linear classifier on frozen features. Where too few
    predictions change, the other candidates follow in random order.

    Predictions are those of the model's last layer, which is recovered from features and probabilities, see
    `lightning_diffal.samplers.baselines.linear_head.fit_linear_head`. That is exact where the features are what goes
    into the last linear layer, the default of `ActiveLearning`. `Query.summary` says how well it holds:
    `head_agreement` is the share of the candidates for which the recovered layer predicts what the model predicts.
    It also holds `changed`, the share of the candidates whose prediction changes. Scores are how often it did.

    Args:
        rate: share of the features that is dropped, 0.75 in the paper.
        n_drops: how often, 3 in the paper.
        metric: of the clusters: `"euclidean"`, or `"cosine"` for the features' directions.

    Raises:
        ConfigurationError: an argument out of range.

    Example:
        >>> features = np.array([[1.0, 0.1], [0.1, 1.0], [5.0, 0.0], [0.0, 5.0], [1.0, 1.1]])
        >>> first = 1 / (1 + np.exp(features[:, 1] - features[:, 0]))
        >>> data = QueryData(features=features, probabilities=np.stack([first, 1 - first], axis=1))
        >>> DropQuerySampler(rate=0.5).select(data, 1, np.random.default_rng(2)).summary["head_agreement"]
        1.0
    """

    requires: frozenset[str] = frozenset({"features", "probabilities"})
    stochastic: bool = True

    def __init__(self, rate: float = 0.75, n_drops: int = 3, *, metric: str = "euclidean") -> None:
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < 1:
            raise ConfigurationError(f"Expected argument `rate` to be a number between 0 and 1, but got {rate!r}.")
        check_count("n_drops", n_drops)
        check_choice("metric", metric, METRICS)
        self.rate = rate
        self.n_drops = n_drops
        self.metric = metric

    def select(self, data: QueryData, query_size: int, generator: np.random.Generator) -> Query:
        """Choose `min(query_size, M)` of the candidates.

        Args:
            data: needs `features`, `(N, D)`, and `probabilities`, `(N, C)`.
            query_size: how many points to choose.
            generator: draws one key per point of the data set, which breaks ties, then what is dropped and the seeds of
                k-means.

        Returns:
            The chosen points in the order of choice.

        Raises:
            ConfigurationError: no features or probabilities, or a `query_size` below 1.
        """
        check_count("query_size", query_size)
        probabilities = checked_probabilities(data)
        space = keyed_points(data, self.metric, generator)
        inner = np.random.default_rng(int(generator.integers(2**62)))
        scaled, _ = scaled_points(check_features(data)[space.order], "euclidean")
        head = fit_linear_head(scaled, probabilities[space.order], multilabel=data.is_multilabel)
        candidates, own = space.order[space.candidates], scaled[space.candidates]
        changes = count_changes(own, head, self.rate, self.n_drops, inner)
        changed = np.flatnonzero(2 * changes > self.n_drops)
        size = min(query_size, len(candidates))
        first = _spread(space.points[space.candidates[changed]], size, inner)
        taken = np.zeros(len(candidates), dtype=bool)
        taken[changed[first]] = True
        # whoever is left: changed ones first, which clusters of copies may leave over, then the rest in random order
        rest = np.lexsort((np.arange(len(candidates)), 2 * changes <= self.n_drops, taken))[: size - len(first)]
        positions = np.concatenate([changed[first], rest])
        agreement = _predictions(head.probabilities(own), head.multilabel) == _predictions(
            probabilities[candidates], head.multilabel
        )
        return Query(
            candidates[positions],
            (changes[positions] / self.n_drops).astype(np.float32),
            summary={
                "changed": len(changed) / max(1, len(candidates)),
                "head_agreement": float(agreement.all(axis=1).mean()) if len(candidates) else 1.0,
            },
        )


def _spread(points: FloatArray, size: int, generator: np.random.Generator) -> IntArray:
    """All points where they are few, else those nearest to the centres of clusters, of the largest first."""
    if len(points) <= size:
        return np.arange(len(points))
    return nearest_to_means(points, kmeans(points, size, generator))


def _predictions(probabilities: FloatArray, multilabel: bool) -> IntArray:
    found: IntArray = (probabilities > 0.5).astype(np.int64) if multilabel else probabilities.argmax(axis=1)[:, None]
    return found
