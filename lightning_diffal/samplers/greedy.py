"""Greedy choice of the points that together cover most of what is doubted and not known yet.

Gains are computed only where they could win, so that of a large kernel only those rows are made that matter.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from lightning_diffal.samplers.covering import Kernel
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.products import sums_of_rows
from lightning_diffal.utils.numeric.threads import each, number_of_threads, slices
from lightning_diffal.utils.phases import announce

__all__ = ["Cover", "greedy_cover"]

_ROWS = 256  # of the kernel fetched at a time at least, the most promising first
_ROWS_SHARE = 1024  # one in so many at a time of a large graph, where each fetch costs as well
_GROWTH = 4  # one in so many of those fetched before: where most are needed, all cores make them, and few in vain
_MOST_ROWS = 1024  # by growth: what is made beside them in passing takes memory too
_HELD_VALUES = 2**25  # of rows of the kernel, 256 MiB; beyond it the less promising are let go
_OF_GRAPH = 32  # values for each node that graph and walk take, which a large graph holds besides
_FETCHES = 7  # until bounds are computed again, which costs about as much as one
_ROUNDED_UP = np.float32(1 + 1e-4)
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


def greedy_cover(kernel: Kernel, weights: FloatArray, covered: FloatArray, nodes: IntArray, size: int) -> Cover:
    r"""Greedily maximise the weighted coverage of the whole graph.

    .. math:: F(S) = \sum_n u_n \max\big(\kappa_n, \max_{s \in S} K_{sn}\big)

    by the gain :math:`\sum_n u_n \max(0, K_{xn} - \mathrm{cov}_n)` of each pick `x`. `F` is monotone and submodular, so
    the greedy choice is within :math:`1 - 1/e` of the best (Nemhauser, Wolsey and Fisher, 1978), and the gain of a node
    can only fall: it is computed again only where its last value would win (Minoux, "Accelerated greedy algorithms",
    1978). At first there is no gain but a bound of it,

    .. math:: \sum_n u_n \max(0, 1 - \mathrm{cov}_n / h_n) K_{xn}

    where no other node says more than :math:`h_n` about `n`: one product with a vector for all nodes. Rows of the
    kernel are computed in blocks, the most promising first, as far as picks need them; of nodes whose row was computed
    :math:`h_n` is the largest value in it, of others 1.

    Args:
        kernel: `(U, U)`, symmetric, with a unit diagonal: row by row what a node covers.
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


