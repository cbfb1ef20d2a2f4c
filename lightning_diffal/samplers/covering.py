"""Weighted coverage: pick the points that together cover what is doubted and not known yet.

Pure functions on the nodes of a graph and on the rows of its kernel; one process or several get the same answer.
"""

from __future__ import annotations

import heapq
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from lightning_diffal.processes.shards import ShardedRows, current_shards
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.threads import each
from lightning_diffal.utils.phases import announce

__all__ = [
    "Cover",
    "agreeing_cover",
    "class_weights",
    "contested_cover",
    "covered_by",
    "gains",
    "greedy_cover",
    "predicted_class_weights",
]

_BLOCK_VALUES = 2**20  # of the kernel looked at at a time
_RAREST = 0.1  # of an even share of the pool, as which rarer classes count
_ROWS = 1024  # of the kernel fetched at a time, the most promising first
_RENEWED = 16  # gains computed again at a time
_TOLD_EVERY = 50  # picks


class Cover(NamedTuple):
    """What was picked, in order.

    Attributes:
        positions: `(b,)` in the list of nodes that was given.
        gains: `(b,)` how much each covered when it was picked; never rising.
        covered: `(b,)` how well each was covered itself just before.
    """

    positions: IntArray
    gains: FloatArray
    covered: FloatArray


def greedy_cover(
    kernel: sp.csr_matrix | ShardedRows, weights: FloatArray, covered: FloatArray, nodes: IntArray, size: int
) -> Cover:
    r"""Greedily maximise the weighted coverage of the whole graph.

    .. math:: F(S) = \sum_n u_n \max\big(\kappa_n, \max_{s \in S} K_{sn}\big)

    by the gain :math:`\sum_n u_n \max(0, K_{xn} - \mathrm{cov}_n)` of each pick `x`. `F` is monotone and submodular, so
    the greedy choice is within :math:`1 - 1/e` of the best (Nemhauser, Wolsey and Fisher, 1978), and the gain of a node
    can only fall: it is computed again only where its last value would win (Minoux, "Accelerated greedy algorithms",
    1978). Rows of the kernel are fetched in blocks, the most promising first, as far as the picks need them.

    Args:
        kernel: `(U, U)`, row by row what a node covers.
        weights: `(U,)` :math:`u`, at least 0.
        covered: `(U,)` :math:`\kappa`, what is covered before; it is left as it is.
        nodes: `(M,)` distinct nodes to choose from; of equal gains the earlier one wins.
        size: how many, at most `M`.

    Example:
        >>> kernel = sp.csr_matrix([[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]], dtype=np.float32)
        >>> ones = np.ones(3, np.float32)
        >>> cover = greedy_cover(kernel, ones, np.zeros(3, np.float32), np.arange(3), 2)
        >>> cover.positions.tolist(), cover.gains.tolist(), cover.covered.tolist()
        ([1, 0], [2.0, 0.5], [0.0, 0.5])
    """
    state = np.array(covered, np.float32)
    first = gains(kernel, weights, state)[nodes]
    order = np.argsort(-first, kind="stable")
    heap: list[tuple[float, int, int]] = []  # less than any gain so far, position, picks when it was computed
    rows = _RowReader(kernel, nodes)
    picked: list[int] = []
    gained: list[float] = []
    before: list[float] = []
    fetched = 0
    while len(picked) < size:
        while fetched < len(order) and (not heap or -heap[0][0] <= first[order[fetched]]):
            block = order[fetched : fetched + _ROWS]
            rows.fetch(block)
            for position, bound in zip(block.tolist(), (-first[block]).tolist(), strict=True):
                heapq.heappush(heap, (bound, position, 0))
            fetched += len(block)
        if heap[0][2] < len(picked):
            stale = _stale(heap, len(picked))
            columns, values, pointers = rows.read(stale)
            found = _sums(weights[columns] * np.maximum(values - state[columns], 0), pointers)
            for position, gain in zip(stale, found.tolist(), strict=True):
                heapq.heappush(heap, (-gain, position, len(picked)))
            continue
        bound, position, _ = heapq.heappop(heap)
        columns, values, _ = rows.read([position])
        picked.append(position)
        gained.append(-bound)
        before.append(float(state[nodes[position]]))
        state[columns] = np.maximum(state[columns], values)
        if len(picked) % _TOLD_EVERY == 0:
            announce("choosing points", len(picked), size)
    return Cover(np.array(picked, np.int64), np.array(gained, np.float32), np.array(before, np.float32))


