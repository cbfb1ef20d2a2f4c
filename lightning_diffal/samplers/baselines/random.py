"""Random choice: the baseline that every other sampler has to beat."""

from __future__ import annotations

import numpy as np

from lightning_diffal.samplers.base import Query, QueryData, QuerySampler, best_candidates

__all__ = ["RandomSampler"]


class RandomSampler(QuerySampler):
    """Asks points drawn evenly and without replacement; it looks at nothing.

    Example:
        >>> data = QueryData(num_points=4, labelled=[1], labels=[0])
        >>> sorted(RandomSampler().select(data, 3, np.random.default_rng(0)).indices.tolist())
        [0, 2, 3]
    """

    stochastic: bool = True

    def select(self, data: QueryData, query_size: int, generator: np.random.Generator) -> Query:
        """Draw `min(query_size, M)` of the candidates.

        Args:
            data: what is known; only the candidates are read.
            query_size: how many points to draw.
            generator: the source of the draw.

        Returns:
            The drawn points, all with score 0.
        """
        scores = np.zeros(data.num_points, np.float32)
        chosen = best_candidates(scores, data.candidates, query_size, generator)
        return Query(chosen, scores[chosen])
