"""Neighbours of many embeddings in a moment: shortlisted along their principal axes, with nothing to compile first."""

from __future__ import annotations

import numpy as np

from lightning_diffal.neighbors.rows import scaled_points
from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = ["projected_search"]


_AXES = 64
_SAMPLE = 10_000  # points that the axes are found from
_SPARE = 3  # times as many as are wanted are shortlisted, since the projection orders neighbours only roughly
_GROUPED = 32
_ROWS = 256  # at a time: larger blocks gain nothing more


def projected_search(features: FloatArray, n_neighbors: int, *, metric: str = "euclidean") -> tuple[IntArray, None]:
    """A shortlist of neighbours for every point: the nearest along the first 64 principal axes.

    A `backend` for `lightning_diffal.neighbors.nearest_neighbors`, which orders the shortlist by distances of its own.
    With 64 dimensions or fewer nothing is lost. The `m` smallest values of a row lie in the `m` groups of columns whose
    smallest values are the smallest, which is less to look through than all of them.

    Args:
        features: `(N, D)`.
        n_neighbors: `k`.
        metric: `"euclidean"` or `"cosine"`.

    Returns:
        `(N, min(3 k, N - 1))` indices in no order, and `None` for the distances.

    Example:
        >>> found, _ = projected_search(np.array([[0.0], [1.0], [3.0], [7.0]], np.float32), 1)
        >>> np.sort(found).tolist()
        [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    """
    import torch  # takes seconds

    points = torch.from_numpy(scaled_points(features, metric)[0])
    n_points = len(points)
    every = max(1, n_points // _SAMPLE)
    points = points - points[::every].median(dim=0).values  # a mean would follow outliers
    if points.shape[1] > _AXES:
        sample = points[::every].double()
        points = points @ torch.linalg.eigh(sample.T @ sample).eigenvectors[:, -_AXES:].float()
    width = min(_SPARE * n_neighbors, n_points - 1)
    n_groups = max(-(-n_points // _GROUPED), width)
    # |y|^2 - 2 x.y in one product; nobody is near to what fills up the last group
    norms = points.square().sum(dim=1, keepdim=True)
    left = torch.cat([-2 * points, torch.ones_like(norms)], dim=1)
    right = torch.zeros(points.shape[1] + 1, n_groups * _GROUPED)
    right[-1] = torch.inf
    right[:, :n_points] = torch.cat([points, norms], dim=1).T
    found = np.empty((n_points, width), dtype=np.int64)
    buffer = torch.empty(min(_ROWS, n_points), right.shape[1])
    for start in range(0, n_points, _ROWS):
        rows = torch.arange(start, min(start + _ROWS, n_points))
        gram = torch.mm(left[rows], right, out=buffer[: len(rows)])
        gram[rows - start, rows] = torch.inf
        grouped = gram.view(len(rows), _GROUPED, n_groups)
        best = grouped.amin(dim=1).topk(width, dim=1, largest=False, sorted=False).indices
        values = grouped.gather(2, best[:, None].expand(-1, _GROUPED, -1)).flatten(1)
        place = values.topk(width, dim=1, largest=False, sorted=False).indices
        found[start : start + len(rows)] = (place // width * n_groups + best.gather(1, place % width)).numpy()
    return found, None