def gains(kernel: sp.csr_matrix | ShardedRows, weights: FloatArray, covered: FloatArray) -> FloatArray:
    r"""How much each node would cover: :math:`\sum_n u_n \max(0, K_{xn} - \mathrm{cov}_n)`.

    Args:
        kernel: `(U, U)`.
        weights: `(U,)`.
        covered: `(U,)`.

    Returns:
        `(U,)`.

    Example:
        >>> kernel = sp.csr_matrix([[1, 0.5], [0.5, 1]], dtype=np.float32)
        >>> gains(kernel, np.ones(2, np.float32), np.array([1, 0], np.float32))
        array([0.5, 1. ], dtype=float32)
    """
    own = kernel.rows if isinstance(kernel, ShardedRows) else kernel
    result = np.zeros(own.shape[0], np.float32)

    def sum_up(part: slice) -> None:
        places = slice(int(own.indptr[part.start]), int(own.indptr[part.stop]))
        columns = own.indices[places]
        values = weights[columns] * np.maximum(own.data[places] - covered[columns], 0)
        # each row is summed for itself: the same on any number of processes
        result[part] = _sums(values, own.indptr[part.start : part.stop + 1] - places.start)

    each(sum_up, _blocks(own.indptr))
    shards = current_shards() if isinstance(kernel, ShardedRows) else None
    return result if shards is None else shards.gather_rows(result, kernel.shape[0])


def covered_by(kernel: sp.csr_matrix | ShardedRows, nodes: IntArray) -> FloatArray:
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
    rows = kernel[nodes]
    result = np.zeros(kernel.shape[1], np.float32)
    np.maximum.at(result, rows.indices, rows.data)
    return result


def agreeing_cover(rows: sp.csr_matrix, labels: IntArray, predicted: IntArray) -> FloatArray:
    r"""How well each node is known: covered by labels that say what the network says of it.

    .. math:: \kappa_n = \max_{s:\, y_s = \hat y_n} K_{sn}

    Where the nearest labels contradict the network, one of the two is wrong, and the place counts as unknown.

    Args:
        rows: `(L, U)` of the kernel, one for each label.
        labels: `(L,)` their classes.
        predicted: `(U,)` the network's classes.

    Returns:
        `(U,)`.

    Example:
        >>> kernel = sp.csr_matrix([[1, 0.5, 0], [0.5, 1, 0.25], [0, 0.25, 1]], dtype=np.float32)
        >>> agreeing_cover(kernel[[0, 2]], np.array([7, 8]), np.array([7, 8, 7]))
        array([1.  , 0.25, 0.  ], dtype=float32)
    """
    said = np.repeat(labels, np.diff(rows.indptr))
    agrees = said == predicted[rows.indices]
    result = np.zeros(rows.shape[1], np.float32)
    np.maximum.at(result, rows.indices[agrees], rows.data[agrees])
    return result


