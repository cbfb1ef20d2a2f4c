"""Uncertainty Herding: cover the data set where the model is in doubt, with a kernel that sharpens as labels grow."""

from __future__ import annotations

from typing import Literal

import numpy as np

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.neighbors.nearest import nearest_neighbors
from lightning_diffal.samplers.base import Query, QueryData, QuerySampler
from lightning_diffal.samplers.baselines.calibration import held_out_temperature, tempered
from lightning_diffal.samplers.baselines.coverage import cover
from lightning_diffal.samplers.baselines.uncertainty import checked_probabilities, margin
from lightning_diffal.samplers.points import (
    METRICS,
    KeyedPoints,
    check_choice,
    check_count,
    check_positive,
    keyed_points,
)
from lightning_diffal.utils.aliases import FloatArray

__all__ = ["UHerdingSampler", "smallest_gap"]

_SHARPEST = 0.01  # widths below this share of the spread would be lost in rounding
_NO_DOUBT = 1e-9  # where nothing is doubted more than this, all points count alike


def smallest_gap(points: FloatArray) -> float | None:
    """The smallest distance between two distinct points; `None` where fewer than two are distinct.

    Args:
        points: `(L, D)`.

    Example:
        >>> smallest_gap(np.float32([[0], [5], [3], [5]]))
        2.0
    """
    distinct = np.unique(points, axis=0) if len(points) else points
    if len(distinct) < 2:
        return None
    return float(nearest_neighbors(distinct, 1, backend="exact")[1].min())


class UHerdingSampler(QuerySampler):
    r"""Asks the points that together cover what the model doubts.

    .. math:: \max_S \frac{1}{N} \sum_n u_n \max_{s \in S} K(s, x_n), \qquad
        K(x, y) = e^{-\lVert x - y \rVert^2 / \sigma^2}

    with the margin doubt :math:`u_n = 1 - (p_{n(1)} - p_{n(2)})` and the width :math:`\sigma` the smallest distance
    between two labelled or pending points: few labels make it wide, and the sampler covers the data set as
    `MaxHerdingSampler` does; with many it shrinks, and the sampler asks what is doubted most. Bae, Oliveira and
    Sutherland, "Uncertainty herding: one active learning method for all label budgets", ICLR 2025 (arXiv 2412.20644).
    Before two distinct points are labelled or pending, the width is that of `MaxHerdingSampler`, 1.

    The paper also calibrates the probabilities with a temperature fitted to held-out labels. A sampler sees the
    predictions of one model, which was trained on every label; so `temperature="held-out"` refits a linear classifier
    on four fifths of the labelled points' features at a time and takes the temperature that calibrates it best on the
    last fifth. That is right where the model is a linear classifier on features that never saw the labels (a frozen
    backbone). The features of a network that was trained on these labels separate them all, which would make the model
    look better than it is, so the default leaves the probabilities as they are.

    Scores are the shares of the doubt that each pick newly covers. `Query.summary` holds `covered` with the query,
    `width` and `temperature`. For multi-label targets the doubt is the mean over the labels.

    Time grows with the square of the data set, memory does not; see `MaxHerdingSampler`.

    Args:
        width: :math:`\sigma`; `"auto"`: as above, never below a hundredth of the features' spread.
        temperature: what the logarithms of the probabilities are divided by, or `"held-out"`.
        metric: `"cosine"`: the features are brought to unit length, as in the paper. `"euclidean"`: as they are.
        max_covered: on how many points coverage is counted at most.

    Raises:
        ConfigurationError: an argument out of range.

    Example:
        >>> features = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [0.2, 1.0]])
        >>> probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4], [0.6, 0.4]])
        >>> data = QueryData(features=features, probabilities=probabilities, labelled=[0], labels=[0])
        >>> UHerdingSampler().select(data, 1, np.random.default_rng(0)).indices
        array([3])
    """

    requires: frozenset[str] = frozenset({"features", "probabilities"})

    def __init__(
        self,
        width: float | Literal["auto"] = "auto",
        *,
        temperature: float | Literal["held-out"] = 1.0,
        metric: str = "cosine",
        max_covered: int = 100_000,
    ) -> None:
        if width != "auto":
            check_positive("width", width, "a finite number above 0 or 'auto'")
        if temperature != "held-out":
            check_positive("temperature", temperature, "a finite number above 0 or 'held-out'")
        check_choice("metric", metric, METRICS)
        check_count("max_covered", max_covered)
        self.width: float | Literal["auto"] = width
        self.temperature: float | Literal["held-out"] = temperature
        self.metric = metric
        self.max_covered = max_covered

    def select(self, data: QueryData, query_size: int, generator: np.random.Generator) -> Query:
        """Choose `min(query_size, M)` of the candidates.

        Args:
            data: needs `features`, `(N, D)`, and `probabilities`, `(N, C)`.
            query_size: how many points to choose.
            generator: draws one key per point of the data set, which breaks ties.

        Returns:
            The chosen points in the order of choice.

        Raises:
            ConfigurationError: no features or probabilities, a `query_size` below 1, or multi-label targets with
                `temperature="held-out"`.
        """
        check_count("query_size", query_size)
        space = keyed_points(data, self.metric, generator)
        temperature = self._temperature(space, data)
        doubts = _doubts(checked_probabilities(data), temperature, data.is_multilabel)[space.order]
        if doubts.max(initial=0) <= _NO_DOUBT:
            doubts = np.ones_like(doubts)
        query = cover(space, doubts, self._width(space), min(query_size, len(space.candidates)), self.max_covered)
        return Query(query.indices, query.scores, summary={**query.summary, "temperature": temperature})

    def _width(self, space: KeyedPoints) -> float:
        """In the units of the rows."""
        if self.width != "auto":
            return float(np.ldexp(self.width, -space.exponent))
        lengths = np.einsum("ij,ij->i", space.points, space.points)
        spread = float(np.sqrt(lengths.mean(dtype=np.float64))) if len(lengths) else 0.0
        gap = smallest_gap(space.points[space.held])
        if gap is None:
            gap = 1.0 if self.metric == "cosine" else spread or 1.0
        return max(gap, _SHARPEST * spread)

    def _temperature(self, space: KeyedPoints, data: QueryData) -> float:
        if self.temperature != "held-out":
            return float(self.temperature)
        if data.is_multilabel:
            raise ConfigurationError(
                "Expected argument `temperature` to be a number for multi-label targets, but got 'held-out', which "
                "calibrates a classifier of exclusive classes. Write temperature=1.0."
            )
        row = np.empty_like(space.order)
        row[space.order] = np.arange(len(row))
        rows = row[data.labelled]
        order = np.argsort(rows)
        return held_out_temperature(space.points[rows[order]], data.labels[order], max(2, data.num_classes))


def _doubts(probabilities: FloatArray, temperature: float, multilabel: bool) -> FloatArray:
    """`1 - margin` of the tempered probabilities; of several labels the mean."""
    if not multilabel:
        return margin(tempered(probabilities, temperature))
    doubts = np.zeros(len(probabilities), np.float32)
    for column in probabilities.T:
        doubts += margin(tempered(np.stack([column, 1 - column], axis=1), temperature)) / probabilities.shape[1]
    return doubts
