"""MaxHerding: cover the data set with a smooth kernel."""

from __future__ import annotations

import numpy as np

from lightning_diffal.samplers.base import Query, QueryData, QuerySampler
from lightning_diffal.samplers.baselines.coverage import cover
from lightning_diffal.samplers.points import METRICS, check_choice, check_count, check_positive, keyed_points

__all__ = ["MaxHerdingSampler"]


class MaxHerdingSampler(QuerySampler):
    r"""Asks the points that together cover the data set best, as a smooth kernel sees it.

    .. math:: \max_S \frac{1}{N} \sum_n \max_{s \in S} K(s, x_n), \qquad K(x, y) = e^{-\lVert x - y \rVert^2 / \sigma^2}

    Labelled and pending points cover from the start; the batch is picked greedily, see
    `lightning_diffal.samplers.baselines.coverage.greedy_coverage`. Bae, Noh and Sutherland, "Generalized coverage for
    more robust low-budget active learning", ECCV 2024 (arXiv 2407.12212), with features of unit length and a Gaussian
    kernel of width 1. A kernel that is 1 inside a ball and 0 outside gives ProbCover.

    Scores are the shares of the coverage that each pick adds. `Query.summary` holds `covered`, the coverage with the
    query, and `width`.

    Time grows with the square of the data set, memory does not. Past `max_covered` points coverage is counted on as
    many random ones; every candidate may still be picked.

    Args:
        width: :math:`\sigma`, 1 in the paper, for unit vectors; with `metric="euclidean"` in the units of the features.
        metric: `"cosine"`: the features are brought to unit length, as in the paper. `"euclidean"`: as they are.
        max_covered: on how many points coverage is counted at most.

    Raises:
        ConfigurationError: an argument out of range.

    Example:
        >>> features = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [0.0, 1.0], [0.1, 1.0]])
        >>> data = QueryData(features=features, labelled=[3], labels=[0])
        >>> MaxHerdingSampler().select(data, 1, np.random.default_rng(0)).indices
        array([1])
    """

    requires: frozenset[str] = frozenset({"features"})

    def __init__(self, width: float = 1.0, *, metric: str = "cosine", max_covered: int = 100_000) -> None:
        check_positive("width", width)
        check_choice("metric", metric, METRICS)
        check_count("max_covered", max_covered)
        self.width = width
        self.metric = metric
        self.max_covered = max_covered

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
        width = float(np.ldexp(self.width, -space.exponent))
        return cover(space, None, width, min(query_size, len(space.candidates)), self.max_covered)
