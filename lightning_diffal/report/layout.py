"""Where points lie on the map: neighbours together, everything else apart."""

from __future__ import annotations

import numpy as np

from lightning_diffal.neighbors.nearest import nearest_neighbors
from lightning_diffal.utils.aliases import FloatArray, IntArray

__all__ = ["map_layout"]

_NEIGHBOURS = 10
_REPELLED = 4  # random points that push each point away, per epoch
_STEP = 6.0
_EDGES = 20_000_000  # pulled in all epochs together, so that large maps take no longer


def map_layout(projection: FloatArray, epochs: int = 200) -> tuple[FloatArray, IntArray]:
    """Lay points out in the plane, and find their neighbours.

    Each point is pulled to its nearest neighbours and pushed from points drawn at random, with the forces of UMAP
    (McInnes, Healy and Melville, 2018, with a = b = 1), all points at once; it begins at the first two columns. The
    same projection gives the same map.

    Args:
        projection: `(n, d)`.
        epochs: how often all points move; fewer for very many points.

    Returns:
        `(n, 2)` places between 0 and 1, and `(n, k)` neighbours.

    Example:
        >>> corners = np.repeat(np.eye(3, dtype=np.float32) * 9, 20, axis=0)
        >>> places, _ = map_layout(corners + np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32))
        >>> centres = places.reshape(3, 20, 2).mean(axis=1)
        >>> bool(np.linalg.norm(centres[0] - centres[1]) > places[:20].std())
        True
    """
    n_points = len(projection)
    start = np.zeros((n_points, 2))
    start[:, : min(2, projection.shape[1])] = projection[:, :2]
    n_neighbors = min(_NEIGHBOURS, n_points - 1)
    if n_neighbors < 1:
        return np.full((n_points, 2), 0.5, dtype=np.float32), np.empty((n_points, 0), dtype=np.int64)
    neighbours, _ = nearest_neighbors(projection, n_neighbors, generator=np.random.default_rng(0))
    spread = start.std() or 1.0
    generator = np.random.default_rng(0)
    places = start / spread * 5 + generator.normal(scale=1e-3, size=start.shape)
    heads = np.repeat(np.arange(n_points), n_neighbors)
    tails = neighbours.reshape(-1)
    epochs = max(30, min(epochs, _EDGES // len(heads)))
    for epoch in range(epochs):
        rate = 1 - epoch / epochs
        ahead = places[heads] - places[tails]
        squared = (ahead**2).sum(axis=1, keepdims=True)
        pulls = np.clip(-2.0 / (1.0 + squared) * ahead, -4, 4)
        move = _summed(heads, pulls, n_points) - _summed(tails, pulls, n_points)
        push = np.zeros_like(places)
        for _ in range(_REPELLED):
            others = generator.permutation(n_points)
            away = places - places[others]
            squared = (away**2).sum(axis=1, keepdims=True)
            push += np.clip(2.0 / ((0.01 + squared) * (1.0 + squared)) * away, -4, 4)
        # as UMAP balances them: each point is pushed two and a half times for each time it is pulled
        places += rate * np.clip(_STEP * (move / (2 * n_neighbors) + 2.5 * push / _REPELLED), -4, 4)
    low, high = places.min(axis=0), places.max(axis=0)
    middle, extent = (low + high) / 2, float((high - low).max()) or 1.0
    return ((places - middle) / extent + 0.5).astype(np.float32), neighbours


def _summed(rows: IntArray, values: FloatArray, n_points: int) -> FloatArray:
    return np.stack([np.bincount(rows, values[:, column], n_points) for column in (0, 1)], axis=1)
