"""Uncertainty sampling: the classic scores of a model's class probabilities."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import numpy.typing as npt

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.samplers.base import QueryData, ScoreSampler
from lightning_diffal.utils.aliases import FloatArray

__all__ = [
    "EntropySampler",
    "LeastConfidenceSampler",
    "MarginSampler",
    "checked_probabilities",
    "entropy",
    "least_confidence",
    "margin",
]


_TOLERANCE = 1e-3  # probabilities that went through half precision


def least_confidence(probabilities: npt.ArrayLike) -> FloatArray:
    r"""What is missing from certainty, :math:`1 - \max_c p_c`.

    Lewis and Gale, "A sequential algorithm for training text classifiers", SIGIR 1994; for several classes Culotta and
    McCallum, "Reducing labeling effort for structured prediction tasks", AAAI 2005.

    Args:
        probabilities: `(N, C)`.

    Returns:
        `(N,)` float32, higher is less certain.

    Example:
        >>> least_confidence([[0.75, 0.25], [0.5, 0.5]])
        array([0.25, 0.5 ], dtype=float32)
    """
    values = np.asarray(probabilities, np.float32)
    result: FloatArray = 1 - values.max(axis=1)
    return result


def margin(probabilities: npt.ArrayLike) -> FloatArray:
    r"""How close the two likeliest classes are, :math:`1 - (p_{(1)} - p_{(2)})`.

    Scheffer, Decomain and Wrobel, "Active hidden Markov models for information extraction", IDA 2001.

    Args:
        probabilities: `(N, C)`, at least two classes.

    Returns:
        `(N,)` float32, higher is less certain.

    Example:
        >>> margin([[0.75, 0.25, 0.0], [0.5, 0.0, 0.5]])
        array([0.5, 1. ], dtype=float32)
    """
    values = np.asarray(probabilities, np.float32)
    ordered = np.partition(values, values.shape[1] - 2, axis=1)
    result: FloatArray = 1 - (ordered[:, -1] - ordered[:, -2])
    return result


def entropy(probabilities: npt.ArrayLike) -> FloatArray:
    r"""The entropy of the prediction in nats, :math:`-\sum_c p_c \log p_c`, with :math:`0 \log 0 = 0`.

    Shannon, "A mathematical theory of communication", 1948; Settles, "Active learning literature survey", 2009,
    equation 3.

    Args:
        probabilities: `(N, C)`.

    Returns:
        `(N,)` float32, higher is less certain.

    Example:
        >>> entropy([[1.0, 0.0], [0.5, 0.5]]).round(4)
        array([0.    , 0.6931], dtype=float32)
    """
    values = np.asarray(probabilities, np.float32)
    terms = values * np.log(np.where(values > 0, values, 1))
    result: FloatArray = np.abs(terms.sum(axis=1))  # no negative zero
    return result


class _UncertaintySampler(ScoreSampler):
    """Asks the points of the highest score of their probabilities.

    For multi-label targets each column is the probability of one label: the score is the mean over the labels, each
    a problem of two classes.
    """

    requires: frozenset[str] = frozenset({"probabilities"})

    @staticmethod
    @abstractmethod
    def score(probabilities: npt.ArrayLike) -> FloatArray:
        """`(N, C)` class probabilities to `(N,)` scores, higher is less certain."""

    def scores(self, data: QueryData) -> FloatArray:
        """The score of every point.

        Args:
            data: needs `probabilities`, `(N, C)`.

        Returns:
            `(N,)`, higher is less certain.

        Raises:
            ConfigurationError: no probabilities, values that are none, or a single class.
        """
        probabilities = checked_probabilities(data)
        if not data.is_multilabel:
            return self.score(probabilities)
        scores = np.zeros(data.num_points, np.float32)
        for column in probabilities.T:
            scores += self.score(np.stack([column, 1 - column], axis=1)) / probabilities.shape[1]
        return scores


class LeastConfidenceSampler(_UncertaintySampler):
    """Asks the points whose likeliest class is least likely; see `least_confidence`.

    Example:
        >>> data = QueryData(probabilities=np.array([[0.9, 0.1], [0.6, 0.4]]))
        >>> LeastConfidenceSampler().select(data, 1, np.random.default_rng(0)).indices
        array([1])
    """

    score = staticmethod(least_confidence)


class MarginSampler(_UncertaintySampler):
    """Asks the points whose two likeliest classes are closest; see `margin`.

    Example:
        >>> data = QueryData(probabilities=np.array([[0.5, 0.3, 0.2], [0.45, 0.4, 0.15]]))
        >>> MarginSampler().select(data, 1, np.random.default_rng(0)).indices
        array([1])
    """

    score = staticmethod(margin)


class EntropySampler(_UncertaintySampler):
    """Asks the points of the highest entropy; see `entropy`.

    Example:
        >>> data = QueryData(probabilities=np.array([[0.5, 0.5, 0.0], [0.4, 0.3, 0.3]]))
        >>> EntropySampler().select(data, 1, np.random.default_rng(0)).indices
        array([1])
    """

    score = staticmethod(entropy)


def checked_probabilities(data: QueryData) -> FloatArray:
    """The probabilities, clipped to 0 and 1, or an error where they are missing or no probabilities."""
    probabilities = data.probabilities
    if probabilities is None:
        raise ConfigurationError("Expected argument `data` to hold `probabilities`, but got None.")
    if not data.is_multilabel and probabilities.shape[1] < 2:
        raise ConfigurationError(
            f"Expected `probabilities` of at least two classes, but got shape {probabilities.shape}."
        )
    low, high = probabilities.min(initial=0.0), probabilities.max(initial=1.0)
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise ConfigurationError(
            f"Expected `probabilities` between 0 and 1, but got values from {low:g} to {high:g}. Are these logits?"
        )
    if not data.is_multilabel:
        total = probabilities.sum(axis=1, dtype=np.float64)
        worst = int(np.abs(total - 1).argmax()) if len(total) else 0
        if len(total) and abs(total[worst] - 1) > 10 * _TOLERANCE:
            raise ConfigurationError(
                f"Expected the rows of `probabilities` to sum to 1, but row {worst} sums to {total[worst]:g}."
            )
    clipped: FloatArray = np.clip(probabilities, 0, 1)
    return clipped
