"""Greedy choice of the points that together cover most of what is doubted and not known yet.

Gains are computed only where they could win, so that of a large kernel only those rows are made that matter.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from lightning_diffal.samplers.covering import Kernel, gains_of_rows
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.threads import Each, number_of_threads, slices, team
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
    picked = np.zeros(size, np.int64)
    gained, before = np.zeros((2, size), np.float32)
    with team() as together:
        candidates = _Candidates(kernel, weights, covered, nodes, together)
        for number in range(size):
            picked[number], gained[number], before[number] = candidates.take_best()
            if (number + 1) % _TOLD_EVERY == 0:
                announce("choosing points", number + 1, size)
    return Cover(picked, gained, before)


class _Candidates:
    """Nodes to choose from: a bound of what each may gain, and the gain itself where its row was needed."""

    def __init__(self, kernel: Kernel, weights: FloatArray, covered: FloatArray, nodes: IntArray, each: Each) -> None:
        self._kernel, self._weights, self._nodes, self._each = kernel, weights, nodes, each
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
                self._note(stale, self._gained(*self._rows.read(np.array(stale))))
            else:
                break
        bound, position, _ = heapq.heappop(self._gains)
        columns, values, _ = self._rows.read(np.array([position]))
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
            blocks[number] = block = self._kernel[some]
            gained[parts[number]] = self._gained(block.indices, block.data, block.indptr)
            self._highest[some] = _highest_of_others(block, some)

        self._each(compute, range(len(parts)))
        for part, block in zip(parts, blocks, strict=True):
            self._rows.hold(block, promising[part])
        self._note(promising.tolist(), gained)

    def _stale(self) -> list[int]:
        """Take the most promising positions whose gain was computed before the last pick, a few at a time."""
        stale: list[int] = []
        while self._gains and self._gains[0][2] < self._picks and len(stale) < _RENEWED:
            stale.append(heapq.heappop(self._gains)[1])
        return stale

    def _gained(self, columns: IntArray, values: FloatArray, pointers: IntArray) -> FloatArray:
        """What some candidates gain now, of whom the rows of the kernel are given."""
        return gains_of_rows(columns, values, pointers, self._weights, self._covered)

    def _note(self, positions: list[int], gained: FloatArray) -> None:
        self._last[positions] = gained
        for position, gain in zip(positions, gained.tolist(), strict=True):
            heapq.heappush(self._gains, (-gain, position, self._picks))
        if self._rows.overflow:
            self._rows.keep_half(self._last)


def _highest_of_others(rows: sp.csr_matrix, nodes: IntArray) -> FloatArray:
    """`(R,)` the largest value of each row but for the node's own."""
    others = rows.data * (rows.indices != np.repeat(nodes.astype(rows.indices.dtype), np.diff(rows.indptr)))
    highest = np.maximum.reduceat(others, rows.indptr[:-1])  # no row is empty, each holds its diagonal
    bounded: FloatArray = np.clip(_ROUNDED_UP * highest, np.finfo(np.float32).tiny, 1)
    return bounded


class _HeldRows:
    """Rows of the kernel by the positions of their nodes: those that are held, and others as they are needed."""

    def __init__(self, kernel: Kernel, nodes: IntArray) -> None:
        self._kernel, self._nodes = kernel, nodes
        # arrays and no objects for each row, through which the garbage collector would go again and again
        self._block = np.full(len(nodes), -1, np.int32)  # that holds the row of a position, -1 where none does
        self._row = np.zeros(len(nodes), np.int32)  # in it
        self._blocks: dict[int, sp.csr_matrix] = {}
        self._made = 0
        self._values = 0
        self._room = max(_HELD_VALUES // 8, _HELD_VALUES - _OF_GRAPH * kernel.shape[0])

    @property
    def overflow(self) -> bool:
        """Whether more is held than there is room for."""
        return self._values > self._room

    def hold(self, block: sp.csr_matrix, positions: IntArray) -> None:
        """Keep rows that were made."""
        self._blocks[self._made] = block
        self._block[positions], self._row[positions] = self._made, np.arange(len(positions))
        self._made += 1
        self._values += block.nnz

    def drop(self, position: int) -> None:
        """Forget a row that is not needed again."""
        self._block[position] = -1

    def read(self, positions: IntArray) -> tuple[IntArray, FloatArray, IntArray]:
        """Columns and values of some rows, one after the other, and where each begins and ends."""
        missing = positions[self._block[positions] < 0]
        if len(missing):
            self.hold(self._kernel[self._nodes[missing]], missing)
        columns: list[IntArray] = []
        values: list[FloatArray] = []
        for number, row in zip(self._block[positions].tolist(), self._row[positions].tolist(), strict=True):
            block = self._blocks[number]
            span = slice(block.indptr[row], block.indptr[row + 1])
            columns.append(block.indices[span])
            values.append(block.data[span])
        pointers = np.cumsum([0, *map(len, columns)])
        return np.concatenate(columns), np.concatenate(values), pointers

    def keep_half(self, promise: FloatArray) -> None:
        """Keep the more promising half of the rows; others are made again where they are needed after all.

        Args:
            promise: of every position.
        """
        held = np.flatnonzero(self._block >= 0)
        kept = held[np.argsort(-promise[held], kind="stable")[: len(held) // 2]]
        kept = kept[np.argsort(self._block[kept], kind="stable")]
        numbers, starts = np.unique(self._block[kept], return_index=True)
        groups = np.split(kept, starts[1:])
        rows, blocks = self._row.copy(), self._blocks
        self._block[:], self._blocks, self._values = -1, {}, 0
        for number, some in zip(numbers.tolist(), groups, strict=False):  # of no rows there is one group
            self.hold(blocks.pop(number)[rows[some]], some)
