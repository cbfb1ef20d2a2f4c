"""A cheap sampler narrows the pool, an expensive one chooses among what is left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lightning_diffal.exceptions import InvalidTypeError
from lightning_diffal.samplers.base import Query, QueryData, QuerySampler
from lightning_diffal.samplers.baselines.badge import BADGESampler
from lightning_diffal.samplers.diffusion import DiffusionSampler
from lightning_diffal.samplers.points import check_count

__all__ = ["CandidateSampler"]

_CANDIDATES_PER_POINT = 10


class CandidateSampler(QuerySampler):
    """Asks what `base` chooses among the points that `prefilter` wants most.

    Kushnir and Xu, "Active learning with diffusion on graphs for candidate selection" ("DGAL"), TMLR 2024: the points
    whose diffused label is weakest are the candidates, and gradients (BADGE) or another costly criterion choose among
    them. `prefilter` picks its `n_candidates` as it would pick a batch, so they are spread over the data set.

    `Query` is that of `base`; its `details` also hold `prefilter_score` and what `prefilter` said of the chosen points,
    its `summary` the figures of `prefilter`, their names preceded by `prefilter_`.

    Args:
        prefilter: default: `DiffusionSampler()`.
        base: default: `BADGESampler()`.
        n_candidates: how many points `base` may choose among; never fewer than are asked. `None`: ten per point.

    Raises:
        InvalidTypeError: `prefilter` or `base` is not a sampler.
        ConfigurationError: `n_candidates` below 1.

    Example:
        >>> from lightning_diffal.samplers import MarginSampler
        >>> features = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
        >>> probabilities = np.array([[0.5, 0.5], [0.5, 0.5], [0.1, 0.9], [0.9, 0.1], [0.8, 0.2], [0.9, 0.1]])
        >>> data = QueryData(features=features, probabilities=probabilities, labelled=[0], labels=[0])
        >>> sampler = CandidateSampler(DiffusionSampler(n_neighbors=2), MarginSampler(), n_candidates=2)
        >>> sorted(sampler.requires), sampler.select(data, 1, np.random.default_rng(0)).indices
        (['features', 'probabilities'], array([1]))
    """

    def __init__(
        self,
        prefilter: QuerySampler | None = None,
        base: QuerySampler | None = None,
        *,
        n_candidates: int | None = None,
    ) -> None:
        self.prefilter = DiffusionSampler() if prefilter is None else prefilter
        self.base = BADGESampler() if base is None else base
        for name, value in (("prefilter", self.prefilter), ("base", self.base)):
            if not isinstance(value, QuerySampler):
                raise InvalidTypeError(f"Expected argument `{name}` to be a QuerySampler, but got {value!r}.")
        if n_candidates is not None:
            check_count("n_candidates", n_candidates, "an integer of at least 1 or None")
        self.n_candidates = n_candidates
        parts = (self.prefilter, self.base)
        self.requires = frozenset().union(*(part.requires for part in parts))
        self.stochastic = any(part.stochastic for part in parts)
        self.penultimate_alone = any(part.penultimate_alone for part in parts)
        readers = [part.mc_passes for part in parts if "mc_probabilities" in part.requires]
        self.mc_passes = max(readers, default=QuerySampler.mc_passes)

    def wants(self, query_size: int) -> frozenset[str]:
        """What either of the two wants, the prefilter for as many points as it chooses.

        Args:
            query_size: points asked at a time.
        """
        return self.requires | self.prefilter.wants(self._size(query_size)) | self.base.wants(query_size)

    def _size(self, query_size: int) -> int:
        return max(self.n_candidates or _CANDIDATES_PER_POINT * query_size, query_size)

    def select(self, data: QueryData, query_size: int, generator: np.random.Generator) -> Query:
        """Choose `min(query_size, M)` of the candidates.

        Args:
            data: needs what `requires` names.
            query_size: how many points to choose.
            generator: handed to `prefilter`, then to `base`.

        Returns:
            The chosen points in the order in which `base` chose them.

        Raises:
            ConfigurationError: a `query_size` below 1, or what the two samplers raise.
        """
        check_count("query_size", query_size)
        weakest = self.prefilter.select(data, self._size(query_size), generator)
        query = self.base.select(replace(data, candidates=weakest.indices), query_size, generator)
        place = {index: position for position, index in enumerate(weakest.indices.tolist())}
        chosen = np.array([place[index] for index in query.indices.tolist()], dtype=np.int64)
        reasons: dict[str, Any] = {name: values[chosen] for name, values in weakest.details.items()}
        return replace(
            query,
            details={"prefilter_score": weakest.scores[chosen], **reasons, **query.details},
            summary={**{f"prefilter_{name}": value for name, value in weakest.summary.items()}, **query.summary},
        )
