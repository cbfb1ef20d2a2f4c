"""A model's last layer, recovered from what goes into it and what comes out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lightning_diffal.utils.aliases import BoolArray, FloatArray

__all__ = ["LinearHead", "fit_linear_head", "logits_of"]

_RIDGE = 1e-9  # of the mean squared length: only to make the equations solvable
_ROWS_PER_DIMENSION = 16  # more points say nothing new of a linear map
_FEWEST_ROWS = 4096
_LARGEST_SYSTEM = 4096  # dimensions beyond which the equations are solved over as many points
_TINY = float(np.finfo(np.float32).tiny)


class LinearHead(NamedTuple):
    """A linear map from features to logits.

    Attributes:
        weights: `(D, C)`.
        constants: `(C,)`.
        multilabel: whether each column is a label of its own.
    """

    weights: FloatArray
    constants: FloatArray
    multilabel: bool

    def logits(self, features: FloatArray) -> FloatArray:
        """`(M, C)` of features `(M, D)`; of exclusive classes up to a constant for each point."""
        found: FloatArray = features @ self.weights + self.constants
        return found

    def probabilities(self, features: FloatArray) -> FloatArray:
        """`(M, C)` of features `(M, D)`."""
        logits = self.logits(features)
        if self.multilabel:
            return (1 / (1 + np.exp(-np.clip(logits, -80, 80)))).astype(np.float32)
        values = np.exp(logits - logits.max(axis=1, keepdims=True))
        found: FloatArray = (values / values.sum(axis=1, keepdims=True)).astype(np.float32)
        return found

    def disagrees(self, features: FloatArray, others: FloatArray) -> BoolArray:
        """Whether the predictions for two lists of features `(M, D)` differ: `(M,)`."""
        one, other = self.logits(features), self.logits(others)
        if self.multilabel:
            differ: BoolArray = ((one > 0) != (other > 0)).any(axis=1)
        else:
            differ = one.argmax(axis=1) != other.argmax(axis=1)
        return differ


def logits_of(probabilities: FloatArray, *, multilabel: bool = False) -> FloatArray:
    """Logits that give these probabilities; of exclusive classes those with mean 0.

    Args:
        probabilities: `(M, C)`.
        multilabel: whether each column is a label of its own.

    Returns:
        `(M, C)`.

    Example:
        >>> logits_of(np.float32([[0.5, 0.5], [0.8, 0.2]])).round(4)
        array([[ 0.    ,  0.    ],
               [ 0.6931, -0.6931]], dtype=float32)
    """
    logs = np.log(np.maximum(probabilities, _TINY))
    if multilabel:
        return logs - np.log(np.maximum(1 - probabilities, _TINY))
    centred: FloatArray = logs - logs.mean(axis=1, keepdims=True)
    return centred


def fit_linear_head(features: FloatArray, probabilities: FloatArray, *, multilabel: bool = False) -> LinearHead:
    r"""The linear head that gives these probabilities for these features.

    .. math:: \log p_{nc} = w_c^\top h_n + b_c - \log \sum_k e^{w_k^\top h_n + b_k}

    is linear in :math:`h_n` up to a constant for each point. Where the features are what goes into the last linear
    layer, least squares finds that layer, up to rounding; elsewhere they find the linear head nearest to the model.
    Points of small margin weigh more: their predictions are those that change, and their probabilities are not rounded
    to 0 and 1.

    Args:
        features: `(M, D)` in random order.
        probabilities: `(M, C)`.
        multilabel: whether each column is a label of its own.

    Example:
        >>> features = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
        >>> given = LinearHead(np.float32([[1, -1], [2, -2], [0, 0]]), np.float32([0.5, -0.5]), False)
        >>> found = fit_linear_head(features, given.probabilities(features))
        >>> bool(np.allclose(found.weights, given.weights, atol=1e-4))
        True
    """
    n_dimensions = features.shape[1]
    n_rows = max(_FEWEST_ROWS, _ROWS_PER_DIMENSION * min(n_dimensions, _LARGEST_SYSTEM))
    if n_dimensions > _LARGEST_SYSTEM:
        n_rows = _LARGEST_SYSTEM
    rows, targets = features[:n_rows].astype(np.float64), probabilities[:n_rows]
    logits = logits_of(targets, multilabel=multilabel).astype(np.float64)
    if multilabel:
        doubts = 1 - np.abs(2 * targets - 1).min(axis=1)
    else:
        ordered = np.partition(targets, targets.shape[1] - 2, axis=1)
        doubts = 1 - (ordered[:, -1] - ordered[:, -2])
    counts = doubts.astype(np.float64) + 1e-3
    if not len(rows):
        return LinearHead(
            np.zeros((n_dimensions, targets.shape[1]), np.float32), np.zeros(targets.shape[1], np.float32), multilabel
        )
    counts /= counts.sum()
    centre, middle = counts @ rows, counts @ logits
    root = np.sqrt(counts)[:, None]
    rows, logits = root * (rows - centre), root * (logits - middle)
    ridge = max(_RIDGE * float(np.einsum("ij,ij->", rows, rows)), np.finfo(np.float64).tiny)
    if n_dimensions <= len(rows):
        weights = np.linalg.solve(rows.T @ rows + ridge * np.eye(n_dimensions), rows.T @ logits)
    else:
        weights = rows.T @ np.linalg.solve(rows @ rows.T + ridge * np.eye(len(rows)), logits)
    return LinearHead(weights.astype(np.float32), (middle - centre @ weights).astype(np.float32), multilabel)
