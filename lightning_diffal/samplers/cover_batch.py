"""How a batch is picked by coverage: what is known, what is doubted, and the points that cover the most of it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_diffal.diffusion import LabelSummary
from lightning_diffal.graph.point_graph import PointGraph
from lightning_diffal.samplers.base import QueryData
from lightning_diffal.samplers.batch import ordered_candidates
from lightning_diffal.samplers.covering import (
    Kernel,
    agreeing_cover,
    contested_cover,
    contested_labels_cover,
    covered_by,
    gains,
    predicted_class_weights,
)
from lightning_diffal.samplers.greedy import greedy_cover
from lightning_diffal.samplers.network import NetworkView
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.memory import give_back_memory

__all__ = ["Aims", "CoverBatch", "aims_of", "cover_batch", "trust_in_network"]

_LABELS_PER_CLASS = 5  # from which on what a network says counts in full
_LARGE = 100_000  # nodes, beside which it takes no time
_LEAST = 1e-4  # doubt that is left where graph and network are sure: points far from all picks still come first


class Aims(NamedTuple):
    """What a batch is to cover.

    Attributes:
        weights: `(U,)` how much the doubt about each node counts.
        known: `(U,)` how well labels, and points that were asked, cover each node already.
    """

    weights: FloatArray
    known: FloatArray


class CoverBatch(NamedTuple):
    """The points picked, in order.

    Attributes:
        indices: `(b,)` positions in the data set.
        gains: `(b,)` doubt that each removed, in points of the graph.
        covered: `(b,)` how well each was covered itself when it was picked.
    """

    indices: IntArray
    gains: FloatArray
    covered: FloatArray


def aims_of(
    space: PointGraph,
    kernel: Kernel,
    data: QueryData,
    summary: LabelSummary,
    network: NetworkView | None,
    reduction: Literal["mean", "max"] = "mean",
) -> Aims:
    """What is doubted, and what is known.

    With a network: its doubt, and what labels cover that agree with it, as far as `trust_in_network` goes; for the rest
    every node is doubted alike, and labels cover whatever it says. Without one: the weakness of the diffused
    label, and what labels of one class cover more than those of any other. Every class of the pool counts alike, and
    before the first label every node.

    Args:
        space: the graph.
        kernel: of that graph.
        data: labelled and pending points.
        summary: the diffused labels.
        network: what it says of the nodes; `None` where it is not asked, or nothing is labelled.
        reduction: for multi-label targets.
    """
    trust = np.float32(trust_in_network(len(data.labelled), data.num_classes))
    margin = summary.margin if network is None else trust * network.margin
    if len(data.labelled):
        nodes = space.inverse[data.labelled]
        known = _known(kernel, nodes, data, None if network is None else network.predicted, reduction)
        if network is not None and trust < 1:
            known = trust * known + (1 - trust) * covered_by(kernel, nodes)
        weights = np.maximum(1 - margin, np.float32(_LEAST))
    else:
        known, weights = np.zeros(space.n_nodes, np.float32), np.ones(space.n_nodes, np.float32)
    if network is not None:
        weights = weights * (1 + trust * (network.weights - 1))
    elif not data.is_multilabel:
        weights = weights * predicted_class_weights(summary.predicted)
    if len(data.pending):
        known = np.maximum(known, covered_by(kernel, np.unique(space.inverse[data.pending])))
    return Aims(weights, known)


def trust_in_network(n_labelled: int, num_classes: int) -> float:
    r"""How much of what a network says counts, :math:`\tau = \min(1, L / 5 C)`.

    A network that has seen a handful of labels is sure of the classes it knows, and of all others that they are those.

    Args:
        n_labelled: `L`.
        num_classes: `C`.

    Returns:
        From 0 to 1, which it is from five labels per class on.

    Example:
        >>> trust_in_network(10, 10), trust_in_network(50, 10)
        (0.2, 1.0)
    """
    return min(1.0, n_labelled / (_LABELS_PER_CLASS * max(1, num_classes)))


def cover_batch(
    space: PointGraph,
    kernel: Kernel,
    aims: Aims,
    data: QueryData,
    size: int,
    keys: npt.NDArray[np.float64],
) -> CoverBatch:
    """Pick `size` candidates, one after the other the one that covers most of what is left.

    Args:
        space: the graph.
        kernel: of that graph.
        aims: what to cover.
        data: candidates, labelled and pending points.
        size: at most the number of candidates.
        keys: `(N,)` break ties.
    """
    if space.n_nodes > _LARGE:
        give_back_memory()  # rows of the kernel come on top of what is held
    fresh, copies, tier = ordered_candidates(space.inverse, data, keys)
    cover = greedy_cover(kernel, aims.weights, aims.known, space.inverse[fresh], min(size, len(fresh)))
    indices = fresh[cover.positions]
    left = size - len(indices)
    if not left:
        return CoverBatch(indices, cover.gains, cover.covered)
    # copies of points that are known or asked, when nothing else is left
    known = np.maximum(aims.known, covered_by(kernel, space.inverse[indices]))
    gain = gains(kernel, aims.weights, known, space.inverse[copies])
    order = np.lexsort((-gain, tier))[:left]
    return CoverBatch(
        np.concatenate([indices, copies[order]]),
        np.concatenate([cover.gains, gain[order]]),
        np.concatenate([cover.covered, known[space.inverse[copies[order]]]]),
    )


def _known(
    kernel: Kernel,
    nodes: IntArray,
    data: QueryData,
    predicted: IntArray | None,
    reduction: Literal["mean", "max"],
) -> FloatArray:
    """How well labels cover each node; of several labels of a node, the mean over them or the least."""
    if not data.is_multilabel:
        if predicted is not None:
            return agreeing_cover(kernel, nodes, data.labels, predicted)
        return contested_cover(kernel, nodes, data.labels, data.num_classes)
    if predicted is not None:
        each_label = agreeing_cover(kernel, nodes, data.labels, predicted)
    else:
        each_label = contested_labels_cover(kernel, nodes, data.labels)
    known: FloatArray = each_label.mean(axis=1) if reduction == "mean" else each_label.min(axis=1)
    return known