class _Candidates:
    """Nodes to choose from: a bound of what each may gain, and the gain itself where its row was needed."""

    def __init__(self, kernel: Kernel, weights: FloatArray, covered: FloatArray, nodes: IntArray) -> None:
        self._kernel, self._weights, self._nodes = kernel, weights, nodes
        self._covered = np.array(covered, np.float32)
        self._highest = np.ones(len(weights), np.float32)  # of what any other node says about each
        self._picks = 0
        self._rows = _HeldRows(kernel, nodes)
        self._gains: list[tuple[float, int, int]] = []  # a heap: less than the gain, position, picks when computed
        self._last = np.zeros(len(nodes), np.float32)  # the gain of each that was computed last
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
                self._note(stale, self._gained(*self._rows.read(stale)))
            else:
                break
        bound, position, _ = heapq.heappop(self._gains)
        columns, values, _ = self._rows.read([position])
        before = float(self._covered[self._nodes[position]])
        self._covered[columns] = np.maximum(self._covered[columns], values)
        self._rows.drop(position)
        self._picks += 1
        return position, -bound, before

    def _renew_bounds(self) -> None:
        # K - cov <= K (1 - cov / h) where K <= h; and a little more, for what rounding takes
        gained = self._kernel @ (self._weights * np.maximum(1 - self._covered / self._highest, 0))
        bounds = _ROUNDED_UP * gained[self._nodes[self._waiting]]
        order = np.argsort(-bounds, kind="stable")
        self._waiting, self._bounds, self._fetches = self._waiting[order], bounds[order], 0

    def _fetch(self) -> None:
        """Compute the gains of the most promising of those that wait, on all cores where they are many."""
        fetched = len(self._nodes) - len(self._waiting)
        size = max(_ROWS, self._kernel.shape[0] // _ROWS_SHARE, min(fetched // _GROWTH, _MOST_ROWS))
        promising, self._waiting, self._bounds = self._waiting[:size], self._waiting[size:], self._bounds[size:]
        self._fetches += 1
        parts = slices(len(promising), max(_ROWS, -(-len(promising) // number_of_threads())))
        blocks: list[sp.csr_matrix] = [None] * len(parts)
        gained = np.zeros(len(promising), np.float32)

        def compute(number: int) -> None:
            some = self._nodes[promising[parts[number]]]
            blocks[number] = block = self._rows.make(promising[parts[number]])
            gained[parts[number]] = self._gained(block.indices, block.data, block.indptr)
            self._highest[some] = _highest_of_others(block, some)

        each(compute, range(len(parts)))
        for part, block in zip(parts, blocks, strict=True):
            self._rows.hold(block, promising[part].tolist())
        self._note(promising.tolist(), gained)

    def _stale(self) -> list[int]:
        """Take the most promising positions whose gain was computed before the last pick, a few at a time."""
        stale: list[int] = []
        while self._gains and self._gains[0][2] < self._picks and len(stale) < _RENEWED:
            stale.append(heapq.heappop(self._gains)[1])
        return stale

    def _gained(self, columns: IntArray, values: FloatArray, pointers: IntArray) -> FloatArray:
        """What some candidates gain now, of whom the rows of the kernel are given."""
        left = values - self._covered.take(columns)
        np.maximum(left, 0, out=left)
        left *= self._weights.take(columns)
        return sums_of_rows(left, pointers)

    def _note(self, positions: list[int], gained: FloatArray) -> None:
        self._last[positions] = gained
        for position, gain in zip(positions, gained.tolist(), strict=True):
            heapq.heappush(self._gains, (-gain, position, self._picks))
        if self._rows.overflow:
            self._rows.keep_half(self._last)


def _highest_of_others(rows: sp.csr_matrix, nodes: IntArray) -> FloatArray:
    """`(R,)` the largest value of each row but for the node's own."""
    others = rows.data * (rows.indices != np.repeat(nodes.astype(rows.indices.dtype), np.diff(rows.indptr)))
    highest: FloatArray = np.zeros(len(nodes), np.float32)
    filled = np.flatnonzero(np.diff(rows.indptr))
    highest[filled] = np.maximum.reduceat(others, rows.indptr[:-1][filled])
    bounded: FloatArray = np.clip(_ROUNDED_UP * highest, np.finfo(np.float32).tiny, 1)
    return bounded


class _HeldRows:
    """Rows of the kernel by the positions of their nodes: those that are held, and others as they are needed."""

    def __init__(self, kernel: Kernel, nodes: IntArray) -> None:
        self._kernel, self._nodes = kernel, nodes
        self._places: dict[int, tuple[sp.csr_matrix, int]] = {}
        self._values = 0
        self._room = max(_HELD_VALUES // 8, _HELD_VALUES - _OF_GRAPH * kernel.shape[0])

    @property
    def overflow(self) -> bool:
        """Whether more is held than there is room for."""
        return self._values > self._room

    def make(self, positions: IntArray) -> sp.csr_matrix:
        """`(R, U)` rows of the kernel."""
        return self._kernel[self._nodes[positions]]

    def hold(self, block: sp.csr_matrix, positions: list[int]) -> None:
        """Keep rows that were made."""
        self._places.update({position: (block, row) for row, position in enumerate(positions)})
        self._values += block.nnz

    def drop(self, position: int) -> None:
        """Forget a row that is not needed again."""
        self._places.pop(position, None)

    def read(self, positions: list[int]) -> tuple[IntArray, FloatArray, IntArray]:
        """Columns and values of some rows, one after the other, and where each begins and ends."""
        missing = [position for position in positions if position not in self._places]
        if missing:
            self.hold(self.make(np.array(missing)), missing)
        places = [self._places[position] for position in positions]
        spans = [(block, slice(block.indptr[row], block.indptr[row + 1])) for block, row in places]
        columns = [block.indices[span] for block, span in spans]
        values = [block.data[span] for block, span in spans]
        pointers = np.cumsum([0, *(len(part) for part in columns)])
        return np.concatenate(columns), np.concatenate(values), pointers

    def keep_half(self, promise: FloatArray) -> None:
        """Keep the more promising half of the rows; others are made again where they are needed after all.

        Args:
            promise: of every position.
        """
        held = np.fromiter(self._places, np.int64, len(self._places))
        kept = held[np.argsort(-promise[held], kind="stable")[: len(held) // 2]]
        rows_in: dict[int, list[tuple[int, int]]] = defaultdict(list)
        blocks: dict[int, sp.csr_matrix] = {}
        for position in kept.tolist():
            block, row = self._places[position]
            blocks[id(block)] = block
            rows_in[id(block)].append((row, position))
        self._places, self._values = {}, 0
        for name, some in rows_in.items():
            rows, positions = zip(*some, strict=True)
            self.hold(blocks.pop(name)[list(rows)], list(positions))
