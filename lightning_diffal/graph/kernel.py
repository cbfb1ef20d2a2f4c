"""What one point says about the others: the kernel of a short lazy walk on the graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import reverse_cuthill_mckee

from lightning_diffal.processes.shards import ShardedRows, current_shards
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.products import StackedRows
from lightning_diffal.utils.numeric.threads import each, slices
from lightning_diffal.utils.storage.stages import counted

__all__ = ["walk_kernel"]

_ROWS = 4096  # computed at a time; before small values are dropped, a row holds some hundreds
_ROWS_IN_ORDER = 2**16  # put back into their order at a time


def walk_kernel(
    transition: sp.csr_matrix | ShardedRows, *, n_steps: int = 4, stay: float = 0.5, least: float = 0.01
) -> sp.csr_matrix | ShardedRows:
    r"""How much of each point a label of another one covers, between 0 and 1.

    .. math:: H = \big(s I + (1 - s) D^{-1/2} W D^{-1/2}\big)^{n}, \qquad K_{ij} = \frac{H_{ij}}{\sqrt{H_{ii} H_{jj}}}

    A lazy walk: of `n` steps a share `s` stays in place. For many steps of which few move it is the heat kernel
    :math:`\exp(-\tau (I - D^{-1/2} W D^{-1/2}))` with :math:`\tau = n (1 - s)` (Kondor and Lafferty, "Diffusion kernels
    on graphs", ICML 2002); four steps give the same picks at a fraction of the cost. The unit diagonal makes hubs and
    outliers cover themselves alike, and with :math:`s \ge 1/2` the matrix is positive semi-definite before small
    values are dropped. Because :math:`D^{-1/2} W D^{-1/2}` is similar to `P`, its entries are
    :math:`\sqrt{P_{ij} P_{ji}}`, so that `P` is all that is needed.

    Args:
        transition: `(N, N)` of `transition_matrix`, whole or spread over processes.
        n_steps: `n`.
        stay: `s`.
        least: smaller values are dropped, measured against the diagonal of the row after each step, so that a row
            holds some dozens of values and memory grows with `N` alone.

    Returns:
        `(N, N)` float32 with sorted indices, of the kind of `transition`; the same values on any number of processes.

    Example:
        >>> path = sp.csr_matrix([[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]], dtype=np.float32)
        >>> walk_kernel(path, n_steps=2).toarray().round(2)
        array([[1.  , 0.82, 0.33],
               [0.82, 1.  , 0.82],
               [0.33, 0.82, 1.  ]], dtype=float32)
    """
    n_nodes = transition.shape[0]
    whole = transition[np.arange(n_nodes)] if isinstance(transition, ShardedRows) else transition
    lazy = _lazy_walk(whole, stay)
    del whole
    order, rank = _by_nearness(lazy)
    near = _renumbered(lazy, order, rank)
    del lazy
    shards = current_shards() if isinstance(transition, ShardedRows) else None
    start, end = (0, n_nodes) if shards is None else shards.bounds(n_nodes)[shards.rank : shards.rank + 2]
    own, diagonal = _walked_rows(near, order, rank[start:end], n_steps, least)
    del near
    of_all = diagonal if shards is None else shards.gather_rows(diagonal, n_nodes)
    scale = (1 / np.sqrt(np.maximum(of_all, np.finfo(np.float32).tiny))).astype(np.float32)

    def normalise(part: slice) -> None:
        places = slice(int(own.indptr[part.start]), int(own.indptr[part.stop]))
        lengths = np.diff(own.indptr[part.start : part.stop + 1])
        values = own.data[places]
        values *= np.repeat(scale[start:end][part], lengths) * scale[own.indices[places]]
        np.minimum(values, 1, out=values)

    each(normalise, slices(own.shape[0], _ROWS))
    return own if shards is None else ShardedRows(own, shards)


def _lazy_walk(transition: sp.csr_matrix, stay: float) -> sp.csr_matrix:
    """One step: stay, or move along the edges; symmetric."""
    whole = transition if transition.has_sorted_indices else transition.sorted_indices()
    moved = whole.T.tocsr()  # an edge leads both ways, so both hold the same places
    moved.sort_indices()
    moved.data *= whole.data
    np.sqrt(moved.data, out=moved.data)
    moved.data *= 1 - stay
    lazy = (stay * sp.identity(whole.shape[0], np.float32, format="csr") + moved).tocsr()
    lazy.sort_indices()
    return lazy.astype(np.float32, copy=False)


def _walked_rows(
    near: sp.csr_matrix, order: IntArray, place_of: IntArray, n_steps: int, least: float
) -> tuple[sp.csr_matrix, FloatArray]:
    """The rows of consecutive nodes after all steps, on all cores, and the value of each in its own row."""
    n_nodes = len(place_of)
    diagonal = np.zeros(n_nodes, np.float32)
    stacked = StackedRows(n_nodes, near.shape[1])
    for several in counted("what labels cover", slices(n_nodes, _ROWS_IN_ORDER), n_nodes):
        places = place_of[several]
        by_place = np.argsort(places)
        parts = slices(len(places), _ROWS)
        walked: list[Any] = [None] * len(parts)

        def walk(
            number: int,
            some: IntArray = places[by_place],
            parts: list[slice] = parts,
            walked: list[Any] = walked,
            values: FloatArray = diagonal[several],
            by_place: IntArray = by_place,
        ) -> None:
            part = parts[number]
            rows = _walked(near, some[part], n_steps, least)
            values[by_place[part]] = _diagonal(rows, some[part])
            rows = sp.csr_matrix((rows.data, order[rows.indices], rows.indptr), shape=rows.shape)
            rows.sort_indices()
            walked[number] = rows

        each(walk, range(len(parts)))
        stacked.append(sp.vstack(walked, format="csr")[np.argsort(by_place)])
    return stacked.matrix(), diagonal


def _by_nearness(lazy: sp.csr_matrix) -> tuple[IntArray, IntArray]:
    """`(N,)` the nodes so that neighbours come close to each other, and the place of each (Cuthill and McKee, 1969)."""
    if lazy.nnz and lazy.indices.dtype == np.int32:
        order = reverse_cuthill_mckee(lazy, symmetric_mode=True)
    else:  # empty, or too large for it
        order = np.arange(lazy.shape[0])
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order), dtype=order.dtype)
    return order, rank


def _renumbered(lazy: sp.csr_matrix, order: IntArray, rank: IntArray) -> sp.csr_matrix:
    """The same walk, neighbours of the graph near each other in memory, which halves the time of products.

    The values of a row stay in their order, so that every sum is the same bit for bit.
    """
    near = lazy[order]
    return sp.csr_matrix((near.data, rank[near.indices], near.indptr), shape=lazy.shape)


def _walked(lazy: sp.csr_matrix, nodes: IntArray, n_steps: int, least: float) -> sp.csr_matrix:
    """The rows of some nodes after all steps."""
    rows = lazy[nodes]
    for _ in range(n_steps - 1):
        rows = _without_small(rows @ lazy, nodes, least)
    return rows


def _without_small(rows: sp.csr_matrix, nodes: IntArray, least: float) -> sp.csr_matrix:
    lengths = np.diff(rows.indptr)
    kept = rows.data >= np.repeat(np.float32(least) * _diagonal(rows, nodes), lengths)
    pointers = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
    return sp.csr_matrix((rows.data[kept], rows.indices[kept], pointers), shape=rows.shape)


def _diagonal(rows: sp.csr_matrix, nodes: IntArray) -> FloatArray:
    """`(R,)` the value of each node in its own row."""
    owner = np.repeat(nodes, np.diff(rows.indptr))
    found = np.zeros(len(nodes), np.float32)
    own = np.flatnonzero(rows.indices == owner)
    found[np.searchsorted(rows.indptr, own, side="right") - 1] = rows.data[own]
    return found
