"""The class that a sampler derives from, and what it returns.

Everything here is numpy: samplers work without Lightning and without torch.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.samplers.points import check_count
from lightning_diffal.samplers.query_data import QueryData
from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = [
    "POSITION_DETAILS",
    "Query",
    "QueryData",
    "QuerySampler",
    "ScoreSampler",
    "best_candidates",
    "moved_indices",
]

POSITION_DETAILS = frozenset({"nearest_labelled"})
"""Details of a query that hold positions in the data set, or -1."""


@dataclass(frozen=True, eq=False)
class Query:
    """The points to ask next.

    Args:
        indices: `(b,)` positions in the full training data set, in the order of choice.
        scores: `(b,)` how much each is wanted; higher is more.
        details: further arrays `(b,)` by name, saying why each point was chosen.
        summary: figures on the query as a whole, by name.

    Raises:
        ConfigurationError: arrays of different lengths.

    Example:
        >>> query = Query(indices=[7, 2], scores=[0.9, 0.4], details={"margin": np.array([0.1, 0.6])})
        >>> len(query), query.indices.tolist()
        (2, [7, 2])
    """

    indices: IntArray
    scores: FloatArray
    details: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    summary: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        indices = np.asarray(self.indices, dtype=np.int64).reshape(-1)
        scores = np.asarray(self.scores, dtype=np.float32).reshape(-1)
        details = {name: np.asarray(value) for name, value in self.details.items()}
        lengths = {"indices": len(indices), "scores": len(scores), **{name: len(v) for name, v in details.items()}}
        if len(set(lengths.values())) > 1:
            raise ConfigurationError(f"Expected arrays of one length in a Query, but got {lengths}.")
        object.__setattr__(self, "indices", indices)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "details", details)

    def __len__(self) -> int:
        return len(self.indices)

    def moved(self, position: Callable[[int], int]) -> Query:
        """The same query where its points have other positions now.

        Args:
            position: the present position of each point by its old one; negative numbers, which name no point, stay.

        Example:
            >>> query = Query([4, 2], [0.5, 0.25]).moved(lambda index: 10 + index)
            >>> query.indices, query.scores
            (array([14, 12]), array([0.5 , 0.25], dtype=float32))
        """
        details = {
            name: moved_indices(values, position) if name in POSITION_DETAILS else values
            for name, values in self.details.items()
        }
        return Query(moved_indices(self.indices, position), self.scores, details, self.summary)

    def followed_by(self, other: Query) -> Query:
        """Two queries after the same round as one, where all points of the first were skipped.

        Args:
            other: asked afterwards; its summary stays.

        Example:
            >>> Query([4], [0.5]).followed_by(Query([2], [0.25], summary={"n": 1})).indices
            array([4, 2])
        """
        return Query(
            np.concatenate([self.indices, other.indices]),
            np.concatenate([self.scores, other.scores]),
            {n: np.concatenate([v, other.details[n]]) for n, v in self.details.items() if n in other.details},
            other.summary,
        )


def moved_indices(indices: npt.NDArray[Any], position: Callable[[int], int]) -> npt.NDArray[Any]:
    """Positions of points that have moved.

    Args:
        indices: `(n,)` old positions; negative numbers stay.
        position: the present position by the old one.

    Example:
        >>> moved_indices(np.array([3, -1]), lambda index: index + 1)
        array([ 4, -1])
    """
    return np.array([index if index < 0 else position(index) for index in indices.tolist()], dtype=indices.dtype)


class QuerySampler(ABC):
    """Chooses which points to ask. Subclass it and write `select`.

    `requires` names what the sampler reads of `QueryData` beyond labels and indices (`"features"`, `"probabilities"`,
    `"mc_probabilities"`): only that, and what `wants` adds, is computed and gathered. `stochastic` says that the choice
    is random beyond the breaking of ties. `penultimate_alone` says that features have to be the input of the head and
    nothing else (gradients of its weights are made of it), where `features="auto"` may choose. `mc_passes` is how often
    Monte-Carlo dropout runs, for a sampler that reads what it gives.

    Example:
        >>> class FirstSampler(QuerySampler):
        ...     requires = frozenset()
        ...     def select(self, data, query_size, generator):
        ...         chosen = np.sort(data.candidates)[:query_size]
        ...         return Query(chosen, np.ones(len(chosen)))
        >>> data = QueryData(num_points=5, labelled=[0], labels=[1])
        >>> FirstSampler().select(data, 2, np.random.default_rng(0)).indices.tolist()
        [1, 2]
    """

    requires: frozenset[str] = frozenset()
    stochastic: bool = False
    penultimate_alone: bool = False
    mc_passes: int = 20

    def __repr__(self) -> str:
        """The call that makes it, as far as arguments are kept under their names."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        given = ", ".join(f"{name}={getattr(self, name)!r}" for name in names if hasattr(self, name))
        return f"{type(self).__name__}({given})"

    def _shares_selection(self, n_points: int, n_dimensions: int) -> bool:
        """Whether `select` runs on every process, of several, with `lightning_diffal.processes.shards` to exchange by.

        Args:
            n_points: `N`.
            n_dimensions: of the features; 0 where it reads none.
        """
        return False

    def wants(self, query_size: int) -> frozenset[str]:
        """What the sampler reads for batches of this size, where it comes out of one pass over the data set.

        `requires`, and what it can do without.

        Args:
            query_size: points asked at a time.
        """
        return self.requires

    @abstractmethod
    def select(self, data: QueryData, query_size: int, generator: np.random.Generator) -> Query:
        """Choose `min(query_size, M)` of the candidates.

        Args:
            data: what is known; its arrays are read-only.
            query_size: how many points to choose, at least 1.
            generator: the only source of randomness, so that a resumed run picks the same points.

        Returns:
            The chosen points in the order of choice.
        """


