"""What one point says about the others: the kernel of a short lazy walk on the graph."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from lightning_diffal.processes.shards import ShardedRows, current_shards
from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = ["walk_kernel"]

_ROWS = 4096  # computed at a time; before small values are dropped, a row holds some hundreds


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
    shards = current_shards() if isinstance(transition, ShardedRows) else None
    start, end = (0, n_nodes) if shards is None else shards.bounds(n_nodes)[shards.rank : shards.rank + 2]
    blocks = [np.arange(row, min(row + _ROWS, end)) for row in range(start, end, _ROWS)]
    rows = [_walked(lazy, block, n_steps, least) for block in blocks]
    own = sp.vstack(rows, format="csr") if rows else sp.csr_matrix((0, n_nodes), dtype=np.float32)
    parts = [np.zeros(0, np.float32), *(_diagonal(part, block) for part, block in zip(rows, blocks, strict=True))]
    diagonal: FloatArray = np.concatenate(parts)
    of_all = diagonal if shards is None else shards.gather_rows(diagonal, n_nodes)
    scale = (1 / np.sqrt(np.maximum(of_all, np.finfo(np.float32).tiny))).astype(np.float32)
    own.data *= np.repeat(scale[start:end], np.diff(own.indptr)) * scale[own.indices]
    np.minimum(own.data, 1, out=own.data)
    return own if shards is None else ShardedRows(own, shards)


def _lazy_walk(transition: sp.csr_matrix, stay: float) -> sp.csr_matrix:
    """One step: stay, or move along the edges; symmetric."""
    whole = transition.tocsr().sorted_indices()
    reverse = whole.T.tocsr().sorted_indices()
    # an edge leads both ways, so both hold the same places
    moved = sp.csr_matrix((np.sqrt(whole.data * reverse.data), whole.indices, whole.indptr), shape=whole.shape)
    lazy = (stay * sp.identity(whole.shape[0], np.float32, format="csr") + (1 - stay) * moved).tocsr()
    lazy.sort_indices()
    return lazy.astype(np.float32)


def _walked(lazy: sp.csr_matrix, nodes: IntArray, n_steps: int, least: float) -> sp.csr_matrix:
    """The rows of some nodes after all steps."""
    rows = lazy[nodes]
    for _ in range(n_steps - 1):
        rows = _without_small(rows @ lazy, nodes, least)
    rows.sort_indices()
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