def contested_cover(rows: sp.csr_matrix, labels: IntArray, num_classes: int) -> FloatArray:
    r"""How well each node is known where no network is asked: the margin of what labels of each class cover.

    .. math:: \kappa_n = M_{n(1)} - M_{n(2)}, \qquad M_{nc} = \max_{s:\, y_s = c} K_{sn}

    The margin of Kushnir and Venturi (2020) with the largest value in place of the sum: a place that labels of two
    classes cover alike is a border, and counts as unknown however many labels lie around it.

    Args:
        rows: `(L, U)` of the kernel, one for each label.
        labels: `(L,)` their classes.
        num_classes: `C`.

    Returns:
        `(U,)`.

    Example:
        >>> kernel = sp.csr_matrix([[1, 0.5, 0], [0.5, 1, 0.25], [0, 0.25, 1]], dtype=np.float32)
        >>> contested_cover(kernel[[0, 2]], np.array([7, 8]), 9)
        array([1.  , 0.25, 1.  ], dtype=float32)
    """
    pairs = rows.indices.astype(np.int64) * num_classes + np.repeat(labels, np.diff(rows.indptr))
    order = np.lexsort((rows.data, pairs))
    pairs, values = pairs[order], rows.data[order]
    last = np.flatnonzero(np.append(np.diff(pairs) > 0, True)[: len(pairs)])  # the largest of each node and class
    owner, values = pairs[last] // max(num_classes, 1), values[last]
    order = np.lexsort((values, owner))
    owner, values = owner[order], values[order]
    ends = np.flatnonzero(np.append(np.diff(owner) > 0, True)[: len(owner)])
    result = np.zeros(rows.shape[1], np.float32)
    result[owner[ends]] = values[ends]
    shared = ends[(ends > 0) & (owner[ends - 1] == owner[ends])]
    result[owner[shared]] -= values[shared - 1]
    return result


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


def _blocks(pointers: IntArray) -> list[slice]:
    """Rows of a sparse matrix, so many at a time that they hold about as many values."""
    n_rows = len(pointers) - 1
    cuts = np.searchsorted(pointers, np.arange(_BLOCK_VALUES, int(pointers[-1]), _BLOCK_VALUES))
    bounds = np.unique(np.concatenate([[0], cuts, [n_rows]])).tolist()
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def _sums(values: FloatArray, pointers: IntArray) -> FloatArray:
    """Sums of consecutive values from each pointer to the next, in double precision: equal gains are found equal."""
    sums = np.zeros(len(pointers) - 1, np.float32)
    filled = np.flatnonzero(np.diff(pointers))
    if len(filled):
        sums[filled] = np.add.reduceat(values, pointers[:-1][filled], dtype=np.float64)
    return sums


def _stale(heap: list[tuple[float, int, int]], picks: int) -> list[int]:
    """Take the most promising positions whose gain was computed before the last pick, a few at a time."""
    stale: list[int] = []
    while heap and heap[0][2] < picks and len(stale) < _RENEWED:
        stale.append(heapq.heappop(heap)[1])
    return stale


class _RowReader:
    """Rows of the kernel, read where they lie; those that lie on other processes are fetched first."""

    def __init__(self, kernel: sp.csr_matrix | ShardedRows, nodes: IntArray) -> None:
        self._kernel = kernel
        self._nodes = nodes.tolist()
        self._fetched: dict[int, tuple[sp.csr_matrix, int]] = {}

    def fetch(self, positions: IntArray) -> None:
        if isinstance(self._kernel, ShardedRows):
            block = self._kernel[np.array([self._nodes[position] for position in positions.tolist()])]
            self._fetched.update({position: (block, row) for row, position in enumerate(positions.tolist())})

    def read(self, positions: list[int]) -> tuple[IntArray, FloatArray, IntArray]:
        """Columns and values of some rows, one after the other, and where each begins and ends."""
        places = [self._place(position) for position in positions]
        columns = [block.indices[part] for block, part in places]
        values = [block.data[part] for block, part in places]
        pointers = np.cumsum([0, *(len(part) for part in columns)])
        return np.concatenate(columns), np.concatenate(values), pointers

    def _place(self, position: int) -> tuple[sp.csr_matrix, slice]:
        if isinstance(self._kernel, ShardedRows):
            block, row = self._fetched[position]
        else:
            block, row = self._kernel, self._nodes[position]
        return block, slice(block.indptr[row], block.indptr[row + 1])
