"""The two searches behind `lightning_diffal.neighbors`: exact by blocks in torch, and pynndescent.

Both take points in random order, scaled to magnitudes of at most 1, and break ties by position, a random key by then.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = ["descent_search", "exact_search", "order_by_distance"]

Lists = tuple[IntArray, npt.NDArray[np.float64]]

_SPARE = 8  # columns shortlisted beyond k, since the Gram form orders close neighbours only roughly
_BLOCK_VALUES = 2**22  # values of a temporary matrix: 16 MiB in float32, the fastest of 2^20 to 2^25 on CPUs
_BLOCK_VALUES_GPU = 2**26


def exact_search(points: torch.Tensor, rows: IntArray, k: int) -> Lists:
    """Exact neighbours of some rows, `(R, k)`.

    A shortlist by the Gram form in float32 is proven complete by a bound on its rounding error; the few rows where
    the proof fails (far outliers, a spread tiny beside the distance of clusters, ties) are searched in float64.
    """
    pending = torch.from_numpy(rows).to(points.device)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # TF32 loses neighbours
    try:
        with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
            indices, distances, proven = _shortlisted(points, pending, k, torch.float32)
            if not proven.all():
                again = ~proven
                indices[again], distances[again], _ = _shortlisted(points, pending[again], k, torch.float64)
    finally:
        torch.set_float32_matmul_precision(precision)
    return indices.cpu().numpy(), distances.cpu().numpy()


def descent_search(points: FloatArray, k: int, generator: np.random.Generator) -> Lists:
    """Approximate neighbours of all points, `(N, k)`, seeded by the generator."""
    from pynndescent import NNDescent  # importing it costs seconds

    seed = int(generator.integers(2**31))
    index = NNDescent(points, metric="euclidean", n_neighbors=min(k + 1, len(points)), random_state=seed)
    return order_by_distance(points, np.asarray(index.neighbor_graph[0], np.int64), k)


def order_by_distance(points: FloatArray, found: IntArray, k: int) -> Lists:
    """Order found neighbours by direct distances; rows with too few (-1 marks a gap) are searched exactly."""
    tensor = torch.from_numpy(points)
    n_points, width = found.shape
    indices, distances = np.empty((n_points, k), np.int64), np.empty((n_points, k))
    block = max(1, _BLOCK_VALUES // (width * max(1, points.shape[1])))
    for start in range(0, n_points, block):
        rows = torch.arange(start, min(start + block, n_points))
        lists = torch.from_numpy(found[start : start + block])
        exact = _direct(tensor[rows], tensor[lists.clamp_min(0)])
        exact[(lists < 0) | (lists == rows[:, None])] = torch.inf
        closest = _closest(exact, lists, k)
        indices[start : start + block], distances[start : start + block] = closest[0].numpy(), closest[1].numpy()
    short = np.flatnonzero(~np.isfinite(distances).all(axis=1))
    if len(short):
        indices[short], distances[short] = exact_search(tensor, short, k)
    return indices, distances


def _shortlisted(
    points: torch.Tensor, rows: torch.Tensor, k: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`(R, k)` neighbours out of a shortlist by Gram form in `dtype`, and `(R,)` whether it is proven complete."""
    n_points, n_dimensions = points.shape
    width = min(n_points - 1, k + _SPARE)
    values = _BLOCK_VALUES if points.device.type == "cpu" else _BLOCK_VALUES_GPU
    block = max(32, values // max(n_points, width * n_dimensions))
    centre = points[:: max(1, n_points // 4096)].median(dim=0).values  # a mean would follow outliers
    centred = points.to(dtype) - centre.to(dtype)
    norms = centred.square().sum(dim=1)
    left = torch.cat([centred, torch.ones_like(norms)[:, None]], dim=1)
    right = torch.cat([-2 * centred, norms[:, None]], dim=1).T
    # |error of a squared distance| <= bound * (the squared distance + norm): Higham, "Accuracy and stability of
    # numerical algorithms", 2002, section 3.1, with |y| < 2 |x| or |x - y| >= |y| / 2
    bound = 9 * (n_dimensions + 3) * torch.finfo(dtype).eps
    # what is kept is allocated before what is not: freed blocks between kept ones cost gigabytes otherwise
    indices = torch.empty((len(rows), k), dtype=torch.int64, device=rows.device)
    distances = torch.empty((len(rows), k), dtype=torch.float64, device=rows.device)
    proven = torch.empty(len(rows), dtype=torch.bool, device=rows.device)
    product = torch.empty((min(block, len(rows)), n_points), dtype=dtype, device=rows.device)
    for start in range(0, len(rows), block):
        chunk = rows[start : start + block]
        part = slice(start, start + len(chunk))
        gram = torch.mm(left[chunk], right, out=product[: len(chunk)])  # |y|^2 - 2 x.y in one product
        gram[torch.arange(len(chunk), device=rows.device), chunk] = torch.inf
        found, shortlist = gram.topk(width, dim=1, largest=False, sorted=False)
        indices[part], distances[part] = _closest(_direct(points[chunk], points[shortlist]), shortlist, k)
        border = (found.amax(dim=1) + norms[chunk]).double()
        limit = border - bound * (border.abs() + norms[chunk])
        proven[part] = (distances[part, -1].square() <= limit) | (width == n_points - 1)
    return indices, distances, proven


def _direct(rows: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """`(B, D)`, `(B, M, D)` -> `(B, M)` float64 distances."""
    distances: torch.Tensor = torch.linalg.vector_norm(rows[:, None] - others, dim=-1, dtype=torch.float64)
    return distances


def _closest(distances: torch.Tensor, indices: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `k` smallest of each row by (distance, index): indices are random keys here."""
    indices, order = indices.sort(dim=1)
    distances, closest = distances.gather(1, order).sort(dim=1, stable=True)
    return indices.gather(1, closest)[:, :k], distances[:, :k]