class ScoreSampler(QuerySampler):
    """Asks the points of the highest score, where each point is scored for itself. Subclass it and write `scores`.

    Example:
        >>> class FirstColumn(ScoreSampler):
        ...     requires = frozenset({"features"})
        ...     def scores(self, data):
        ...         return data.features[:, 0]
        >>> data = QueryData(features=[[1.0], [3.0], [2.0]])
        >>> FirstColumn().select(data, 2, np.random.default_rng(0)).indices.tolist()
        [1, 2]
    """

    @abstractmethod
    def scores(self, data: QueryData) -> FloatArray:
        """How much each point is wanted, `(N,)`, higher is more; only those of candidates count.

        Args:
            data: what is known; its arrays are read-only.
        """

    def select(self, data: QueryData, query_size: int, generator: np.random.Generator) -> Query:
        """Choose `min(query_size, M)` of the candidates, ties broken by random keys.

        Args:
            data: needs what `requires` names.
            query_size: how many points to choose.
            generator: draws one key per point of the data set.

        Returns:
            The points of the highest score, the highest first.
        """
        scores = self.scores(data)
        chosen = best_candidates(scores, data.candidates, query_size, generator)
        return Query(chosen, scores[chosen])


def best_candidates(scores: FloatArray, candidates: IntArray, size: int, generator: np.random.Generator) -> IntArray:
    """The `size` candidates of the highest score, ties broken by random keys and never by index order.

    Args:
        scores: `(N,)` score of every point of the data set.
        candidates: `(M,)` indices to choose from.
        size: how many to choose; all where fewer are left.
        generator: draws one key per point of the data set.

    Returns:
        `(min(size, M),)` indices, best first.

    Example:
        >>> scores = np.array([0.1, 0.9, 0.5], dtype=np.float32)
        >>> best_candidates(scores, np.array([0, 1, 2]), 2, np.random.default_rng(0))
        array([1, 2])
    """
    check_count("query_size", size)
    keys = generator.random(len(scores))
    order = np.lexsort((keys[candidates], -scores[candidates]))
    return candidates[order[:size]]
