"""Exact neighbours: a shortlist by the Gram form, proven complete, then direct distances.

The shortlist comes from faiss where it is installed, else from blocks of numpy and torch, or from torch on a GPU. All
of them give the same neighbours. Global settings of torch's precision are neither read nor changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.neighbors.refine import nearest_of
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.numeric.threads import slices

__all__ = ["exact_search"]

_SPARE = 8  # columns shortlisted beyond k, since the Gram form orders close neighbours only roughly
_BLOCK_VALUES = 2**22  # values of a temporary matrix: 16 MiB in float32, the fastest of 2^20 to 2^25 on CPUs
_BLOCK_VALUES_GPU = 2**26
_FAISS_ROWS = 4096
_CENTRED_BY = 512  # points: any centre within the data is as good


def exact_search(
    points: FloatArray, rows: IntArray, k: int, *, device: Any = "cpu", faiss: Any = None
) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """Exact neighbours of some rows, `(R, k)`, ties by position.

    A shortlist by the Gram form in float32 is proven complete by a bound on its rounding error; the few rows where
    the proof fails (far outliers, a spread tiny beside the distance of clusters, ties) are searched in float64.

    Args:
        points: `(N, D)` of magnitudes that no square overflows.
        rows: `(R,)` positions whose neighbours are wanted.
        k: fewer than `N`.
        device: where the Gram form is computed.
        faiss: the module, for the shortlist on the CPU.

    Returns:
        indices: `(R, k)`.
        distances: `(R, k)`.

    Example:
        >>> exact_search(np.float32([[0], [1], [3]]), np.array([1]), 1)
        (array([[0]]), array([[1.]]))
    """
    width = min(len(points) - 1, k + _SPARE)
    indices, distances = np.empty((len(rows), k), np.int64), np.empty((len(rows), k))
    pending = np.arange(len(rows))
    # a median: a mean would follow outliers
    centre = np.median(points[:: max(1, len(points) // _CENTRED_BY)], axis=0)
    for dtype in (np.float32, np.float64):
        centred = points.astype(dtype, copy=False) - centre.astype(dtype)
        by_faiss = faiss is not None and dtype == np.float32 and str(device) == "cpu"
        shortlists = (
            _by_faiss(faiss, centred, rows[pending], width)
            if by_faiss
            else _by_blocks(centred, rows[pending], width, device)
        )
        proven = np.empty(len(pending), bool)
        for part, shortlist, border in shortlists:
            chunk = pending[part]
            indices[chunk], distances[chunk] = nearest_of(points, rows[chunk], shortlist, k)
            own = centred[rows[chunk]].astype(np.float64)
            norms = np.einsum("ij,ij->i", own, own)
            # |error of a squared distance| <= bound * (the squared distance + norm): Higham, "Accuracy and stability
            # of numerical algorithms", 2002, section 3.1, with |y| < 2 |x| or |x - y| >= |y| / 2
            bound = 9 * (points.shape[1] + 3) * np.finfo(dtype).eps
            limit = border - bound * (np.abs(border) + norms)
            proven[part] = (distances[chunk, -1] ** 2 <= limit) | (width == len(points) - 1)
        pending = pending[~proven]
        if not len(pending):
            break
    return indices, distances


Shortlists = Iterator[tuple[slice, IntArray, npt.NDArray[np.float64]]]
"""Of a block of rows: which, `(B, w)` positions in no order, and `(B,)` the largest squared distance among them."""


def _by_faiss(faiss: Any, centred: FloatArray, rows: IntArray, width: int) -> Shortlists:
    index = faiss.IndexFlatL2(centred.shape[1])
    index.add(np.ascontiguousarray(centred))
    for part in slices(len(rows), _FAISS_ROWS):
        squared, found = index.search(centred[rows[part]], width + 1)
        # the point itself goes; where it is not found (more than `width` others coincide with it), the last goes
        others = found != rows[part, None]
        others[others.all(axis=1), -1] = False
        shape = (len(found), width)
        yield part, found[others].reshape(shape), squared[others].reshape(shape).max(axis=1).astype(np.float64)


def _by_blocks(centred: npt.NDArray[Any], rows: IntArray, width: int, device: Any) -> Shortlists:
    import torch  # takes seconds

    n_points = len(centred)
    on_cpu = str(device) == "cpu"
    block = max(32, (_BLOCK_VALUES if on_cpu else _BLOCK_VALUES_GPU) // n_points)
    norms = np.einsum("ij,ij->i", centred, centred)
    left = np.concatenate([centred, np.ones((n_points, 1), centred.dtype)], axis=1)
    right = np.concatenate([-2 * centred, norms[:, None]], axis=1).T  # |y|^2 - 2 x.y in one product
    buffer = np.empty((min(block, len(rows)), n_points), centred.dtype)
    on_device = None if on_cpu else torch.from_numpy(np.ascontiguousarray(right)).to(device)
    for part in slices(len(rows), block):
        chunk = rows[part]
        if on_device is None:  # numpy's product knows nothing of torch's settings of precision
            gram = torch.from_numpy(np.matmul(left[chunk], right, out=buffer[: len(chunk)]))
        else:
            gram = full_precision_product(torch.from_numpy(left[chunk]).to(device), on_device)
        own = torch.arange(len(chunk), device=gram.device)
        gram[own, torch.from_numpy(chunk).to(gram.device)] = torch.inf
        found, shortlist = gram.topk(width, dim=1, largest=False, sorted=False)
        border = found.amax(dim=1).double().cpu().numpy() + norms[chunk]
        yield part, shortlist.cpu().numpy(), border


def full_precision_product(left: Any, right: Any) -> Any:
    """A product of float32 matrices that loses nothing where the device multiplies with the ten bits of TF32.

    Whoever trains may have allowed TF32 for all of torch, and a search must not change that for others, nor lose
    neighbours by it. Every factor is split into its first eleven bits and the rest, which TF32 holds without loss, or
    up to the 22nd bit.

    Args:
        left: `(B, D)` tensor; float64 is multiplied as it is.
        right: `(D, N)` tensor.

    Returns:
        `(B, N)` tensor.

    Example:
        >>> import torch
        >>> float(full_precision_product(torch.tensor([[1 + 2**-20]]), torch.tensor([[1.0]])) - 1) == 2**-20
        True
    """
    import torch

    with torch.no_grad(), torch.autocast(left.device.type, enabled=False):
        if left.dtype != torch.float32:
            return left @ right
        first_left, first_right = _first_bits(left), _first_bits(right)
        product = (left - first_left) @ first_right
        product += first_left @ (right - first_right)
        product += first_left @ first_right
        return product


def _first_bits(tensor: Any) -> Any:
    import torch

    return (tensor.view(torch.int32) & ~0x1FFF).view(torch.float32)
