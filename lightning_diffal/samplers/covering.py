"""Weighted coverage: pick the points that together cover what is doubted and not known yet.

Pure functions on the nodes of a graph and on the rows of its kernel, of which only those are read that matter.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import scipy.sparse as sp

from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.threads import slices
from lightning_diffal.utils.phases import announce

__all__ = [
    "Cover",
    "Kernel",
    "agreeing_cover",
    "class_weights",
    "contested_cover",
    "contested_labels_cover",
    "covered_by",
    "gains",
    "greedy_cover",
    "predicted_class_weights",
]

_BLOCK_ROWS = 1024  # of the kernel looked at at a time
_RAREST = 0.1  # of an even share of the pool, as which rarer classes count
_ROWS = 256  # of the kernel fetched at a time at least, the most promising first
_ROWS_SHARE = 1024  # one in so many at a time of a large graph, where each fetch costs as well
_HELD_VALUES = 2**25  # of rows of the kernel, 256 MiB; beyond it they are computed again
_FETCHES = 7  # until bounds are computed again, which costs about as much as one
_ROUNDED_UP = np.float32(1 + 1e-4)
_RENEWED = 16  # gains computed again at a time
_TOLD_EVERY = 50  # picks


class Kernel(Protocol):
    """What a point says about others, between 0 and 1; a sparse matrix is one."""

    shape: tuple[int, int]

    def __getitem__(self, nodes: IntArray) -> sp.csr_matrix:
        """`(R, U)` the rows of some nodes."""

    def __matmul__(self, vector: FloatArray) -> FloatArray:
        """`(U,)` the product with a vector."""


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


def greedy_cover(kernel: Kernel, weights: FloatArray, covered: FloatArray, nodes: IntArray, size: int) -> Cover:
    r"""Greedily maximise the weighted coverage of the whole graph.

    .. math:: F(S) = \sum_n u_n \max\big(\kappa_n, \max_{s \in S} K_{sn}\big)

    by the gain :math:`\sum_n u_n \max(0, K_{xn} - \mathrm{cov}_n)` of each pick `x`. `F` is monotone and submodular, so
    the greedy choice is within :math:`1 - 1/e` of the best (Nemhauser, Wolsey and Fisher, 1978), and the gain of a node
    can only fall: it is computed again only where its last value would win (Minoux, "Accelerated greedy algorithms",
    1978). At first there is no gain but a bound of it, :math:`\sum_n u_n (1 - \mathrm{cov}_n) K_{xn}`, one product with
    a vector for all nodes; rows of the kernel are computed in blocks, the most promising first, as far as picks need
    them.

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
    candidates = _Candidates(kernel, weights, covered, nodes)
    picked = np.zeros(size, np.int64)
    gained, before = np.zeros((2, size), np.float32)
    for number in range(size):
        picked[number], gained[number], before[number] = candidates.take_best()
        if (number + 1) % _TOLD_EVERY == 0:
            announce("choosing points", number + 1, size)
    return Cover(picked, gained, before)


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
        result[part] = _sums(weights[rows.indices] * np.maximum(rows.data - covered[rows.indices], 0), rows.indptr)
    return result


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


def _sums(values: FloatArray, pointers: IntArray) -> FloatArray:
    """Sums of consecutive values from each pointer to the next, in double precision: equal gains are found equal."""
    sums = np.zeros(len(pointers) - 1, np.float32)
    filled = np.flatnonzero(np.diff(pointers))
    if len(filled):
        sums[filled] = np.add.reduceat(values, pointers[:-1][filled], dtype=np.float64)
    return sums


class _Candidates:
    """Nodes to choose from: a bound of what each may gain, and the gain itself where its row was needed."""

    def __init__(self, kernel: Kernel, weights: FloatArray, covered: FloatArray, nodes: IntArray) -> None:
        self._kernel, self._weights, self._nodes = kernel, weights, nodes
        self._covered = np.array(covered, np.float32)
        self._picks = 0
        self._rows: dict[int, tuple[sp.csr_matrix, int]] = {}
        self._held = 0
        self._gains: list[tuple[float, int, int]] = []  # a heap: less than the gain, position, picks when computed
        self._waiting: IntArray = np.arange(len(nodes))  # whose rows were not needed yet, the most promising first
        self._bounds = np.empty(0, np.float32)
        self._fetches = _FETCHES  # since bounds were computed; none were yet

    def take_best(self) -> tuple[int, float, float]:
        """Pick the candidate of the largest gain: its position, the gain, and how well it was covered before."""
        while True:
            if len(self._waiting) and self._fetches >= _FETCHES:
                self._renew_bounds()
            if len(self._waiting) and (not self._gains or -self._gains[0][0] <= self._bounds[0]):
                self._fetch()
            elif self._gains[0][2] < self._picks:
                stale = self._stale()
                self._push(stale, *self._read(stale))
            else:
                break
        bound, position, _ = heapq.heappop(self._gains)
        columns, values, _ = self._read([position])
        before = float(self._covered[self._nodes[position]])
        self._covered[columns] = np.maximum(self._covered[columns], values)
        self._picks += 1
        return position, -bound, before

    def _renew_bounds(self) -> None:
        # K - cov <= K (1 - cov), since neither is above 1; and a little more, for what rounding takes
        gained = self._kernel @ (self._weights * (1 - self._covered))
        bounds = _ROUNDED_UP * gained[self._nodes[self._waiting]]
        order = np.argsort(-bounds, kind="stable")
        self._waiting, self._bounds, self._fetches = self._waiting[order], bounds[order], 0

    def _fetch(self) -> None:
        """Compute the gains of the most promising of those that wait."""
        size = max(_ROWS, self._kernel.shape[0] // _ROWS_SHARE)
        promising, self._waiting, self._bounds = self._waiting[:size], self._waiting[size:], self._bounds[size:]
        self._fetches += 1
        block = self._compute(promising.tolist())
        self._push(promising.tolist(), block.indices, block.data, block.indptr)

    def _compute(self, positions: list[int]) -> sp.csr_matrix:
        block = self._kernel[self._nodes[positions]]
        if self._held > _HELD_VALUES:
            self._rows, self._held = {}, 0
        self._rows.update({position: (block, row) for row, position in enumerate(positions)})
        self._held += block.nnz
        return block

    def _stale(self) -> list[int]:
        """Take the most promising positions whose gain was computed before the last pick, a few at a time."""
        stale: list[int] = []
        while self._gains and self._gains[0][2] < self._picks and len(stale) < _RENEWED:
            stale.append(heapq.heappop(self._gains)[1])
        return stale

    def _push(self, positions: list[int], columns: IntArray, values: FloatArray, pointers: IntArray) -> None:
        """Note what some candidates gain now, of whom the rows of the kernel are given."""
        gained = _sums(self._weights[columns] * np.maximum(values - self._covered[columns], 0), pointers)
        for position, gain in zip(positions, gained.tolist(), strict=True):
            heapq.heappush(self._gains, (-gain, position, self._picks))

    def _read(self, positions: list[int]) -> tuple[IntArray, FloatArray, IntArray]:
        """Columns and values of some rows, one after the other, and where each begins and ends."""
        if any(position not in self._rows for position in positions):
            self._compute(positions)
        places = [self._rows[position] for position in positions]
        spans = [(block, slice(block.indptr[row], block.indptr[row + 1])) for block, row in places]
        columns = [block.indices[span] for block, span in spans]
        values = [block.data[span] for block, span in spans]
        pointers = np.cumsum([0, *(len(part) for part in columns)])
        return np.concatenate(columns), np.concatenate(values), pointers
