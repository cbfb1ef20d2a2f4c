"""What the network thinks of the nodes of a graph."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_diffal.samplers.base import QueryData
from lightning_diffal.samplers.baselines.uncertainty import checked_probabilities
from lightning_diffal.samplers.covering import class_weights
from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = ["NetworkView", "network_view"]


class NetworkView(NamedTuple):
    """By node. Of copies, what the network says of the one that it is least sure of.

    Attributes:
        margin: `(U,)` largest less second largest probability; for multi-label targets how far the labels'
            probabilities are from one half, from 0 to 1.
        predicted: `(U,)` classes, or `(U, C)` zeros and ones.
        weights: `(U,)` how much the classes that a node may belong to count, see `class_weights`; ones for multi-label
            targets.
    """

    margin: FloatArray
    predicted: npt.NDArray[np.int64]
    weights: FloatArray


def network_view(inverse: IntArray, data: QueryData, reduction: Literal["mean", "max"] = "mean") -> NetworkView:
    """Read the probabilities node by node.

    Args:
        inverse: `(N,)` the node of each point; every node has one.
        data: with `probabilities`, `(N, C)`.
        reduction: for multi-label targets, the `"mean"` of the doubt over the labels, or the `"max"`.

    Raises:
        ConfigurationError: no probabilities, or values that are none.

    Example:
        >>> data = QueryData(probabilities=np.array([[0.75, 0.25], [0.0, 1.0], [0.5, 0.5]]))
        >>> view = network_view(np.array([0, 1, 0]), data)
        >>> view.margin.tolist(), view.predicted.tolist()
        ([0.0, 1.0], [0, 1])
    """
    probabilities = checked_probabilities(data)
    if data.is_multilabel:
        sure = np.abs(2 * probabilities - 1)
        margin = sure.mean(axis=1) if reduction == "mean" else sure.min(axis=1)
        predicted = (probabilities > 0.5).astype(np.int64)
        keys: tuple[npt.NDArray[np.generic], ...] = tuple(predicted.T)
    else:
        largest = np.partition(probabilities, -2, axis=1)[:, -2:].astype(np.float32)
        margin = largest[:, 1] - largest[:, 0]
        predicted = probabilities.argmax(axis=1)
        keys = (predicted,)
    order = np.lexsort((*keys, margin, inverse))  # equally sure copies: not by their place in the data set
    shown = order[np.flatnonzero(np.diff(inverse[order], prepend=-1))]
    weights = np.ones(len(shown), np.float32) if data.is_multilabel else class_weights(probabilities[shown])
    return NetworkView(margin[shown].astype(np.float32), predicted[shown], weights)
