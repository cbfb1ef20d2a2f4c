"""What one point says about the others: how much of their neighbourhoods two points share."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from lightning_diffal.processes.shards import ShardedRows
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.products import rows_of
from lightning_diffal.utils.numeric.threads import each, number_of_threads, slices

__all__ = ["WalkKernel"]

_FEWEST = 512  # rows that are worth a thread of their own
_MADE = 2**16  # rows made at a time


class WalkKernel:
    r"""How much of each point a label of another one covers, between 0 and 1; rows are computed when they are read.

    .. math:: L = s I + (1 - s) D^{-1/2} W D^{-1/2}, \qquad
        K_{ij} = \frac{(L^2)_{ij}}{\sqrt{(L^2)_{ii} (L^2)_{jj}}} = \frac{\ell_i \cdot \ell_j}{|\ell_i| |\ell_j|}

    Two steps of a lazy walk, of which a share `s` stays in place, scaled to a unit diagonal: a short walk of diffusion
    (Kondor and Lafferty, "Diffusion kernels on graphs", ICML 2002). Since `L` is symmetric, it is at the same time the
    cosine of the rows of `L`, the neighbourhoods of two points, so it is positive semi-definite. The unit diagonal
    makes hubs and outliers cover themselves alike. Because :math:`D^{-1/2} W D^{-1/2}` is similar to `P`, its entries
    are :math:`\sqrt{P_{ij} P_{ji}}`, so that `P` is all that is needed.

    Only `L` is held, some twenty values per point. A product with a vector is two products of `L`; a row takes as many
    sums as a point has neighbours of neighbours.

    Args:
        transition: `(N, N)` of `transition_matrix`, whole or spread over processes; of the latter every process
            gathers the whole, and has the same kernel.
        stay: `s`.

    Attributes:
        shape: `(N, N)`.

    Example:
        >>> path = sp.csr_matrix([[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]], dtype=np.float32)
        >>> kernel = WalkKernel(path, stay=0.5)
        >>> kernel[np.array([0, 1])].toarray().round(2)
        array([[1.  , 0.82, 0.33],
               [0.82, 1.  , 0.82]], dtype=float32)
        >>> (kernel @ np.ones(3, np.float32)).round(2)
        array([2.15, 2.63, 2.15], dtype=float32)
    """

    def __init__(self, transition: sp.csr_matrix | ShardedRows, *, stay: float = 0.3) -> None:
        whole = transition[np.arange(transition.shape[0])] if isinstance(transition, ShardedRows) else transition
        self._lazy = _lazy_walk(whole, stay)
        self.shape: tuple[int, int] = self._lazy.shape
        self._scale = _one_over_lengths(self._lazy)

    def __getitem__(self, nodes: IntArray) -> sp.csr_matrix:
        """`(R, N)` float32, the rows of some nodes, their indices in no order; on all cores, the same bit for bit."""
        parts = slices(len(nodes), max(_FEWEST, -(-len(nodes) // number_of_threads())))
        rows: list[sp.csr_matrix] = [None] * len(parts)

        def compute(number: int) -> None:
            some = nodes[parts[number]]
            product = self._lazy[some] @ self._lazy
            lengths = np.diff(product.indptr)
            product.data *= np.repeat(self._scale[some], lengths) * self._scale[product.indices]
            np.minimum(product.data, 1, out=product.data)
            product.data[product.indices == np.repeat(some, lengths)] = 1  # exactly: a copy of it adds nothing
            rows[number] = product

        each(compute, range(len(parts)))
        if not rows:
            return sp.csr_matrix((0, self.shape[1]), dtype=np.float32)
        return rows[0] if len(rows) == 1 else sp.vstack(rows, format="csr")

    def __matmul__(self, vector: FloatArray) -> FloatArray:
        """`(N,)` float32, the product with a vector; no row of the kernel is computed."""
        product = self._lazy @ (self._lazy @ (vector * self._scale).astype(np.float32))
        scaled: FloatArray = product * self._scale
        return scaled


def _lazy_walk(transition: sp.csr_matrix, stay: float) -> sp.csr_matrix:
    """One step: stay, or move along the edges; symmetric."""
    whole = transition if transition.has_sorted_indices else transition.sorted_indices()
    moving = whole.T.tocsr().data  # an edge leads both ways, so both hold the same places, in order
    moving *= whole.data
    np.sqrt(moving, out=moving)
    moving *= np.float32(1 - stay)
    # values and places apart, so that a graph of millions of points is not held three times
    moved = sp.csr_matrix((moving, whole.indices, whole.indptr), shape=whole.shape)
    parts = slices(whole.shape[0], _MADE)
    size = whole.nnz + whole.shape[0]
    pointers, data = np.zeros(whole.shape[0] + 1, whole.indptr.dtype), np.empty(size, np.float32)
    for part in parts:
        block = _with_diagonal(moved, part, stay)
        pointers[part.start + 1 : part.stop + 1] = pointers[part.start] + block.indptr[1:]
        data[pointers[part.start] : pointers[part.stop]] = block.data
    del moved, moving
    indices = np.empty(size, whole.indices.dtype)
    for part in parts:
        indices[pointers[part.start] : pointers[part.stop]] = _with_diagonal(whole, part, stay).indices
    held = slice(0, int(pointers[-1]))
    return sp.csr_matrix((data[held], indices[held], pointers), shape=whole.shape)


def _with_diagonal(matrix: sp.csr_matrix, part: slice, stay: float) -> sp.csr_matrix:
    """Some rows of a matrix, with `stay` added on the diagonal; sorted."""
    rows, size = rows_of(matrix, part), part.stop - part.start
    diagonal = np.full(size, stay, np.float32), np.arange(part.start, part.stop), np.arange(size + 1)
    both = (rows + sp.csr_matrix(diagonal, shape=rows.shape)).tocsr()
    both.sort_indices()
    return both


def _one_over_lengths(matrix: sp.csr_matrix) -> FloatArray:
    """`(N,)` of rows none of which is empty."""
    lengths = np.ones(matrix.shape[0], np.float32)
    for part in slices(matrix.shape[0], _MADE):
        rows = rows_of(matrix, part)
        lengths[part] = 1 / np.sqrt(np.add.reduceat(np.square(rows.data), rows.indptr[:-1]))
    return lengths
