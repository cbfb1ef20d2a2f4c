"""What one point says about the others: how much of their neighbourhoods two points share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
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
    makes hubs and outliers cover themselves alike.

    Only :math:`M = (1 - s) D^{-1/2} W D^{-1/2} = (1 - s) D^{1/2} P D^{-1/2}` is held, one value for each edge beside
    the places that `P` holds already, since :math:`L^2 = s^2 I + (2 s I + M) M`. A product with a vector is two
    products of `M`; a row takes as many sums as a point has neighbours of neighbours.

    Args:
        transition: `(N, N)` of `transition_matrix`, whole or spread over processes; of the latter every process
            gathers the whole, and has the same kernel.
        degree: `(N,)` :math:`D_{ii}`, 0 of points without edges.
        stay: `s`.

    Attributes:
        shape: `(N, N)`.

    Example:
        >>> path = sp.csr_matrix([[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]], dtype=np.float32)
        >>> kernel = WalkKernel(path, np.array([1.0, 2.0, 1.0]), stay=0.5)
        >>> kernel[np.array([0, 1])].toarray().round(2)
        array([[1.  , 0.82, 0.33],
               [0.82, 1.  , 0.82]], dtype=float32)
        >>> (kernel @ np.ones(3, np.float32)).round(2)
        array([2.15, 2.63, 2.15], dtype=float32)
    """

    def __init__(
        self, transition: sp.csr_matrix | ShardedRows, degree: npt.NDArray[np.float64], *, stay: float = 0.3
    ) -> None:
        whole = transition[np.arange(transition.shape[0])] if isinstance(transition, ShardedRows) else transition
        self._moving, self._stay = _moving(whole, degree, stay), np.float32(stay)
        self.shape: tuple[int, int] = self._moving.shape
        self._scale = _one_over_lengths(self._moving, stay)

    def __getitem__(self, nodes: IntArray) -> sp.csr_matrix:
        """`(R, N)` float32, the rows of some nodes, their indices in no order; on all cores, the same bit for bit."""
        parts = slices(len(nodes), max(_FEWEST, -(-len(nodes) // number_of_threads())))
        rows: list[sp.csr_matrix] = [None] * len(parts)

        def compute(number: int) -> None:
            some = nodes[parts[number]]
            left = _with_diagonal(self._moving[some], some, 2 * self._stay)
            left.data *= np.repeat(self._scale[some], np.diff(left.indptr))
            product = left @ self._moving
            product.data *= self._scale.take(product.indices)
            np.minimum(product.data, 1, out=product.data)
            own = np.repeat(some.astype(product.indices.dtype), np.diff(product.indptr))
            product.data[product.indices == own] = 1  # exactly: a copy of it adds nothing
            rows[number] = product

        each(compute, range(len(parts)))
        if not rows:
            return sp.csr_matrix((0, self.shape[1]), dtype=np.float32)
        return rows[0] if len(rows) == 1 else sp.vstack(rows, format="csr")

    def __matmul__(self, vector: FloatArray) -> FloatArray:
        """`(N,)` float32, the product with a vector; no row of the kernel is computed."""
        scaled = (vector * self._scale).astype(np.float32)
        return self._lazy(self._lazy(scaled)) * self._scale

    def _lazy(self, vector: FloatArray) -> FloatArray:
        product: FloatArray = self._moving @ vector
        product += self._stay * vector
        return product


def _moving(transition: sp.csr_matrix, degree: npt.NDArray[np.float64], stay: float) -> sp.csr_matrix:
    """The part of a step that moves along the edges; symmetric, and its places are those of `P`."""
    roots = np.sqrt(np.where(degree == 0, 1, degree))
    values = np.empty(transition.nnz, np.float32)
    for part in slices(len(degree), _MADE):
        pointers = transition.indptr[part.start : part.stop + 1]
        span = slice(int(pointers[0]), int(pointers[-1]))
        ratios = np.repeat((1 - stay) * roots[part], np.diff(pointers)) / roots[transition.indices[span]]
        values[span] = transition.data[span] * ratios
    return sp.csr_matrix((values, transition.indices, transition.indptr), shape=transition.shape)


def _with_diagonal(rows: sp.csr_matrix, nodes: IntArray, value: np.float32) -> sp.csr_matrix:
    """Rows of some nodes of a matrix, with a value more on its diagonal; their indices in no order."""
    starts, narrow = rows.indptr[:-1], rows.indices.dtype
    indices = np.insert(rows.indices, starts, nodes.astype(narrow))
    data = np.insert(rows.data, starts, value)
    pointers = rows.indptr + np.arange(len(rows.indptr), dtype=rows.indptr.dtype)
    return sp.csr_matrix((data, indices, pointers), shape=rows.shape)


def _one_over_lengths(moving: sp.csr_matrix, stay: float) -> FloatArray:
    """`(N,)` of the rows of the lazy walk."""
    squared: FloatArray = np.float32(2 * stay) * moving.diagonal() + np.float32(stay**2)
    for part in slices(moving.shape[0], _MADE):
        rows = rows_of(moving, part)
        squared[part] += np.add.reduceat(np.square(rows.data), rows.indptr[:-1])
    inverse: FloatArray = np.reciprocal(np.sqrt(squared, out=squared), out=squared)
    return inverse
