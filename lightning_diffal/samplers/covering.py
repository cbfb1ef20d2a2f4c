"""Weighted coverage: what labels cover, what more of them would, and how much the doubt about each point counts.

Pure functions on the nodes of a graph and on the rows of its kernel, a block at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.products import sums_of_rows
from lightning_diffal.utils.numeric.threads import slices

__all__ = [
    "Kernel",
    "agreeing_cover",
    "class_weights",
    "contested_cover",
    "contested_labels_cover",
    "covered_by",
    "gains",
    "gains_of_rows",
    "predicted_class_weights",
]

_BLOCK_ROWS = 1024  # of the kernel looked at at a time
_RAREST = 0.1  # of an even share of the pool, as which rarer classes count


class Kernel(Protocol):
    """What a point says about others, between 0 and 1; a sparse matrix is one."""

    shape: tuple[int, int]

    def __getitem__(self, nodes: IntArray) -> sp.csr_matrix:
        """`(R, U)` the rows of some nodes."""

    def __matmul__(self, vector: FloatArray) -> FloatArray:
        """`(U,)` the product with a vector."""


def gains(kernel: Kernel, weights: FloatArray, covered: FloatArray, nodes: IntArray) -> FloatArray:
    r"""How much some nodes would cover: :math:`\sum_n u_n \max(0, K_{xn} - \mathrm{cov}_n)`.

    Args:
        kernel: `(U, U)`.
        weights: `(U,)`.
        covered: `(U,)`.
        nodes: `(R,)`.

    Returns:
        `(R,)`.

    Example:
        >>> kernel = sp.csr_matrix([[1, 0.5], [0.5, 1]], dtype=np.float32)
        >>> gains(kernel, np.ones(2, np.float32), np.array([1, 0], np.float32), np.arange(2))
        array([0.5, 1. ], dtype=float32)
    """
    result = np.zeros(len(nodes), np.float32)
    for part, rows in _row_blocks(kernel, nodes):
        result[part] = gains_of_rows(rows.indices, rows.data, rows.indptr, weights, covered)
    return result


def gains_of_rows(
    columns: IntArray, values: FloatArray, pointers: IntArray, weights: FloatArray, covered: FloatArray
) -> FloatArray:
    """`gains` of nodes whose rows of the kernel are at hand.

    Args:
        columns: `(nnz,)` of the rows, one after the other.
        values: `(nnz,)`.
        pointers: `(R + 1,)` where each begins and ends.
        weights: `(U,)`.
        covered: `(U,)`.

    Returns:
        `(R,)`.

    Example:
        >>> gains_of_rows(np.array([0, 1]), np.float32([1, 0.5]), np.array([0, 2]), np.ones(2), np.array([1, 0]))
        array([0.5], dtype=float32)
    """
    left = values - covered.take(columns)
    np.maximum(left, 0, out=left)
    left *= weights.take(columns)
    return sums_of_rows(left, pointers)


def covered_by(kernel: Kernel, nodes: IntArray) -> FloatArray:
    r"""How well some nodes cover each node, :math:`\max_s K_{sn}`.

    Args:
        kernel: `(U, U)`.
        nodes: `(Q,)`.

    Returns:
        `(U,)`.

    Example:
        >>> kernel = sp.csr_matrix([[1, 0.5, 0], [0.5, 1, 0.25], [0, 0.25, 1]], dtype=np.float32)
        >>> covered_by(kernel, np.array([0, 2]))
        array([1. , 0.5, 1. ], dtype=float32)
    """
    result = np.zeros(kernel.shape[1], np.float32)
    for _, rows in _row_blocks(kernel, nodes):
        np.maximum.at(result, rows.indices, rows.data)
    return result


def agreeing_cover(kernel: Kernel, nodes: IntArray, labels: IntArray, predicted: IntArray) -> FloatArray:
    r"""How well each node is known: covered by labels that say what the network says of it.

    .. math:: \kappa_n = \max_{s:\, y_s = \hat y_n} K_{sn}

    Where the nearest labels contradict the network, one of the two is wrong, and the place counts as unknown.

    Args:
        kernel: `(U, U)`.
        nodes: `(L,)` those that have a label.
        labels: `(L,)` their classes, or `(L, C)` for several labels each.
        predicted: `(U,)` the network's classes, or `(U, C)`.

    Returns:
        `(U,)`, or `(U, C)`.

    Example:
        >>> kernel = sp.csr_matrix([[1, 0.5, 0], [0.5, 1, 0.25], [0, 0.25, 1]], dtype=np.float32)
        >>> agreeing_cover(kernel, np.array([0, 2]), np.array([7, 8]), np.array([7, 8, 7]))
        array([1.  , 0.25, 0.  ], dtype=float32)
    """
    result = np.zeros(predicted.shape, np.float32)
    for part, rows in _row_blocks(kernel, nodes):
        said = np.repeat(labels[part], np.diff(rows.indptr), axis=0)
        agrees = np.nonzero(said == predicted[rows.indices])
        np.maximum.at(result, (rows.indices[agrees[0]], *agrees[1:]), rows.data[agrees[0]])
    return result


def contested_cover(kernel: Kernel, nodes: IntArray, labels: IntArray, num_classes: int) -> FloatArray:
    r"""How well each node is known where no network is asked: the margin of what labels of each class cover.

    .. math:: \kappa_n = M_{n(1)} - M_{n(2)}, \qquad M_{nc} = \max_{s:\, y_s = c} K_{sn}

    The margin of Kushnir and Venturi (2020) with the largest value in place of the sum: a place that labels of two
    classes cover alike is a border, and counts as unknown however many labels lie around it.

    Args:
        kernel: `(U, U)`.
        nodes: `(L,)` those that have a label.
        labels: `(L,)` their classes.
        num_classes: `C`.

    Returns:
        `(U,)`.

    Example:
        >>> kernel = sp.csr_matrix([[1, 0.5, 0], [0.5, 1, 0.25], [0, 0.25, 1]], dtype=np.float32)
        >>> contested_cover(kernel, np.array([0, 2]), np.array([7, 8]), 9)
        array([1.  , 0.25, 1.  ], dtype=float32)
    """
    first, second = np.zeros((2, kernel.shape[1]), np.float32)
    leader = np.full(kernel.shape[1], -1, np.int64)
    for part, rows in _row_blocks(kernel, nodes):
        owner, values, classes, others = _two_largest(rows, labels[part], num_classes)
        held, runner_up = first[owner], second[owner]
        ahead = values > held
        overtaken = np.where(ahead, np.maximum(held, others), np.maximum(values, runner_up))
        second[owner] = np.where(leader[owner] == classes, np.maximum(others, runner_up), overtaken)
        first[owner] = np.maximum(values, held)
        leader[owner[ahead]] = classes[ahead]
    return first - second


def _two_largest(
    rows: sp.csr_matrix, labels: IntArray, num_classes: int
) -> tuple[IntArray, FloatArray, IntArray, FloatArray]:
    """The columns that rows reach; the largest value of each, its class, and the largest of any other class."""
    pairs = rows.indices.astype(np.int64) * num_classes + np.repeat(labels, np.diff(rows.indptr))
    order = np.lexsort((rows.data, pairs))
    pairs, values = pairs[order], rows.data[order]
    last = np.flatnonzero(np.append(np.diff(pairs) > 0, True)[: len(pairs)])  # the largest of each node and class
    owner, classes, values = pairs[last] // num_classes, pairs[last] % num_classes, values[last]
    order = np.lexsort((values, owner))
    owner, classes, values = owner[order], classes[order], values[order]
    ends = np.flatnonzero(np.append(np.diff(owner) > 0, True)[: len(owner)])
    others = np.zeros(len(ends), np.float32)
    shared = (ends > 0) & (owner[ends - 1] == owner[ends])
    others[shared] = values[ends[shared] - 1]
    return owner[ends], values[ends], classes[ends], others


def contested_labels_cover(kernel: Kernel, nodes: IntArray, labels: IntArray) -> FloatArray:
    """`contested_cover` of each of several labels, which are there or not.

    Args:
        kernel: `(U, U)`.
        nodes: `(L,)` those that have labels.
        labels: `(L, C)` of 0 and 1.

    Returns:
        `(U, C)`.

    Example:
        >>> kernel = sp.csr_matrix([[1, 0.5, 0], [0.5, 1, 0.25], [0, 0.25, 1]], dtype=np.float32)
        >>> contested_labels_cover(kernel, np.array([0, 2]), np.array([[1], [0]])).T
        array([[1.  , 0.25, 1.  ]], dtype=float32)
    """
    shape = (kernel.shape[1], labels.shape[1])
    there = agreeing_cover(kernel, nodes, labels, np.ones(shape, labels.dtype))
    margin: FloatArray = np.abs(there - agreeing_cover(kernel, nodes, labels, np.zeros(shape, labels.dtype)))
    return margin


def class_weights(probabilities: FloatArray) -> FloatArray:
    r"""How much the doubt about each row counts, so that every class of the pool counts alike.

    .. math:: w_n = \sum_c \frac{p_{nc}}{C q_c}, \qquad q_c = \frac{1}{U} \sum_n p_{nc}

    A class that the network sees in a tenth of its even share counts ten times; smaller shares count as that much.

    Args:
        probabilities: `(U, C)`.

    Returns:
        `(U,)`.

    Example:
        >>> class_weights(np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)).round(2)
        array([0.67, 0.67, 0.67, 2.  ], dtype=float32)
    """
    shares = probabilities.shape[1] * probabilities.mean(axis=0, dtype=np.float64)
    weights: FloatArray = probabilities @ (1 / np.maximum(shares, _RAREST)).astype(np.float32)
    return weights


def predicted_class_weights(predicted: IntArray) -> FloatArray:
    """`class_weights` where only the class of each node is told; the unknown counts as one class more.

    Args:
        predicted: `(U,)` classes, -1 where none is known.

    Returns:
        `(U,)`; 1 where no class is known.

    Example:
        >>> predicted_class_weights(np.array([4, 4, 4, 9, -1])).round(2)
        array([0.44, 0.44, 0.44, 1.33, 1.  ], dtype=float32)
    """
    told = predicted >= 0
    _, places, counts = np.unique(predicted[told], return_inverse=True, return_counts=True)
    shares = (len(counts) + 1) * counts / max(1, told.sum())
    weights = np.ones(len(predicted), np.float32)
    weights[told] = (1 / np.maximum(shares, _RAREST))[places.reshape(-1)]
    return weights


def _row_blocks(kernel: Kernel, nodes: IntArray) -> Iterator[tuple[slice, sp.csr_matrix]]:
    """The rows of some nodes, so many at a time that memory does not grow with their number."""
    for part in slices(len(nodes), _BLOCK_ROWS):
        yield part, kernel[nodes[part]]
